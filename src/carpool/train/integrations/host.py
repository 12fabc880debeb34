"""Windows of a loop that is not ours, followed from outside."""

from __future__ import annotations

from math import fsum, isfinite
from typing import TYPE_CHECKING

import torch
from torch.nn.utils import get_total_norm

from carpool.errors import ConfigError
from carpool.train.noise.estimate import NoiseAverages, WindowNorms
from carpool.train.noise.norms import GradientNorms
from carpool.train.ranks import Ranks

if TYPE_CHECKING:
    from torch import nn

    from carpool.train.batch_plan import BatchPlan

_FEWEST = 2  # micro-batches of which a window can tell how they scatter


def equal_micro_batches(plan: BatchPlan) -> tuple[int, int]:
    """Cut a plan's effective batch into micro-batches of one size, as loops want it whose loader has a batch size.

    Args:
        plan: its micro-batch is the most items of one pass.

    Returns:
        The items of a micro-batch, and how many of them a rank has in a window.

    Raises:
        ConfigError: the ranks cannot have equal shares.

    >>> from carpool.train import BatchPlan
    >>> equal_micro_batches(BatchPlan(effective_batch_size=1000, micro_batch_size=96))
    (50, 20)
    """
    mine, left = divmod(plan.effective_batch_size, plan.num_ranks)
    if left:
        fewer = plan.effective_batch_size - left
        raise ConfigError(
            f"effective_batch_size is {plan.effective_batch_size}, which {plan.num_ranks} ranks cannot share equally, "
            f"as this loop wants it: use {fewer} or {fewer + plan.num_ranks}"
        )
    size = max(size for size in range(1, min(mine, plan.micro_batch_size) + 1) if mine % size == 0)
    return size, mine // size


class HostWindow:
    """The window that a host's loop is in: its valid items, and the norms of its micro-batches' gradients.

    Args:
        model: that is trained, without what wraps it.
        num_ranks: processes that average their gradients.
        averages: take in what each window says of the noise scale.
    """

    def __init__(self, model: nn.Module, *, num_ranks: int, averages: NoiseAverages) -> None:
        first = next(model.parameters(), None)
        self._norms = GradientNorms(model)
        self._ranks = Ranks(num_ranks, None, torch.device("cpu") if first is None else first.device)
        self._averages = averages
        self._sizes: list[int] = []
        self._squares: list[torch.Tensor] = []

    @property
    def num_micro_batches(self) -> int:
        """Of this rank, whose backward pass is over."""
        return len(self._sizes)

    def begin(self) -> None:
        """Begin a window: its first micro-batch is next."""
        self._sizes, self._squares = [], []
        self._norms.watch()

    def add(self, num_valid: int) -> None:
        """Take in a micro-batch whose backward pass is over.

        Args:
            num_valid: valid items of it.
        """
        squares = self._norms.take(len(self._sizes))
        self._sizes.append(num_valid)
        if num_valid:
            self._squares.append(squares / num_valid)

    def num_valid(self) -> int:
        """Valid items of the window, over all ranks; all of them must ask."""
        return round(fsum(one for (one,) in self._ranks.gather(sum(self._sizes))))

    def share(self, number: float) -> float:
        """The mean of a number over all ranks; all of them must ask."""
        return fsum(one for (one,) in self._ranks.gather(number)) / self._ranks.num

    def end(self, *, num_valid: int, scale: float, grad_norm: float) -> None:
        """End the window, and take in what it says of the noise scale.

        Args:
            num_valid: valid items of it, over all ranks.
            scale: what the gradient of a micro-batch's summed loss was multiplied with as it reached a parameter.
            grad_norm: of the mean over the window's valid items.
        """
        squares = fsum(torch.stack(self._squares).tolist()) if self._squares else 0.0
        told = self._ranks.gather(squares, len(self._squares))
        num_micro_batches = round(fsum(num for _, num in told))
        squares = fsum(one for one, _ in told) / scale**2
        self._norms.rest()
        self._sizes = []
        if num_micro_batches >= _FEWEST and isfinite(squares) and isfinite(grad_norm):
            self._averages.add(
                WindowNorms(
                    num_valid=num_valid,
                    num_micro_batches=num_micro_batches,
                    weighted_squares=squares,
                    squared_norm=grad_norm**2,
                )
            )

    def close(self) -> None:
        """Take the hooks off the model's parameters."""
        self._norms.close()


def metrics_of(averages: NoiseAverages, plan: BatchPlan) -> dict[str, float]:
    """What to tell a host's logger.

    Args:
        averages: of the noise scale.
        plan: of the effective batch.
    """
    told: dict[str, float] = {"effective_batch_size": plan.effective_batch_size}
    estimate = averages.estimate()
    if estimate.num_windows and isfinite(estimate.low):
        told["noise_scale_low"] = estimate.low
    if estimate.identified:
        told |= {"noise_scale": estimate.noise_scale, "noise_scale_high": estimate.high}
    return told


def gradients_of(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    """The gradients that an optimiser's next step takes.

    Args:
        optimizer: to look into.
    """
    return [one.grad for group in optimizer.param_groups for one in group["params"] if one.grad is not None]


def norm_of(optimizer: torch.optim.Optimizer, factor: float = 1.0) -> float:
    """Multiply an optimiser's gradients, and return their Euclidean norm.

    Args:
        optimizer: whose gradients are changed.
        factor: to multiply them with.
    """
    gradients = gradients_of(optimizer)
    if factor != 1.0:
        torch._foreach_mul_(gradients, factor)
    return float(get_total_norm(gradients))
