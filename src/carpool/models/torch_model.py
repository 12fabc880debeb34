"""An `nn.Module`: items stacked along the first axis, outputs split along it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from carpool.errors import InvalidItem, ModelError
from carpool.models.blame import calling
from carpool.models.function import require_no_arguments
from carpool.models.hooks import Hooks
from carpool.models.model import Admitted, Model, ModelInfo, Results, Stages
from carpool.models.split import split_items
from carpool.models.threads import ThreadCount
from carpool.models.torch_device import resolve_device, resolve_dtype
from carpool.models.torch_tree import leaf, map_leaves, shapes, side_by_side, stack, to_device, to_numpy


@dataclass(frozen=True, slots=True)
class _Batch:
    """Stacked inputs or outputs, with the number of items that they belong to."""

    tree: Any
    num_items: int


class TorchModel(Model):
    """A PyTorch module in evaluation mode.

    An item is a tensor, an array or a list of numbers; a tuple of those is given as several arguments, and
    a dict as keyword arguments. The module sees each with a new first axis. Floating-point inputs take the type of
    the module's weights.

    Args:
        module: a module, or a class of modules without required arguments; it may have `check(item)`,
            `length(item)` and `examples`, and say `ragged = True` where it takes lists of tensors of different shapes.
        name: a short name.
        target: how to name it in messages.
        device: where to compute; None leaves a module where it is, and gives a class the accelerator, if any.
        dtype: the type of the weights; None leaves it as it is.
        num_threads: PyTorch's threads on the CPU; None leaves its choice.

    Raises:
        TargetError: the class's constructor needs arguments.
        ConfigError: the device or dtype is not to be had.
    """

    def __init__(
        self,
        module: nn.Module | type[nn.Module],
        *,
        name: str,
        target: str | None = None,
        device: str | None = None,
        dtype: str | None = None,
        num_threads: int | None = None,
    ) -> None:
        self._target = target or name
        self._made_by = module if isinstance(module, type) else None
        self._module: nn.Module | None = None if isinstance(module, type) else module
        if isinstance(module, type):
            require_no_arguments(module, self._target)
        self._device = _place(self._module) if device is None and self._module is not None else resolve_device(device)
        self._asked_dtype = None if dtype in (None, "auto") else resolve_dtype(dtype, self._device)
        self._threads = ThreadCount(num_threads)
        self._hooks = Hooks(module, self._target)
        self._item_shapes: Any = None
        self._is_loaded = False
        self._stages = Stages(self._prepare, self._to_device, self._compute, self._to_host, self._finish)
        self._info = ModelInfo(
            name=name,
            kind="torch",
            target=self._target,
            device=str(self._device),
            num_threads=num_threads,
            batching="packed" if self._hooks.ragged else "",
        )

    @property
    def info(self) -> ModelInfo:
        """What this model is; its parameters are counted once it is loaded."""
        return self._info

    @property
    def has_length(self) -> bool:
        """Whether the module has a function `length`."""
        return self._hooks.has_length

    @property
    def stages(self) -> Stages:
        """Stack, transfer, the module, and back."""
        return self._stages

    @property
    def concurrent(self) -> bool:
        """In evaluation mode a module changes nothing of its own, unless it says `concurrent = False`."""
        return bool(getattr(self._module or self._made_by, "concurrent", True))

    def load(self) -> None:
        """Make the module where the target is a class, and put it on its device in evaluation mode.

        Raises:
            ModelError: the constructor, or the module's own `examples`, raised.
        """
        if self._is_loaded:
            return
        self._threads.apply()
        made_by = self._made_by
        module = calling(f"{self._target}()", made_by) if made_by is not None else self._module
        assert module is not None, "there is a module or a class of modules"
        self._module = module.eval().to(device=self._device, dtype=self._asked_dtype)
        self._hooks = Hooks(self._module, self._target)
        self._dtype = _weights_dtype(module)
        self._item_shapes = self._shapes_of_examples()
        self._info = self._described(module)
        self._is_loaded = True

    def _shapes_of_examples(self) -> Any:
        """The shape that every item must have, where the module's examples agree on one; else None."""
        if not self._hooks.has_examples or self._hooks.has_length:
            return None
        found = [shapes(map_leaves(leaf, item)) for item in self._hooks.examples(2)]
        return found[0] if all(shape == found[0] for shape in found) else None

    def _described(self, module: nn.Module) -> ModelInfo:
        parameters = list(module.parameters())
        return replace(
            self._info,
            dtype=str(self._dtype or "").removeprefix("torch."),
            num_parameters=sum(p.numel() for p in parameters),
            parameter_bytes=sum(p.numel() * p.element_size() for p in parameters),
        )

    def admit(self, item: object) -> Admitted:
        """Check one item: by the module's own `check`, and against the shape of its `examples`.

        Raises:
            InvalidItem: `check` raised, it is not made of numbers, or its shape is not that of the examples.
        """
        self._hooks.check(item)
        payload = map_leaves(leaf, item) if isinstance(item, dict | tuple) else leaf(item)
        if self._item_shapes is not None and shapes(payload) != self._item_shapes:
            expected = f"{self._target} takes {self._item_shapes}, as its examples have"
            raise InvalidItem(f"an item of shape {shapes(payload)} was sent; {expected}")
        return Admitted(payload, self._hooks.length(item))

    def run(self, payloads: Sequence[Any]) -> Results:
        """Run the module on a batch.

        Args:
            payloads: admitted items of equal shape.

        Returns:
            One array (B, ...), or a list with a tuple or dict of arrays an item.

        Raises:
            InvalidItem: the items' shapes differ.
            ModelError: the output's first axis is not the batch's.
        """
        self._threads.apply()
        return self._stages.run(payloads)

    def _prepare(self, payloads: Sequence[Any]) -> _Batch:
        return _Batch(side_by_side(payloads) if self.ragged else stack(payloads), len(payloads))

    def _to_device(self, batch: _Batch) -> _Batch:
        return _Batch(map_leaves(self._moved, batch.tree), batch.num_items)

    def _moved(self, tensor: Any) -> Any:
        if isinstance(tensor, list):
            return [self._moved(each) for each in tensor]
        return to_device(tensor, self._device, self._dtype if tensor.is_floating_point() else None)

    @torch.inference_mode()
    def _compute(self, batch: _Batch) -> _Batch:
        assert self._module is not None, "load() comes before run()"
        if isinstance(batch.tree, dict):
            return _Batch(self._module(**batch.tree), batch.num_items)
        if isinstance(batch.tree, tuple):
            return _Batch(self._module(*batch.tree), batch.num_items)
        return _Batch(self._module(batch.tree), batch.num_items)

    def _to_host(self, batch: _Batch) -> _Batch:
        return _Batch(map_leaves(self._on_host, batch.tree), batch.num_items)

    def _on_host(self, value: Any) -> Any:
        if isinstance(value, list):
            return map_leaves(self._on_host, tuple(value))
        if not isinstance(value, torch.Tensor):
            raise ModelError(f"{self._target} returned {type(value).__name__} in its output; it must return tensors")
        return to_numpy(value)

    def _finish(self, batch: _Batch) -> Results:
        return split_items(batch.tree, batch.num_items, self._target)

    def examples(self, num_items: int, *, length: int | None = None, seed: int = 0) -> list[Any]:
        """Items from the module's own `examples`.

        Raises:
            ConfigError: it has none, or none of that length.
        """
        return self._hooks.examples(num_items, length=length, seed=seed)


def _place(module: nn.Module | None) -> torch.device:
    """The device that a module's weights are on; the CPU for one without weights."""
    parameter = next(module.parameters(), None) if module is not None else None
    return torch.device("cpu") if parameter is None else parameter.device


def _weights_dtype(module: nn.Module) -> torch.dtype | None:
    return next((p.dtype for p in module.parameters() if p.is_floating_point()), None)
