"""Histograms with fixed buckets, so that counts of different hours and machines can be added."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "BATCH_SIZE_BOUNDS",
    "DURATION_BOUNDS_S",
    "PREDICTION_BOUNDS",
    "SHARE_BOUNDS",
    "Histogram",
    "Tally",
]

BATCH_SIZE_BOUNDS: tuple[float, ...] = tuple(float(2**power) for power in range(13))
"""1, 2, 4 .. 4096 items."""

DURATION_BOUNDS_S: tuple[float, ...] = (
    *(digit * 10.0**power for power in range(-4, 1) for digit in (1.0, 2.0, 5.0)),
    10.0,
)
"""0.1 ms, 0.2 ms, 0.5 ms, 1 ms .. 10 s: three to a decade."""

SHARE_BOUNDS: tuple[float, ...] = tuple(step / 10 for step in range(11))
"""0, 0.1 .. 1."""

PREDICTION_BOUNDS: tuple[float, ...] = (0.5, 0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.25, 1.5, 2.0, 4.0)
"""Measured time over predicted time; 1 is a prediction that came true."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Counts of values between fixed bounds.

    Args:
        bounds: upper bounds, ascending; a value belongs to the first bound that is not below it.
        counts: values in each bucket, one more than there are bounds; the last is beyond every bound.
        total: sum of all values, in their own unit.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total: float

    @property
    def num_values(self) -> int:
        """How many values were counted."""
        return sum(self.counts)

    @property
    def mean(self) -> float:
        """Average of all values; 0 where there is none."""
        return self.total / self.num_values if self.num_values else 0.0

    def cumulative(self) -> tuple[int, ...]:
        """Values not above each bound, and last the number of all values."""
        return tuple(accumulate(self.counts))


class Tally:
    """A histogram that is being filled.

    >>> tally = Tally((1.0, 2.0))
    >>> tally.add([0.5, 2.0, 7.0])
    >>> tally.freeze().counts
    (1, 1, 1)
    """

    __slots__ = ("_bounds", "_counts", "_total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._total = 0.0

    def add(self, values: Sequence[float]) -> None:
        """Count each value. Those of a batch lie close together: sorted, they are counted a bucket at a time."""
        self._total += sum(values)
        ranked = sorted(values)
        bounds, num_below, num_values = self._bounds, 0, len(ranked)
        while num_below < num_values:
            bucket = bisect_left(bounds, ranked[num_below])
            end = bisect_right(ranked, bounds[bucket], num_below) if bucket < len(bounds) else num_values
            self._counts[bucket] += end - num_below
            num_below = end

    def add_one(self, value: float) -> None:
        """Count one value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._total += value

    def freeze(self) -> Histogram:
        """Copy what was counted so far."""
        return Histogram(bounds=self._bounds, counts=tuple(self._counts), total=self._total)
