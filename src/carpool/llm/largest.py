"""The largest of many numbers without sorting them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

BLOCK = 64


def block_maxima(rows: torch.Tensor) -> torch.Tensor:
    """Give the largest of each 64 neighbours in each row, which is quick, and leaves few places to look at.

    Args:
        rows: (n, V).

    Returns:
        (n, ceil(V / 64)).
    """
    import torch

    whole = rows.shape[1] // BLOCK * BLOCK
    maxima = rows[:, :whole].view(len(rows), whole // BLOCK, BLOCK).amax(-1)
    if whole == rows.shape[1]:
        return maxima
    return torch.cat([maxima, rows[:, whole:].amax(-1, keepdim=True)], dim=1)


def at_least_kth(row: NDArray[Any], maxima: NDArray[Any], num: int) -> NDArray[np.int64]:
    """Give the places of the `num` largest numbers of a row, and of those level with the last of them, rising.

    Args:
        row: (V,).
        maxima: its block maxima: the k-th largest of them is no larger than the k-th largest of the row.
        num: how many, at least one.
    """
    if num >= len(row):
        return np.arange(len(row))
    places = np.flatnonzero(row >= _kth(maxima, num)) if num <= len(maxima) else np.arange(len(row))
    numbers = row[places]
    found: NDArray[np.int64] = places[numbers >= _kth(numbers, num)]
    return found


def largest(row: NDArray[Any], maxima: NDArray[Any], num: int) -> NDArray[np.int64]:
    """Give the places of the `num` largest numbers of a row, largest first, level ones by place.

    Args:
        row: (V,).
        maxima: its block maxima.
        num: how many; all of them where the row is shorter.
    """
    if num == 1:
        return np.array([row.argmax()])
    places = at_least_kth(row, maxima, num) if num else np.arange(0)
    return places[np.argsort(-row[places], kind="stable")][:num]


def _kth(numbers: NDArray[Any], num: int) -> Any:
    return np.partition(numbers, len(numbers) - num)[len(numbers) - num]
