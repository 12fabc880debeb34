"""What a cost model is fitted to: one measured time or peak of memory for each shape of batch."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Protocol

import numpy as np

from carpool.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

# A point measured to 0.1 % must not outweigh its neighbours a hundredfold: the form of the model is never that exact.
SMALLEST_RELATIVE_SD = 0.01
# Half the width of a 95 % interval, in standard deviations of a normal distribution.
Z_95 = 1.959963984540054


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """The median time of one shape of batch, with its 95 % confidence interval.

    Args:
        batch_size: Items in the batch.
        length: Padded length of each item (1 where lengths mean nothing).
        time_s: Median seconds for the whole batch.
        low_s: Lower end of the interval, in seconds.
        high_s: Upper end of the interval, in seconds.
    """

    batch_size: int
    length: int = 1
    time_s: float
    low_s: float
    high_s: float

    @property
    def relative_sd(self) -> float:
        """The measurement's own standard error, relative to its time."""
        return relative_sd(self.time_s, self.low_s, self.high_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPoint:
    """The peak of memory that one shape of batch was seen to need, in bytes."""

    batch_size: int
    length: int = 1
    peak_bytes: int


def check_measurement(point: Measurement) -> None:
    """Refuse a measurement that no model can be fitted to.

    Raises:
        ConfigError: A batch size or length below 1, or a time that is not a positive number.
    """
    shape = f"batch size {point.batch_size}, length {point.length}"
    if point.batch_size < 1 or point.length < 1:
        message = f"cannot fit a cost model to a measurement at {shape}: both must be at least 1; drop the point"
        raise ConfigError(message)
    values = (point.time_s, point.low_s, point.high_s)
    if not all(np.isfinite(values)) or point.time_s <= 0.0:
        message = (
            f"cannot fit a cost model to a time of {point.time_s!r} s (from {point.low_s!r} to {point.high_s!r}) "
            f"at {shape}: it must be positive and finite; measure that shape again"
        )
        raise ConfigError(message)


def merged(points: Iterable[Measurement]) -> list[Measurement]:
    """Sort points by length and batch size, and merge those of one shape into one, so that none stands in for another.

    Args:
        points: Measurements in any order.

    Returns:
        One measurement for each shape: the mean time, the widest interval.
    """
    ordered = sorted(points, key=_shape)
    return [_merge(list(same)) for _, same in groupby(ordered, key=_shape)]


def _shape(point: Measurement) -> tuple[int, int]:
    return point.length, point.batch_size


def _merge(same: Sequence[Measurement]) -> Measurement:
    if len(same) == 1:
        return same[0]
    return Measurement(
        batch_size=same[0].batch_size,
        length=same[0].length,
        time_s=float(np.mean([point.time_s for point in same])),
        low_s=min(point.low_s for point in same),
        high_s=max(point.high_s for point in same),
    )


class Timed(Protocol):
    """A measured time, whatever it is of."""

    @property
    def time_s(self) -> float:
        """Median seconds."""
        ...

    @property
    def relative_sd(self) -> float:
        """Its standard error, relative to it."""
        ...


def relative_sd(time_s: float, low_s: float, high_s: float) -> float:
    """Return the standard error of a median, relative to it, from its 95 % interval."""
    return max(0.0, high_s - low_s) / (2.0 * Z_95 * time_s)


def weights(points: Sequence[Timed]) -> NDArray[np.float64]:
    """Weights that make a least-squares fit minimise *relative* error, each point trusted by its own interval.

    Args:
        points: Measurements [n].

    Returns:
        Weights [n], in 1 / s^2: `1 / (t^2 (r^2 + floor^2))` with `r` the point's relative standard error.
    """
    relative = np.array([point.relative_sd for point in points])
    floor = max(SMALLEST_RELATIVE_SD, float(np.median(relative)))
    times = np.array([point.time_s for point in points])
    return np.asarray(1.0 / (times**2 * (relative**2 + floor**2)))
