"""What the batch former asks of a cost model."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from carpool.core.step import StepWork


class TimeModel(Protocol):
    """Predicts how long a batch runs."""

    def time_s(self, batch_size: int, length: int) -> float:
        """Return the predicted seconds of `batch_size` items, each padded to `length` tokens."""
        ...


@runtime_checkable
class CostModel(TimeModel, Protocol):
    """Predicts time and memory."""

    def memory_bytes(self, batch_size: int, length: int) -> float:
        """Return the predicted peak memory, in bytes, of such a batch."""
        ...


@runtime_checkable
class LearningTimeModel(TimeModel, Protocol):
    """Predicts time, and learns from the batches that ran."""

    def observe(self, batch_size: int, length: int, service_s: float) -> None:
        """Take note that such a batch ran for `service_s` seconds, queueing excluded."""
        ...


@runtime_checkable
class DriftingTimeModel(LearningTimeModel, Protocol):
    """Starts from what was measured, and learns how far the pace of now is from it."""

    @property
    def measured(self) -> TimeModel:
        """What was measured."""
        ...

    @property
    def drift(self) -> float:
        """What the latest batches take over what was measured of them; 1 before any ran."""
        ...

    @property
    def num_fitted(self) -> int:
        """Batches that the drift rests on."""
        ...


@dataclass(frozen=True, slots=True)
class AffineCost:
    """The simplest cost of a batch: `t = overhead_s + token_s * batch_size * length`.

    >>> AffineCost(overhead_s=0.002, token_s=0.001).time_s(batch_size=4, length=1)
    0.006
    """

    overhead_s: float
    token_s: float

    def time_s(self, batch_size: int, length: int) -> float:
        """Return the predicted seconds of a batch."""
        return self.overhead_s + self.token_s * batch_size * length


class StepTimeModel(Protocol):
    """Predicts how long a step of an LLM runs."""

    def time_s(self, work: StepWork) -> float:
        """Return the predicted seconds of a step; of any step, also beyond what was measured."""
        ...


@runtime_checkable
class LearningStepTimeModel(StepTimeModel, Protocol):
    """Predicts time, and learns from the steps that ran."""

    def observe(self, work: StepWork, service_s: float) -> None:
        """Take note that such a step took `service_s` seconds, from its plan to its commit."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearStepTime:
    """The simplest cost of a step: each kind of work has its price, beside what every step costs.

    Args:
        step_s: seconds of any step.
        token_s: seconds more for each token.
        kv_s: seconds more for each token in the cache that a single token looks at.
        pair_s: seconds more for each pair of tokens within and before longer chunks.

    >>> work = StepWork(num_tokens=8, num_sequences=8, num_sampled=8, kv_read=800, prefill_pairs=0.0)
    >>> LinearStepTime(step_s=0.010, token_s=0.0005, kv_s=0.00001).time_s(work)
    0.022
    """

    step_s: float
    token_s: float = 0.0
    kv_s: float = 0.0
    pair_s: float = 0.0

    def time_s(self, work: StepWork) -> float:
        """Return the predicted seconds of a step."""
        return (
            self.step_s + self.token_s * work.num_tokens + self.kv_s * work.kv_read + self.pair_s * work.prefill_pairs
        )
