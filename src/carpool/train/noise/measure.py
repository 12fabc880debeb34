"""The critical batch size, measured: train on from here with larger and larger batches, and see which does worse.

From the same weights, branches train on the same number of items, with k times the batch and the learning rate that
goes with it. Up to the critical batch size they come out alike; beyond it, they took too few steps to get as far. This
rests on no model of the noise, and takes as many passes through the model as the branches have items.

Source: W. Merrill, S. Arora, D. Groeneveld, H. Hajishirzi, "Critical Batch Size Revisited: A Simple Empirical Approach
to Large-Batch Language Model Training", 2025, arXiv 2505.23971.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isfinite
from statistics import fmean
from typing import TYPE_CHECKING

from carpool.core.limits import check_ascending, check_whole
from carpool.errors import ConfigError
from carpool.train.batch_plan import BatchPlan
from carpool.train.noise.branch import Fork, loss_of, train
from carpool.train.noise.numbers import number
from carpool.train.scaling.apply import scale_hyperparameters
from carpool.units import counted, format_count

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch.optim import Optimizer

    from carpool.train.setup import TrainSetup


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """What came of training on with one batch.

    Args:
        batch_size: effective batch.
        losses: at the end, one for each repetition; not finite where it diverged.
        within: whether their mean is within the tolerance of the smallest batch's.
    """

    batch_size: int
    losses: tuple[float, ...]
    within: bool

    @property
    def loss(self) -> float:
        """Mean of the losses."""
        return fmean(self.losses)


@dataclass(frozen=True, slots=True, kw_only=True)
class CriticalBatch:
    """The critical batch size, as far as branches tell.

    Args:
        batch_size: the largest batch that did as well as the smallest, and all between as well.
        beyond: the next larger, which did not; None if none was tried.
        tolerance: by which a loss could be higher.
        num_items: that each branch was trained on.
        branches: by batch size.
    """

    batch_size: int
    beyond: int | None
    tolerance: float
    num_items: int
    branches: tuple[Branch, ...]

    @property
    def text(self) -> str:
        """The result in words."""
        first, (last, *_) = self.branches[0], [one for one in self.branches if one.batch_size == self.batch_size]
        after = f"after {counted(self.num_items, 'item')}, from the same start"
        if self.beyond is None:
            return (
                f"critical batch size at least {format_count(self.batch_size)}: its loss of {last.loss:.4g} is within "
                f"{self.tolerance:g} of {first.loss:.4g} at batch {format_count(first.batch_size)} {after}"
            )
        failed = self.branches[-1]
        found = f"from {format_count(self.batch_size)} to {format_count(self.beyond)}"
        if last is first:
            found = f"below {format_count(self.beyond)}, and perhaps below {format_count(self.batch_size)}"
        return (
            f"critical batch size {found}: at batch {format_count(self.beyond)} the loss is {failed.loss:.4g}, more "
            f"than {self.tolerance:g} above {first.loss:.4g} at batch {format_count(first.batch_size)} {after}"
        )

    def __str__(self) -> str:
        return self.text


def scale_as_usual(optimizer: Optimizer, factor: float) -> None:
    """Set the hyper-parameters that go with a batch `factor` times as large, by the rule for this optimiser.

    Args:
        optimizer: whose hyper-parameters belong to the smaller batch.
        factor: larger batch over smaller.
    """
    scale_hyperparameters(optimizer, factor, beta_form="power", again=True)


def measure_critical_batch(
    setup: TrainSetup,
    *,
    batch_size: int,
    micro_batch_size: int,
    num_items: int,
    factors: Sequence[int] = (1, 2, 4, 8, 16),
    tolerance: float = 0.01,
    num_repeats: int = 1,
    scale: Callable[[Optimizer, float], object] = scale_as_usual,
    seed: int = 0,
) -> CriticalBatch:
    """Train on from here with larger and larger batches until one does worse; then put everything back.

    It is measured where training stands: train with small batches for a while first. The learning rate must be the one
    that goes with `batch_size`. Differences that are smaller than what chance does to a loss are not told apart: repeat
    it, or train on more items. Where the setup has no `validate`, the loss of training data is compared.

    Args:
        setup: the model and the optimiser as they are now; on one rank.
        batch_size: the smallest effective batch, a multiple of `micro_batch_size`.
        micro_batch_size: items of a pass.
        num_items: that each branch is trained on, rounded up to whole steps of the largest batch.
        factors: the batches over the smallest, rising from 1.
        tolerance: by which a loss may be higher than the smallest batch's and count as the same.
        num_repeats: branches for each batch, each on other data if the loader goes on, or draws from torch.
        scale: sets the hyper-parameters that go with a batch so many times as large.
        seed: of torch's random numbers in the first repetition.

    Raises:
        ConfigError: a value is out of its range, or the smallest batch diverges.
    """
    _check(batch_size, micro_batch_size, factors, tolerance)
    for name, value in (("num_items", num_items), ("num_repeats", num_repeats)):
        check_whole(name, value)
    largest = batch_size * factors[-1]
    num_items = -(-num_items // largest) * largest
    fork = Fork(setup)

    def run(factor: int, seed: int) -> float:
        with fork.branch(seed) as branch:
            if factor > 1:
                scale(branch.optimizer, factor)
            plan = BatchPlan(effective_batch_size=factor * batch_size, micro_batch_size=micro_batch_size)
            train(branch, plan, num_items)
            return loss_of(branch, micro_batch_size, num_items)

    def run_all(factor: int) -> tuple[float, ...]:
        try:
            return tuple(run(factor, seed + repeat) for repeat in range(num_repeats))
        finally:
            fork.rewind()

    with fork.branch(seed) as branch:
        scale(branch.optimizer, factors[-1])  # what can't be scaled is told before anything is computed
    branches: list[Branch] = []
    highest = inf  # of the losses that count as the same
    for factor in factors:
        losses = run_all(factor)
        if not branches:
            highest = _highest(losses, tolerance)
        branches.append(Branch(batch_size=factor * batch_size, losses=losses, within=fmean(losses) <= highest))
        if not branches[-1].within:
            break
    return CriticalBatch(
        batch_size=max(branch.batch_size for branch in branches if branch.within),
        beyond=None if branches[-1].within else branches[-1].batch_size,
        tolerance=tolerance,
        num_items=num_items,
        branches=tuple(branches),
    )


def _highest(losses: Sequence[float], tolerance: float) -> float:
    """The highest loss that counts as the same as the smallest batch's."""
    loss = fmean(losses)
    if not isfinite(loss):
        raise ConfigError(f"the loss of the smallest batch becomes {loss}: train with a lower learning rate")
    return loss + tolerance


def _check(batch_size: int, micro_batch_size: int, factors: Sequence[int], tolerance: float) -> None:
    check_whole("batch_size", batch_size)
    check_whole("micro_batch_size", micro_batch_size)
    for factor in factors:
        check_whole("factors", factor)
    check_ascending("factors", tuple(factors))
    if len(factors) < 2 or factors[0] != 1:  # noqa: PLR2004 - nothing is compared with one
        raise ConfigError(f"factors is {list(factors)}; it must begin with 1 and go on, as in [1, 2, 4, 8]")
    if batch_size % micro_batch_size:
        raise ConfigError(
            f"batch_size is {batch_size}, no multiple of micro_batch_size {micro_batch_size}: take micro-batches of a "
            "size that divides it"
        )
    if not 0 <= number(tolerance) < inf:
        raise ConfigError(f"tolerance is {tolerance!r}; it must be at least 0 and finite, in units of the loss")
