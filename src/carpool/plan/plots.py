"""A plan as pictures: latency over the load, how latencies are spread, and how memory is shared."""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

from carpool.report.panel import thinned
from carpool.report.plot import LineSeries, Mark, Panel, Picture, figure
from carpool.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from carpool.plan.llm_what_if import LlmFrontierPoint
    from carpool.plan.memory_trade import MemoryTrade
    from carpool.plan.plan import Plan
    from carpool.plan.predict import Interval, Prediction
    from carpool.plan.search import FrontierPoint
    from carpool.plan.what_if import WhatIfRow

MS, PERCENT = 1e3, 100.0
_GIB = 1024.0**3
_MOST_SPREADS = 5
_MOST_MODELS = 3
POINTS_TO_DRAW = 2
_PLAN = "the plan"
_NAMES = MappingProxyType({0.5: "p50_s", 0.95: "p95_s", 0.99: "p99_s"})

PointT = TypeVar("PointT", bound="FrontierPoint | LlmFrontierPoint")


def pictures(plan: Plan) -> dict[str, Picture]:
    """Return all pictures that the plan has figures for, by the name of their file."""
    found = {
        "plan-latency": ("Latency over the load, and how it is spread", [*_frontier(plan), *_spread(plan)]),
        "plan-memory": ("Memory shared between model and batch", _memory(plan.memory_trade)),
    }
    return {name: figure(panels, title=title) for name, (title, panels) in found.items() if panels}


# ------------------------------------------------------------------------------------------------- frontier


def _frontier(plan: Plan) -> list[Panel]:
    """Draw latency against load for each setup up to where its queue grows without end, the plan marked."""
    quantile = _quantile(plan)
    curves = over_load(plan.frontier, lambda point: MS * _latency(point.prediction, quantile).value)
    if not curves:
        return []
    name = f"p{quantile * PERCENT:g}"
    limits = [objective_line(one.latency_s, plan.rate, curves) for one in plan.objectives if one.quantile == quantile]
    panel = Panel(
        title="Latency as the load rises",
        x_label="arrivals, items/s",
        y_label=f"{name}, ms, as far as each can serve",
        series=(*curves, *limits, *_chosen_point(plan, quantile, curves)),
        marks=(Mark(plan.rate, "the planned load"),),
        y_scale="log10",
    )
    return [panel]


def _quantile(plan: Plan) -> float:
    """Return the quantile to draw: that of the tightest objective which is one of those, or 0.99."""
    known = [one for one in plan.objectives if one.quantile in _NAMES]
    return min(known, key=lambda one: one.latency_s).quantile if known else 0.99


def over_load(points: Sequence[PointT], value_of: Callable[[PointT], float]) -> list[LineSeries]:
    """Draw a figure over the load, a line a setup, each up to where its queue grows without end.

    Args:
        points: Setups under loads.
        value_of: Gives the figure; what is infinite is left out.
    """
    lines = []
    for label in dict.fromkeys(point.label for point in points):
        own = sorted((point for point in points if point.label == label), key=lambda point: point.rate)
        served = [(point.rate, value_of(point)) for point in own if point.prediction.stable]
        known = [(rate, value) for rate, value in served if value < math.inf]
        if len(known) >= POINTS_TO_DRAW:
            x, y = [rate for rate, _ in known], [value for _, value in known]
            lines.append(LineSeries(label=label, x=x, y=y, strong=label == _PLAN))
    return lines


def _latency(prediction: Prediction, quantile: float) -> Interval:
    found: Interval = getattr(prediction, _NAMES[quantile])
    return found


def objective_line(limit_s: float, rate: float, curves: Sequence[LineSeries]) -> LineSeries:
    """Draw a time that is promised, as wide as curves over the load and the planned load are."""
    rates = [rate, *(rate for curve in curves for rate in curve.x)]
    return LineSeries(label="objective", x=[min(rates), max(rates)], y=[MS * limit_s] * 2, style="dashed")


def _chosen_point(plan: Plan, quantile: float, curves: Sequence[LineSeries]) -> Iterator[LineSeries]:
    """Draw what is predicted of the plan, in the colour of its curve where it has one, unless its queue has no end."""
    value = _latency(plan.prediction, quantile)
    if plan.prediction.stable and value.high < math.inf:
        tone = next((number for number, curve in enumerate(curves) if curve.label == _PLAN), None)
        yield LineSeries(
            label=_PLAN if tone is None else "",
            x=[plan.rate],
            y=[MS * value.value],
            low=[MS * value.low],
            high=[MS * value.high],
            style="points",
            tone=tone,
            strong=True,
        )


# ---------------------------------------------------------------------------------------------------- spread


def _spread(plan: Plan) -> list[Panel]:
    """Draw for each choice which share of its items is answered within a time."""
    rows = [row for row in plan.what_if if row.prediction is not None and _is_drawable(row.prediction)]
    shown = sorted(rows, key=lambda row: not row.chosen)[:_MOST_SPREADS]
    if not shown:
        return []
    panel = Panel(
        title="How soon items are answered",
        x_label="latency, ms",
        y_label="% answered within it",
        series=tuple(_distribution(row) for row in shown),
        marks=tuple(Mark(MS * one.latency_s, str(one)) for one in plan.objectives),
        x_scale="log10",
    )
    return [panel]


def _is_drawable(prediction: Prediction) -> bool:
    return prediction.stable and bool(prediction.latency_quantiles_s)


def _distribution(row: WhatIfRow) -> LineSeries:
    assert row.prediction is not None, "only rows that were simulated are drawn"
    values = row.prediction.latency_quantiles_s
    steps = len(values) - 1
    return LineSeries(
        label=_PLAN if row.chosen else row.name,
        x=[MS * value for value in values],
        y=[PERCENT * number / steps for number in range(len(values))],
        strong=row.chosen,
    )


# ---------------------------------------------------------------------------------------------------- memory


def _memory(trade: MemoryTrade | None) -> list[Panel]:
    if trade is None:
        return []
    return [*_largest_batches(trade), *_needs(trade)]


def _largest_batches(trade: MemoryTrade) -> Iterator[Panel]:
    """Draw the largest batch over the model's size, one line a length."""
    sizes = [one for one in trade.model_sizes if all(one.largest_batches)]
    if len(sizes) < POINTS_TO_DRAW:
        return
    yield Panel(
        title="Larger models leave less for batches",
        x_label="model, times this one",
        y_label="largest batch, dashed beyond what was probed",
        series=tuple(
            series
            for index, length in enumerate(trade.lengths)
            for series in _prolonged(
                f"{length} tokens" if length > 1 else "",
                [(one.scale, one.largest_batches[index]) for one in sizes],
                [one.largest_batches[index] <= trade.probed_batch_sizes[index] for one in sizes],
                index,
            )
        ),
        marks=(Mark(1.0, "this model"),),
        x_scale="log2",
        y_scale="log2",
    )


def _prolonged(
    label: str, points: Sequence[tuple[float, float]], probed: Sequence[bool], tone: int
) -> Iterator[LineSeries]:
    """Draw what was probed as a line, and dashed what lies beyond; the part that ends last has the label."""
    beyond = [not all(probed[max(0, number - 1) : number + 2]) for number in range(len(probed))]
    inside = [point for point, known in zip(points, probed, strict=True) if known]
    outside = [point for point, out in zip(points, beyond, strict=True) if out]
    parts = [part for part in (inside, outside) if len(part) >= POINTS_TO_DRAW]
    last = max(parts, key=lambda part: part[-1][0])
    for part in parts:
        yield LineSeries(
            label=label if part is last else "",
            x=[x for x, _ in part],
            y=[y for _, y in part],
            style="dashed" if part is outside else "line",
            tone=tone,
        )


def _needs(trade: MemoryTrade) -> Iterator[Panel]:
    """Draw what models of some sizes need over the batch size, beside what there is."""
    longest = len(trade.lengths) - 1
    scales = [one.scale for one in trade.model_sizes if one.scale >= 1 and one.largest_batches[longest]]
    sizes = [one.batch_size for one in trade.batch_sizes if one.largest_scales[longest] >= 1]
    if not scales or len(sizes) < POINTS_TO_DRAW:
        return
    at = f" at {trade.lengths[longest]} tokens" if trade.lengths[longest] > 1 else ""
    yield Panel(
        title=f"What a batch needs{at}",
        x_label="batch size",
        y_label="GiB, dashed beyond what was probed",
        series=(
            *(
                series
                for number, scale in enumerate(thinned(scales, _MOST_MODELS))
                for series in _prolonged(
                    f"{scale:g} x" if scale > 1 else "this model",
                    [(size, trade.memory_bytes(scale, size, longest) / _GIB) for size in sizes],
                    [size <= trade.probed_batch_sizes[longest] for size in sizes],
                    number,
                )
            ),
            LineSeries(
                label=format_bytes(trade.limit_bytes),
                x=[sizes[0], sizes[-1]],
                y=[trade.limit_bytes / _GIB] * 2,
                style="dashed",
            ),
        ),
        x_scale="log2",
        y_scale="log10",
    )
