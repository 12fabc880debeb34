"""Tensors, tuples and dicts of them: stacked, moved, and split back into one value an item."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from carpool.errors import InvalidItem


def to_numpy(tensor: torch.Tensor) -> NDArray[np.generic]:
    """The values of a tensor on the host; bfloat16, which numpy lacks, becomes float32.

    Args:
        tensor: any shape, on any device.
    """
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.float()
    array: NDArray[np.generic] = tensor.detach().cpu().numpy()
    return array


def to_device(tensor: torch.Tensor, device: torch.device, dtype: torch.dtype | None = None) -> torch.Tensor:
    """Copy a tensor to a device; to a CUDA device from pinned memory, so that the copy needs no waiting for.

    What is computed from it on the same stream waits for the copy by itself.

    Args:
        tensor: any shape, anywhere.
        device: where to.
        dtype: the type there; None keeps it.
    """
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, dtype, non_blocking=True)
    return tensor.to(device, dtype)


def map_leaves(function: Callable[[Any], Any], tree: Any) -> Any:
    """Apply a function to every leaf of nested tuples and dicts; a dict's kind is not kept.

    Args:
        function: of one leaf.
        tree: such as ``{"ids": tensor}`` or ``(tensor, tensor)``.
    """
    if isinstance(tree, Mapping):
        return {key: map_leaves(function, value) for key, value in tree.items()}
    if isinstance(tree, tuple):
        return tuple(map_leaves(function, value) for value in tree)
    return function(tree)


def leaf(item: Any) -> Any:
    """One input of an item: a tensor as it is, and everything else as an array.

    PyTorch is not called on it: admission runs on the callers' threads, and each thread that computes
    with PyTorch takes a pool of threads of its own.

    Raises:
        InvalidItem: it is not made of numbers, or its rows differ in length.
    """
    if isinstance(item, torch.Tensor):
        return item
    try:
        array = np.asarray(item)
    except ValueError as error:
        raise InvalidItem(f"an input's rows differ in length, so that it is no array: {error}") from error
    if array.dtype.kind not in "bifu":
        raise InvalidItem(f"an input must be a tensor, an array or a list of numbers, not {_kind(item, array)}")
    return array


def _kind(item: Any, array: NDArray[Any]) -> str:
    return f"{type(item).__name__} of {array.dtype}" if isinstance(item, list | np.ndarray) else type(item).__name__


def shapes(item: Any) -> Any:
    """The shape of every leaf, in the item's own structure.

    Args:
        item: an admitted item.
    """
    return map_leaves(lambda value: tuple(value.shape), item)


def stack(items: Sequence[Any]) -> Any:
    """Put items of equal shape side by side along a new first axis.

    Args:
        items: admitted items, at least one.

    Returns:
        The items' structure, with tensors of (B, ...) on the host.

    Raises:
        InvalidItem: their shapes differ.
    """
    expected = shapes(items[0])
    for item in items:
        if shapes(item) != expected:
            remedy = "bring items to one shape first: resize or pad them, and refuse others in a function `check`"
            raise InvalidItem(f"items of the shapes {expected} and {shapes(item)} can't share a batch; {remedy}")
    return _stacked(items)


def side_by_side(items: Sequence[Any]) -> Any:
    """Put items of any shapes beside each other, unpadded.

    Args:
        items: admitted items, at least one.

    Returns:
        The items' structure, with lists of tensors on the host.
    """
    first = items[0]
    if isinstance(first, dict):
        return {key: side_by_side([item[key] for item in items]) for key in first}
    if isinstance(first, tuple):
        return tuple(side_by_side([item[i] for item in items]) for i in range(len(first)))
    return [torch.as_tensor(item) for item in items]


def _stacked(items: Sequence[Any]) -> Any:
    first = items[0]
    if isinstance(first, dict):
        return {key: _stacked([item[key] for item in items]) for key in first}
    if isinstance(first, tuple):
        return tuple(_stacked([item[i] for item in items]) for i in range(len(first)))
    if isinstance(first, torch.Tensor):
        return torch.stack([torch.as_tensor(item) for item in items])
    return torch.from_numpy(np.stack([np.asarray(item) for item in items]))
