"""Ticks at numbers that people think in: powers of two for batch sizes, 1-2-5 for the rest."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axis import Axis

    from carpool.report.panel import Scale

__all__ = ["label", "place", "positions"]

MOST_TICKS, FEWEST_TICKS = 9, 3
# Where ticks stand in a decade, from the closest on: the first of these that gives few enough is taken.
DIGITS = ((1, 2, 5), (1, 3), (1,))


def place(axis: Axis, limits: tuple[float, float], scale: Scale) -> None:
    """Put ticks and their labels on an axis and keep its limits.

    Args:
        axis: where they go.
        limits: what the axis covers.
        scale: how it covers it.
    """
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullFormatter, NullLocator

    found = positions(limits, scale)
    axis.set_major_locator(FixedLocator(found))
    axis.set_major_formatter(FixedFormatter([label(tick) for tick in found]))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def positions(limits: tuple[float, float], scale: Scale) -> list[float]:
    """Where ticks stand within the limits.

    >>> positions((0.9, 300), "log2")
    [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0]
    >>> positions((0, 47), "linear")
    [0.0, 10.0, 20.0, 30.0, 40.0]
    """
    low, high = limits
    if scale == "log2":
        return _thin([2.0**power for power in range(math.ceil(math.log2(low)), math.floor(math.log2(high)) + 1)])
    if scale == "log10":
        decades = _decades(low, high)
        # Within less than a decade there may be hardly any round number: then the scale is nearly a linear one.
        return decades if len(decades) >= FEWEST_TICKS else [tick for tick in _steps(low, high) if tick > 0.0]
    return _steps(low, high)


def _steps(low: float, high: float) -> list[float]:
    step = _step((high - low) / 6)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{step * number:.12g}") for number in range(first, last + 1)]


def label(value: float) -> str:
    """A number as a reader writes it.

    >>> label(0.25), label(4000.0), label(0.0)
    ('0.25', '4,000', '0')
    """
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:.6g}"


def _step(least: float) -> float:
    """Smallest of 1, 2, 2.5, 5 times a power of ten that is not below `least`."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(digit * power for digit in (1, 2, 2.5, 5, 10) if digit * power >= least * (1 - 1e-9))


def _decades(low: float, high: float) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    every = [
        [tick for power in powers for digit in digits if low <= (tick := float(f"{digit}e{power}")) <= high]
        for digits in DIGITS
    ]
    return next((found for found in every if len(found) <= MOST_TICKS), _thin(every[-1]))


def _thin(found: Sequence[float]) -> list[float]:
    return list(found[:: math.ceil(len(found) / MOST_TICKS) or 1])
