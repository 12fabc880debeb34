"""The micro-batch that trains fastest, from the times of several."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from carpool.cost.model import fit_cost_model
from carpool.cost.points import Measurement
from carpool.signals.figures import percentile_interval
from carpool.train.autosize.result import Throughput, Timing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CLEARLY = 0.03
"""A larger micro-batch is taken for the fastest only where it is faster by more than this."""
_DENSE = 4
"""The sizes from the largest down by a factor of 2; then by a factor of 4."""
LEAST_TO_FIT = 2


def sizes_to_time(largest: int, smallest: int = 1) -> tuple[int, ...]:
    """Sizes from the smallest to the largest that fits, closer together where they matter.

    Args:
        largest: that fits.
        smallest: that can be trained with.

    >>> sizes_to_time(100)
    (1, 3, 12, 25, 50, 100)
    """
    sizes = {smallest, largest}
    size, num = largest, 1
    while size > smallest:
        sizes.add(size)
        size, num = size // (2 if num < _DENSE else 4), num + 1
    return tuple(sorted(sizes))


def summarise(
    passes_s: Sequence[tuple[int, Sequence[float]]], updates_s: Sequence[float], *, measured_on: Mapping[str, str]
) -> Throughput:
    """Sum times up, fit them, and choose the fastest size.

    Args:
        passes_s: seconds of single passes, by size.
        updates_s: seconds of the optimiser's steps.
        measured_on: what the times hold for.
    """
    timings = tuple(sorted((_timing(size, seconds) for size, seconds in passes_s), key=lambda timing: timing.size))
    points = [
        Measurement(batch_size=timing.size, time_s=timing.pass_s, low_s=timing.low_s, high_s=timing.high_s)
        for timing in timings
    ]
    return Throughput(
        timings=timings,
        update_s=median(updates_s),
        cost=fit_cost_model(points, measured_on=measured_on) if len(points) >= LEAST_TO_FIT else None,
        best_size=best_size(timings),
    )


def best_size(timings: Sequence[Timing]) -> int:
    """The smallest size whose items a second are as good as the best.

    The optimiser's step is not in it: a window has one, whatever it is cut into.

    Args:
        timings: by size, ascending.
    """
    best = max(timing.items_per_s for timing in timings)
    return next(timing.size for timing in timings if timing.items_per_s >= (1.0 - CLEARLY) * best)


def _timing(size: int, seconds: Sequence[float]) -> Timing:
    """The median of a size's times; with few of them its interval is their whole range."""
    low, high = percentile_interval(seconds, 50)
    return Timing(
        size=size,
        pass_s=median(seconds),
        low_s=min(seconds) if low is None else low,
        high_s=max(seconds) if high is None else high,
    )
