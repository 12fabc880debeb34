"""What the batch former asks of a cost model."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable


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
