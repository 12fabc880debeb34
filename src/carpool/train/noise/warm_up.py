"""Batch-size warm-up: the effective batch grows as the noise scale does, and is never far above what pays.

Early in training gradients agree, and small batches learn as much from each step; later ones are noisy, and large
batches take fewer steps at the cost of hardly more examples. So the batch is doubled each time that the noise scale has
surely reached twice the batch.

Source: W. Merrill, S. Arora, D. Groeneveld, H. Hajishirzi, "Critical Batch Size Revisited: A Simple Empirical Approach
to Large-Batch Language Model Training", 2025, arXiv 2505.23971, which doubles the batch as the critical one does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf
from typing import TYPE_CHECKING, Any, Self

from carpool.core.limits import check_whole
from carpool.errors import ConfigError
from carpool.train.batch_plan import BatchPlan
from carpool.train.noise.numbers import number

if TYPE_CHECKING:
    from collections.abc import Mapping

    from carpool.train.noise.estimate import NoiseEstimate


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchWarmUp:
    """An effective batch, and when it grows; it never shrinks.

    It becomes `times` as large once the lower end of the noise scale's interval has reached the larger size; where only
    that end is identified, it suffices. The micro-batch stays; a window has more of them. It says what to do and does
    nothing itself: scale the learning rate by the same factor with `scale_hyperparameters`, and remember that a
    schedule counted in steps has fewer to go.

    Args:
        plan: with the effective batch of now.
        most: the largest effective batch; where that is no whole number of micro-batches, the largest below it that is.
        times: by which it grows.
        hold_windows: windows that the noise scale is watched for at one size, before the next is thought of.
        grown_at: windows that had been watched when it last grew.

    Raises:
        ConfigError: a number is out of its range.

    >>> from carpool.train.noise.estimate import NoiseAverages, WindowNorms
    >>> averages = NoiseAverages()
    >>> for _ in range(50):
    ...     averages.add(WindowNorms.of([8, 8], [60.0, 60.0], 35.0))  # tr(Sigma) 400, |G|^2 10
    >>> warm_up = BatchWarmUp(plan=BatchPlan(effective_batch_size=16, micro_batch_size=8), most=1024)
    >>> print(warm_up.after(averages.estimate()).plan)
    effective batch 32 = 4 x 8
    """

    plan: BatchPlan
    most: int
    times: float = 2.0
    hold_windows: int = 50
    grown_at: int = 0

    def __post_init__(self) -> None:
        check_whole("most", self.most)
        check_whole("hold_windows", self.hold_windows)
        if self.most < self.plan.effective_batch_size:
            raise ConfigError(
                f"most is {self.most}, and the effective batch is {self.plan.effective_batch_size} already: begin with "
                "a smaller one, or let it grow further"
            )
        if not 1 < number(self.times) < inf:
            raise ConfigError(f"times is {self.times!r}; it must be above 1 and finite, as 2 for a batch that doubles")

    @property
    def batch_size(self) -> int:
        """The effective batch of now."""
        return self.plan.effective_batch_size

    def after(self, estimate: NoiseEstimate) -> Self:
        """Return what holds from now on: itself, or one whose plan has a larger effective batch.

        Args:
            estimate: of the noise scale.
        """
        larger = self._larger()
        if (
            larger <= self.batch_size
            or estimate.low < larger
            or estimate.num_windows < self.grown_at + self.hold_windows
        ):
            return self
        plan = replace(self.plan, effective_batch_size=larger)
        return replace(self, plan=plan, grown_at=estimate.num_windows)

    def _larger(self) -> int:
        """The next size: of whole micro-batches, where that of now is."""
        together = self.plan.micro_batch_size * self.plan.num_ranks
        unit = 1 if self.batch_size % together else together
        larger = max(int(self.batch_size * self.times), self.batch_size + unit)
        return min(larger, self.most) // unit * unit

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"plan": self.plan.state_dict(), "grown_at": self.grown_at}

    def restored(self, state: Mapping[str, Any]) -> Self:
        """Return the warm-up as a checkpoint left it.

        Args:
            state: from `state_dict`.

        Raises:
            ConfigError: it is not one, or its effective batch is above `most`.
        """
        if not isinstance(state.get("plan"), dict) or not isinstance(state.get("grown_at"), int):
            raise ConfigError("the checkpoint's batch-size warm-up lacks its plan or when it grew: leave it out")
        return replace(self, plan=BatchPlan.from_state_dict(state["plan"]), grown_at=state["grown_at"])
