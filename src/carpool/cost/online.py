"""Learns what a batch takes from the batches that run: with no profile from nothing, with one from what it says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carpool.core.cost import CostModel, LearningTimeModel
from carpool.cost.robust_line import RobustLine

if TYPE_CHECKING:
    from carpool.core.cost import StepTimeModel, TimeModel
    from carpool.core.step import StepWork

__all__ = ["AdaptiveCost", "AdaptiveCostWithMemory", "AdaptiveStepCost", "AffineEstimator", "Pace", "adapting"]

# Share of the time that does not depend on tokens, until batches of different sizes have been seen.
ASSUMED_OVERHEAD_SHARE = 0.5
# How many batches a profile counts for: enough that one odd batch at the start moves little.
PROFILE_COUNTS = 4.0


class AffineEstimator:
    """Predicts `t = overhead + per_token * (items x padded length)` from the latest batches, outliers counting little.

    For a scheduler that was given no profile; how it learns is told at `RobustLine`. While all batches have one size,
    half of the time is taken to be overhead. Before the first batch it predicts 0: nothing is known, so nothing is held
    back.

    Args:
        half_life: Batches after which an observation counts half.

    >>> estimator = AffineEstimator()
    >>> for size in (1, 8, 32, 2, 16, 4) * 5:
    ...     estimator.observe(size, 10, 0.002 + 0.0001 * size * 10)
    >>> round(estimator.time_s(64, 10), 4)
    0.066
    """

    __slots__ = ("_line",)

    def __init__(self, *, half_life: float = 64.0) -> None:
        self._line = RobustLine(half_life=half_life, offset_share=ASSUMED_OVERHEAD_SHARE)

    @property
    def num_observed(self) -> int:
        """Batches that it has learned from."""
        return self._line.num_observed

    def time_s(self, batch_size: int, length: int) -> float:
        """Return the predicted seconds of a batch of this many items, padded to this length."""
        line = self._line
        return line.offset_s + line.slope * batch_size * length

    def observe(self, batch_size: int, length: int, service_s: float) -> None:
        """Take in what a batch took.

        Args:
            batch_size: Items in the batch.
            length: Length that each was padded to.
            service_s: Seconds that the model needed; a time below what a clock can tell is passed over.
        """
        self._line.observe(float(batch_size * length or 1), service_s)


class Pace:
    """What things take now by what was measured of them: `t = added + pace x (what was measured)`.

    Pace and addition are learned robustly, as told at `RobustLine`. At first what was measured counts like four times.

    Args:
        half_life: Observations after which one counts half.
    """

    __slots__ = ("_line",)

    def __init__(self, *, half_life: float = 64.0) -> None:
        self._line = RobustLine(half_life=half_life, offset_share=0.0)
        self._line.slope = 1.0

    @property
    def num_observed(self) -> int:
        """What it has learned from."""
        return self._line.num_observed

    @property
    def num_fitted(self) -> int:
        """Observations that the pace of now rests on: those since it last changed at once."""
        return self._line.num_fitted

    @property
    def drift(self) -> float:
        """What the latest take over what was measured of them; 1 before any."""
        line = self._line
        return line.slope + line.offset_s / line.mean_x if line.mean_x else 1.0

    def now_s(self, measured_s: float) -> float:
        """Return the seconds that something takes now of which so many were measured."""
        line = self._line
        return line.offset_s + line.slope * measured_s

    def learn(self, measured_s: float, service_s: float) -> None:
        """Take in that something took so long of which so many seconds were measured."""
        if measured_s <= 0.0:
            return  # what promises nothing at all has no pace
        if not self._line.mean_x:
            self._line.believe(measured_s, measured_s, PROFILE_COUNTS)
        self._line.observe(measured_s, service_s)


class AdaptiveCost(Pace):
    """A measured cost model that follows the pace of the day: `t = added + pace x (what the profile says)`.

    The profile's shape is kept, so that sizes and lengths that have not been served yet are predicted too.

    Args:
        measured: What the profile says; it answers for every shape.
        half_life: Batches after which an observation counts half.

    >>> from carpool.core.cost import AffineCost
    >>> adaptive = AdaptiveCost(AffineCost(overhead_s=0.002, token_s=0.001))
    >>> for size in (1, 8, 32, 4) * 40:
    ...     adaptive.observe(size, 1, 1.5 * (0.002 + 0.001 * size))
    >>> round(adaptive.time_s(16, 1), 3), round(adaptive.drift, 1)
    (0.027, 1.5)
    """

    __slots__ = ("measured",)

    def __init__(self, measured: TimeModel, *, half_life: float = 64.0) -> None:
        super().__init__(half_life=half_life)
        self.measured = measured

    def time_s(self, batch_size: int, length: int) -> float:
        """Return the predicted seconds of a batch of this many items, padded to this length."""
        return self.now_s(self.measured.time_s(batch_size, length))

    def observe(self, batch_size: int, length: int, service_s: float) -> None:
        """Take in what a batch took.

        Args:
            batch_size: Items in the batch.
            length: Length that each was padded to.
            service_s: Seconds that the model needed; a time below what a clock can tell is passed over.
        """
        self.learn(self.measured.time_s(batch_size, length), service_s)


class AdaptiveCostWithMemory(AdaptiveCost):
    """The same of a profile that predicts memory too, which does not drift.

    Args:
        measured: What the profile says.
        half_life: Batches after which an observation counts half.
    """

    __slots__ = ("_memory",)

    def __init__(self, measured: CostModel, *, half_life: float = 64.0) -> None:
        super().__init__(measured, half_life=half_life)
        self._memory = measured

    def memory_bytes(self, batch_size: int, length: int) -> float:
        """Return the predicted peak memory of a batch, in bytes."""
        return self._memory.memory_bytes(batch_size, length)


class AdaptiveStepCost(Pace):
    """A measured step's cost that follows the pace of the day, with the profile's shape.

    Args:
        measured: What the profile says; it answers for every step.
        half_life: Steps after which an observation counts half.

    >>> from carpool.core.cost import LinearStepTime
    >>> from carpool.cost.step_cost import decode_work
    >>> adaptive = AdaptiveStepCost(LinearStepTime(step_s=0.01, token_s=0.001))
    >>> for size in (1, 8, 32, 4) * 40:
    ...     adaptive.observe(decode_work(size, 64), 2 * (0.01 + 0.001 * size))
    >>> round(adaptive.time_s(decode_work(16, 64)), 3), round(adaptive.drift, 1)
    (0.051, 2.0)
    """

    __slots__ = ("measured",)

    def __init__(self, measured: StepTimeModel, *, half_life: float = 64.0) -> None:
        super().__init__(half_life=half_life)
        self.measured = measured

    def time_s(self, work: StepWork) -> float:
        """Return the predicted seconds of a step."""
        return self.now_s(self.measured.time_s(work))

    def observe(self, work: StepWork, service_s: float) -> None:
        """Take in what a step took, in seconds."""
        self.learn(self.measured.time_s(work), service_s)


def adapting(measured: TimeModel) -> LearningTimeModel:
    """Return a cost model that starts from a measured one and learns; one that learns already is returned as it is."""
    if isinstance(measured, LearningTimeModel):
        return measured
    return AdaptiveCostWithMemory(measured) if isinstance(measured, CostModel) else AdaptiveCost(measured)
