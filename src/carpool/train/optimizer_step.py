"""The end of a window: its gradient is unscaled, clipped and taken to the optimiser, each once."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from numbers import Real
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from carpool.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerStep:
    """What takes a step once the gradients of a window are complete.

    Args:
        optimizer: to step.
        scheduler: of its learning rate, stepped with it; None for none.
        scaler: of mixed precision; None for none.
        max_norm: the Euclidean norm that the gradient is clipped to; None leaves it.

    Raises:
        ConfigError: the parts cannot work so.
    """

    optimizer: torch.optim.Optimizer
    scheduler: LRScheduler | None = None
    scaler: torch.amp.GradScaler | None = None
    max_norm: float | None = None

    def __post_init__(self) -> None:
        if isinstance(self.optimizer, torch.optim.LBFGS):
            raise ConfigError("LBFGS computes the loss several times in a step: give an optimiser that takes gradients")
        if isinstance(self.scheduler, ReduceLROnPlateau):
            raise ConfigError(
                "ReduceLROnPlateau wants a measured loss: step it where that is measured, not by the window"
            )
        if self._scales() and any(parameter.dtype is torch.float16 for parameter in self.parameters()):
            raise ConfigError(
                "the optimiser has float16 parameters, whose gradients cannot be unscaled: keep the parameters in "
                "float32 and compute under torch.autocast"
            )

    def parameters(self) -> list[nn.Parameter]:
        """Those that the optimiser has, each once."""
        return list({id(one): one for group in self.optimizer.param_groups for one in group["params"]}.values())

    def scale(self) -> float:
        """The factor of mixed precision that the window's losses are multiplied with; 1 without."""
        return float(self.scaler.get_scale()) if self.scaler is not None else 1.0

    def scaled(self, loss: torch.Tensor) -> torch.Tensor:
        """A loss times that factor.

        Args:
            loss: a scalar.
        """
        return loss if self.scaler is None else self.scaler.scale(loss)

    def gradient_norm(self) -> torch.Tensor:
        """Take the factor out of the gradients, and return their Euclidean norm.

        Raises:
            ConfigError: there is no gradient.
        """
        gradients = [one.grad for one in self.parameters() if one.grad is not None]
        if not gradients:
            raise ConfigError(
                "none of the optimiser's parameters got a gradient: make the loss depend on them, and the optimiser "
                "after the model was moved, wrapped or sharded"
            )
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
        return _norm(gradients)

    def long_norm(self) -> torch.Tensor:
        """Return the norm of unscaled gradients, summed up in 64 bits: in 32, squares end at numbers of 1.8e19."""
        gradients = [one.grad for one in self.parameters() if one.grad is not None]
        if any(one.device.type == "mps" for one in gradients):  # has no such numbers
            return _norm(gradients)
        return get_total_norm([torch.linalg.vector_norm(one, dtype=torch.float64) for one in _values(gradients)])

    def take(self, norm: torch.Tensor) -> None:
        """Clip the gradients, and take the step.

        Args:
            norm: of the gradients.
        """
        if self.max_norm is not None:
            clip_grads_with_norm_(self.parameters(), self.max_norm, norm)
        if self.scaler is None:
            self.optimizer.step()
        else:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        if self.scheduler is not None:
            self.scheduler.step()

    def skip(self) -> None:
        """Take no step because the gradients are not finite on some rank; the factor of mixed precision is lowered.

        It is lowered here rather than left to the scaler, which knows of this rank's gradients only.
        """
        if self.scaler is None or not self._scales():
            return
        lowered: dict[str, Any] = self.scaler.state_dict()
        lowered["scale"] *= lowered["backoff_factor"]
        lowered["_growth_tracker"] = 0
        self.scaler.update()  # forgets that it unscaled
        self.scaler.load_state_dict(lowered)

    def forget(self) -> None:
        """Forget that the gradients were unscaled, where no step came of them; the factor of mixed precision stays."""
        if self.scaler is not None and self._scales():
            self.scaler.update(new_scale=self.scaler.get_scale())

    def clear(self) -> None:
        """Drop the gradients."""
        self.optimizer.zero_grad(set_to_none=True)

    def _scales(self) -> bool:
        return self.scaler is not None and self.scaler.is_enabled()


def read_max_norm(max_norm: Any) -> float | None:
    """Return a norm to clip to as Python's own number.

    Args:
        max_norm: a number, maybe of numpy or in a tensor of no dimension; None not to clip.

    Raises:
        ConfigError: it is none, or not above 0 and finite.
    """
    if max_norm is None:
        return None
    value = max_norm.item() if getattr(max_norm, "ndim", None) == 0 else max_norm
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not is_number or not 0 < float(value) < inf:
        raise ConfigError(f"max_norm is {max_norm!r}; it must be above 0 and finite, or None not to clip")
    return float(value)


def _norm(gradients: list[torch.Tensor]) -> torch.Tensor:
    values = _values(gradients)
    short = [one for one in values if one.dtype in {torch.float16, torch.bfloat16}]
    if not short:
        return get_total_norm(values)
    # 16 bits end at 65,504, or have 3 digits: each is summed up in 32, without a copy of it
    norms = [torch.linalg.vector_norm(one, dtype=torch.float32) for one in short]
    full = [one for one in values if one.dtype not in {torch.float16, torch.bfloat16}]
    return get_total_norm([*norms, get_total_norm(full)] if full else norms)


def _values(gradients: list[torch.Tensor]) -> list[torch.Tensor]:
    return [gradient.coalesce().values() if gradient.is_sparse else gradient for gradient in gradients]
