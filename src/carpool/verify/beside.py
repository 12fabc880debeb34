"""Predicted beside measured: for every figure the interval, what was measured, and the error."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from carpool.plan.predict import Interval
from carpool.signals.figures import prediction_error
from carpool.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from carpool.plan.predict import Prediction


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """How a figure is shown.

    Args:
        label: what it is called.
        unit: in which it is shown.
        scale: what its value is multiplied by for that.
    """

    label: str
    unit: str
    scale: float = 1.0


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "offered": Kind(label="arrive", unit="items/s"),
        "throughput": Kind(label="throughput", unit="items/s"),
        "goodput": Kind(label="goodput", unit="items/s"),
        "attainment": Kind(label="within every objective", unit="% of arrivals", scale=100),
        "p50_s": Kind(label="p50", unit="ms", scale=1e3),
        "p95_s": Kind(label="p95", unit="ms", scale=1e3),
        "p99_s": Kind(label="p99", unit="ms", scale=1e3),
        "mean_s": Kind(label="mean latency", unit="ms", scale=1e3),
        "queue_delay_s": Kind(label="mean wait for a batch", unit="ms", scale=1e3),
        "compute_s": Kind(label="mean time of a batch", unit="ms", scale=1e3),
        "mean_batch_size": Kind(label="mean batch", unit="items"),
        "fill_ratio": Kind(label="fill", unit="%", scale=100),
        "padding_waste": Kind(label="padding", unit="%", scale=100),
        "utilisation": Kind(label="utilisation", unit="%", scale=100),
        "refused": Kind(label="refused", unit="% of arrivals", scale=100),
        "expired": Kind(label="expired", unit="% of arrivals", scale=100),
    }
)
"""The figures that are predicted and measured, by the name of the field in `Prediction`."""

# Rows that say nothing where they are 0 throughout.
SELDOM = frozenset({"padding_waste", "refused", "expired"})
_OBJECTIVE = "within_p"


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """One figure.

    Args:
        name: of the field in `Prediction`.
        kind: how it is shown.
        predicted: its 90 % interval for one window.
        measured: its value in each window.
    """

    name: str
    kind: Kind
    predicted: Interval
    measured: tuple[float, ...]

    @property
    def value(self) -> float:
        """The median of what was measured; NaN where something could not be."""
        return statistics.median(self.measured)

    @property
    def inside(self) -> tuple[bool, ...]:
        """Whether each measured value lies in the interval."""
        return tuple(self.predicted.holds(value) for value in self.measured)

    @property
    def errors_pct(self) -> tuple[float, ...]:
        """Error of the prediction for each window, in percent of what was measured; positive where too much."""
        return tuple(_error_pct(self.predicted.value, value) for value in self.measured)

    @property
    def error_pct(self) -> float:
        """The median over windows of the error's size."""
        return statistics.median(abs(error) for error in self.errors_pct)


def _error_pct(predicted: float, measured: float) -> float:
    """Return the error in percent; none at all where both are 0, and NaN where it has no size."""
    if predicted == measured:
        return 0.0
    error = 100 * prediction_error(predicted, measured)
    return error if math.isfinite(error) else math.nan


def beside(prediction: Prediction, measured: Sequence[Mapping[str, float]]) -> tuple[Beside, ...]:
    """Put what was predicted beside what was measured.

    Args:
        prediction: for one window.
        measured: the figures of each window, at least one.
    """
    return tuple(
        Beside(
            name=name,
            kind=kind,
            predicted=getattr(prediction, name),
            measured=tuple(figures[name] for figures in measured),
        )
        for name, kind in KINDS.items()
    )


def beside_objectives(prediction: Prediction, measured: Sequence[Sequence[float]]) -> tuple[Beside, ...]:
    """Put the share that keeps each objective beside what was measured of it.

    Args:
        prediction: for one window.
        measured: of each window, the share that kept each objective.
    """
    return tuple(
        Beside(
            name=f"{_OBJECTIVE}{objective.quantile * 100:g}",
            kind=Kind(label=f"within {format_duration(objective.latency_s)}", unit="% of arrivals", scale=100),
            predicted=predicted,
            measured=tuple(shares[number] for shares in measured),
        )
        for number, (objective, predicted) in enumerate(
            zip(prediction.objectives, prediction.shares_within, strict=True)
        )
    )


def shown(rows: Sequence[Beside]) -> tuple[Beside, ...]:
    """Return the figures that say something: where there is one objective, its own is that of all of them."""
    several = sum(row.name.startswith(_OBJECTIVE) for row in rows) > 1
    told = (row for row in rows if row.name != "attainment" or several)
    return tuple(row for row in told if row.name not in SELDOM or row.predicted.high > 0 or any(row.measured))
