"""What a plot is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, TypeVar

from carpool.errors import ConfigError

__all__ = ["LineSeries", "Mark", "Panel", "Scale", "thinned"]

Scale: TypeAlias = Literal["linear", "log2", "log10"]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class LineSeries:
    """Values over x.

    Args:
        label: what the values are; empty for a series that needs no name beside its neighbour's.
        x: positions, ascending.
        y: values, as many.
        low: lower ends of their uncertainty, as many; None where it is not known.
        high: upper ends.
        style: `points` (with whiskers), `line`, `dashed`, or `band` (a line within its shaded uncertainty).
        tone: number of its colour; None takes the next, or a neutral colour where it is dashed, as a limit is; series
            of the same tone belong together.
        strong: whether it is drawn thicker and above the others.

    Raises:
        ConfigError: the numbers of values differ, or a band has no uncertainty.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    style: Literal["points", "line", "dashed", "band"] = "line"
    tone: int | None = None
    strong: bool = False

    def __post_init__(self) -> None:
        sizes = {len(values) for values in (self.x, self.y, self.low, self.high) if values is not None}
        if len(sizes) > 1:
            raise ConfigError(
                f"series {self.label!r} has {sorted(sizes)} values along x, y, low and high: give as many"
            )
        if (self.low is None) != (self.high is None) or (self.style == "band" and self.low is None):
            raise ConfigError(f"series {self.label!r} lacks low or high: give both ends of the uncertainty")


@dataclass(frozen=True, slots=True)
class Mark:
    """A position on the x axis that has a name, such as the knee.

    Args:
        x: where it is.
        label: its name.
    """

    x: float
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One pair of axes.

    Args:
        title: what it shows, best as a finding.
        x_label: quantity and unit along x.
        y_label: quantity and unit along y.
        series: what is drawn.
        marks: named positions along x.
        x_scale: `log2` puts ticks at powers of two, for batch sizes.
        y_scale: likewise.
        y_from_zero: a linear y axis begins at 0, so that heights compare as ratios.

    Raises:
        ConfigError: a value or mark is not positive on a logarithmic scale.
    """

    title: str
    x_label: str
    y_label: str
    series: tuple[LineSeries, ...]
    marks: tuple[Mark, ...] = ()
    x_scale: Scale = "linear"
    y_scale: Scale = "linear"
    y_from_zero: bool = True

    def __post_init__(self) -> None:
        if self.x_scale != "linear":
            self._require_positive("x", [x for series in self.series for x in series.x] + [m.x for m in self.marks])
        if self.y_scale != "linear":
            self._require_positive("y", [y for series in self.series for y in series.y])

    def _require_positive(self, axis: str, values: Sequence[float]) -> None:
        if any(value <= 0 for value in values):
            raise ConfigError(
                f"panel {self.title!r} has {axis} = {min(values):g} on a logarithmic scale: "
                "leave the point out or make the scale linear"
            )


def thinned(values: Sequence[T], most: int) -> list[T]:
    """Return the first, the last and some evenly between: few enough lines to tell apart.

    Args:
        values: what there would be a line for each of.
        most: most of them, at least 2.

    >>> thinned([1, 2, 4, 8, 16], 3), thinned([1, 2], 3)
    ([1, 4, 16], [1, 2])
    """
    if len(values) <= most:
        return list(values)
    last = len(values) - 1
    return [values[round(last * number / (most - 1))] for number in range(most)]
