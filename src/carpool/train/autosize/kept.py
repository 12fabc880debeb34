"""A training setup as it was: kept in the host's memory while probes train it, and put back."""

from __future__ import annotations

import copy
import random
import sys
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from torch import nn

    from carpool.train.setup import TrainSetup

    Restore = Callable[[], Any]

_PLAIN = (bool, int, float, str, type(None))


class Kept:
    """Remembers all that training changes, and puts it back into the very same objects.

    That is: parameters, buffers and gradients; numbers and texts in modules' attributes, the training mode included;
    the optimiser's state, options and counters; the random numbers of Python, NumPy, PyTorch and the accelerator.
    What a model keeps in lists or dictionaries of its own is not looked into.

    Args:
        setup: what training consists of.
    """

    def __init__(self, setup: TrainSetup) -> None:
        self._restores = [*_modules(setup.model), *_gradients(setup.model), *_optimizer(setup.optimizer), *_chance()]

    def restore(self) -> None:
        """Put everything back."""
        with torch.no_grad():
            for restore in self._restores:
                restore()


def keep(value: Any) -> Restore:
    """Return a function that gives a value as it is now: tensors are the same objects, with the same contents.

    Args:
        value: a tensor, or containers of tensors and of other values.

    >>> weights = torch.tensor([1.0, 2.0])
    >>> back = keep({"weights": weights})
    >>> _ = weights.mul_(0.0)
    >>> back()
    {'weights': tensor([1., 2.])}
    """
    if isinstance(value, torch.Tensor):
        return _keep_tensor(value)
    if isinstance(value, dict):
        pairs = [(name, keep(one)) for name, one in value.items()]
        return lambda: {name: back() for name, back in pairs}
    if type(value) in {list, tuple}:
        kind, backs = type(value), [keep(one) for one in value]
        return lambda: kind(back() for back in backs)
    kept = copy.deepcopy(value)
    return lambda: copy.deepcopy(kept)


def _keep_tensor(tensor: torch.Tensor) -> Restore:
    contents = tensor.detach().to("cpu", copy=True)
    return lambda: tensor.data.copy_(contents) if tensor.requires_grad else tensor.copy_(contents)


def _modules(model: nn.Module) -> Iterator[Restore]:
    seen: set[int] = set()
    for module in model.modules():
        for held in (module._parameters, module._buffers):  # noqa: SLF001 - as they are, whoever shares them
            yield _same_entries(held)
            new = [tensor for tensor in held.values() if tensor is not None and id(tensor) not in seen]
            seen.update(map(id, new))
            yield from map(_keep_tensor, new)
        yield _plain_attributes(module)


def _same_entries(held: dict[str, Any]) -> Restore:
    """Put back the objects themselves, where a model puts new ones in their place."""
    entries = dict(held)

    def restore() -> None:
        held.clear()
        held.update(entries)

    return restore


def _plain_attributes(owner: object) -> Restore:
    attributes = _plain(owner)

    def restore() -> None:
        for name in _plain(owner).keys() - attributes.keys():
            del vars(owner)[name]
        vars(owner).update(attributes)

    return restore


def _plain(owner: object) -> dict[str, Any]:
    return {name: value for name, value in vars(owner).items() if isinstance(value, _PLAIN)}


def _gradients(model: nn.Module) -> Iterator[Restore]:
    for parameter in model.parameters():
        gradient = parameter.grad
        back = (lambda: None) if gradient is None else _keep_tensor(gradient)

        def restore(
            parameter: nn.Parameter = parameter, gradient: torch.Tensor | None = gradient, back: Restore = back
        ) -> None:
            back()
            parameter.grad = gradient

        yield restore


def _optimizer(optimizer: torch.optim.Optimizer) -> Iterator[Restore]:
    state, backs = optimizer.state, [(parameter, keep(held)) for parameter, held in optimizer.state.items()]

    def restore_state() -> None:
        state.clear()
        state.update((parameter, back()) for parameter, back in backs)

    yield restore_state
    yield _plain_attributes(optimizer)
    for group in optimizer.param_groups:
        options = {name: keep(value) for name, value in group.items() if name != "params"}
        yield _options(group, options)


def _options(group: dict[str, Any], options: dict[str, Restore]) -> Restore:
    def restore() -> None:
        parameters = group["params"]
        group.clear()
        group.update(params=parameters, **{name: back() for name, back in options.items()})

    return restore


def _chance() -> Iterator[Restore]:
    """Keep the state of every generator of random numbers that training draws from."""
    python = random.getstate()
    yield lambda: random.setstate(python)
    host = torch.get_rng_state()
    yield lambda: torch.set_rng_state(host)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        legacy = numpy.random.get_state()
        yield lambda: numpy.random.set_state(legacy)
    if torch.accelerator.is_available():
        yield _device_chance(torch.get_device_module(torch.accelerator.current_accelerator()))


def _device_chance(device: Any) -> Restore:
    if hasattr(device, "get_rng_state_all"):
        states = device.get_rng_state_all()
        return lambda: device.set_rng_state_all(states)
    state = device.get_rng_state()
    return lambda: device.set_rng_state(state)


class KeptLoaders:
    """Makes a setup's loaders, and puts back what drawing from them moves on.

    A loader that is made anew for each call has nothing to put back, but what it shares with others has: the generator
    of a sampler, and the position of a loader that is the same each time.

    Args:
        make: the setup's own function.
    """

    def __init__(self, make: Callable[[int], Iterable[Any]]) -> None:
        self._make = make
        self._restores: dict[int, tuple[object, Restore]] = {}

    def __call__(self, micro_batch_size: int) -> Iterable[Any]:
        """Make a loader.

        Args:
            micro_batch_size: items of each micro-batch.
        """
        loader = self._make(micro_batch_size)
        for part in _parts_of(loader):
            if id(part) not in self._restores:
                self._restores[id(part)] = (part, _position(part))  # holding it keeps its number from being used again
        return loader

    def restore(self) -> None:
        """Put all loaders back to where they were."""
        for _, restore in self._restores.values():
            restore()
        self._restores.clear()


def _parts_of(loader: object) -> Iterator[object]:
    """The loader, its samplers, and their generators of random numbers."""
    names = ("generator", "sampler", "batch_sampler")
    waiting, seen = [loader], set[int]()
    while waiting:
        part = waiting.pop()
        if part is None or id(part) in seen:
            continue
        seen.add(id(part))
        yield part
        waiting += [getattr(part, name, None) for name in names]


def _position(part: Any) -> Restore:
    if isinstance(part, torch.Generator):
        state = part.get_state()
        return lambda: part.set_state(state)
    if hasattr(part, "state_dict") and hasattr(part, "load_state_dict"):
        position = copy.deepcopy(part.state_dict())
        return lambda: part.load_state_dict(position)
    epoch = getattr(part, "epoch", None)
    return (lambda: None) if epoch is None else lambda: setattr(part, "epoch", epoch)
