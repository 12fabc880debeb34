"""Norms of the gradients of single micro-batches, taken as they reach the parameters and before they are added up."""

from __future__ import annotations

from functools import partial
from math import hypot
from typing import TYPE_CHECKING

import torch

from carpool.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

# Squares of these overflow, or lose what they are summed from.
_SHORT = (torch.float16, torch.bfloat16)


class GradientNorms:
    """Takes the norm of each parameter's gradient in a hook, and keeps that number alone.

    A hook of a parameter runs once for each backward pass, with this pass's own gradient: before it is added to what is
    there, and before data parallelism averages it over ranks. Nothing is copied.

    Args:
        model: whose parameters are watched, those that require a gradient when `watch` is called.
        optimizer: whose parameters are watched instead, where they are others.

    >>> model = torch.nn.Linear(2, 1, bias=False)
    >>> norms = GradientNorms(model)
    >>> norms.watch()
    >>> for x in ([3.0, 4.0], [6.0, 8.0]):
    ...     model(torch.tensor([x])).sum().backward()
    ...     print(float(norms.take()))
    25.0
    100.0
    """

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> None:
        named = _named(model, optimizer)
        self._parameters = list(named)
        self._names = list(named.values())
        self._hooks: dict[int, torch.utils.hooks.RemovableHandle] = {}
        self._seen: dict[int, torch.Tensor] = {}
        self._twice: int | None = None
        self._watching = False

    def watch(self) -> None:
        """Take norms from now on."""
        for index, parameter in enumerate(self._parameters):
            if parameter.requires_grad and index not in self._hooks:
                self._hooks[index] = parameter.register_hook(partial(self._see, index))  # type: ignore[no-untyped-call]
        self._forget()
        self._watching = True

    def rest(self) -> None:
        """Take no norms until `watch` is called: what happens between windows does not count."""
        self._forget()
        self._watching = False

    def close(self) -> None:
        """Take the hooks off the parameters."""
        for hook in self._hooks.values():
            hook.remove()
        self._hooks.clear()
        self.rest()

    def added_up(self) -> float:
        """Return the norm of what the parameters' gradients have added up to."""
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        return hypot(*(float(_norm(gradient)) for gradient in gradients))

    def take(self, index: int = 0) -> torch.Tensor:
        """Return the squared norm of all gradients since the last call, a scalar, and forget them.

        It lies on a device, so that nobody waits for it.

        Args:
            index: of the micro-batch that they are of, to name it.

        Raises:
            ConfigError: no parameter was given a gradient, or one was given several.
        """
        twice, self._twice = self._twice, None
        if twice is not None:
            raise ConfigError(
                f"{self._names[twice]!r} was given its gradient in parts within micro-batch {index}, whose sum alone "
                "nobody sees: call backward once for a micro-batch, and checkpoint with use_reentrant=False"
            )
        if not self._seen:
            raise ConfigError(
                f"no parameter was seen to be given a gradient by micro-batch {index}: where parameters are sharded "
                "(FSDP) they are given theirs in another way, and without a backward pass there is none; train without "
                "NoiseScale there"
            )
        norms: dict[torch.device, list[torch.Tensor]] = {}
        for norm in self._seen.values():
            norms.setdefault(norm.device, []).append(norm)
        self._seen.clear()
        first, *others = (torch.linalg.vector_norm(torch.stack(group)).square() for group in norms.values())
        total: torch.Tensor = sum((other.to(first.device) for other in others), start=first)
        return total

    def _forget(self) -> None:
        self._seen.clear()
        self._twice = None

    def _see(self, index: int, gradient: torch.Tensor) -> None:
        if not self._watching:
            return
        if index in self._seen:
            self._twice = index  # to be told by `take`: nobody's backward pass fails for it
        self._seen[index] = _norm(gradient.detach())


def _norm(gradient: torch.Tensor) -> torch.Tensor:
    values = gradient.coalesce().values() if gradient.is_sparse else gradient
    norm: torch.Tensor = torch.linalg.vector_norm(values, dtype=torch.float32 if values.dtype in _SHORT else None)
    return norm


def _named(model: nn.Module, optimizer: torch.optim.Optimizer | None) -> dict[nn.Parameter, str]:
    """The parameters to watch, and what they are called."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    if optimizer is None:
        return names
    own = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return {parameter: names.get(parameter, f"parameter {at} of the optimiser") for at, parameter in enumerate(own)}
