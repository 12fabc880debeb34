"""A plan as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carpool.plan.figure_tables import (
    MS,
    PERCENT,
    choices_table,
    compared_table,
    figure,
    figures_table,
    intervals_table,
    span,
)
from carpool.plan.words import describe_setup
from carpool.report.table import Cell, Column, Table
from carpool.units import capitalised, format_bytes, format_count, format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from carpool.plan.figure_tables import Shown
    from carpool.plan.memory_trade import MemoryTrade
    from carpool.plan.plan import Plan
    from carpool.plan.search import Tried
    from carpool.plan.what_if import WhatIfRow
    from carpool.report.table import ColumnOf

_MOST_TRIED = 12

_FIGURES: tuple[Shown, ...] = (
    ("offered", "arrive", "items/s", 1.0),
    ("throughput", "answered", "items/s", 1.0),
    ("goodput", "goodput", "items/s", 1.0),
    ("attainment", "within every objective", "% of arrivals", PERCENT),
    ("p50_s", "median latency", "ms", MS),
    ("p95_s", "p95", "ms", MS),
    ("p99_s", "p99", "ms", MS),
    ("mean_s", "mean latency", "ms", MS),
    ("queue_delay_s", "mean wait for a batch", "ms", MS),
    ("compute_s", "mean time of a batch", "ms", MS),
    ("mean_batch_size", "mean batch", "items", 1.0),
    ("fill_ratio", "fill", "%", PERCENT),
    ("padding_waste", "padding", "%", PERCENT),
    ("utilisation", "utilisation", "%", PERCENT),
    ("refused", "refused", "% of arrivals", PERCENT),
    ("expired", "expired", "% of arrivals", PERCENT),
)


def prediction_table(plan: Plan) -> Table:
    """Everything that the plan is predicted to do, each figure with its interval."""
    found = plan.prediction
    endless = "More arrives than can be served: latencies grow for as long as it lasts, and hold for this window only."
    return figures_table(found, describe_setup(plan.chosen), _FIGURES, notes=() if found.stable else (endless,))


# ------------------------------------------------------------------------------------------------- what if


def _memory(row: WhatIfRow) -> Cell:
    return None if row.memory_bytes is None else format_bytes(row.memory_bytes)


def _cost(row: WhatIfRow) -> Cell:
    return None if row.cost_per_million is None else format_count(row.cost_per_million.value)


_WHAT_IF: tuple[ColumnOf[WhatIfRow], ...] = (
    (Column("workers"), lambda row: row.setup.num_workers),
    (Column("answered", "1/s", align="right"), figure("throughput")),
    (Column("goodput", "1/s", align="right"), figure("goodput")),
    (Column("p50", "ms", align="right"), figure("p50_s", MS)),
    (Column("p95", "ms", align="right"), figure("p95_s", MS)),
    (Column("p99", "ms", align="right"), figure("p99_s", MS)),
    (Column("batch", align="right"), figure("mean_batch_size")),
    (Column("busy", "%", align="right"), figure("utilisation", PERCENT)),
    (Column("memory", align="right"), _memory),
    (Column("cost", "per M", align="right"), _cost),
)


def what_if_table(plan: Plan) -> Table:
    """The same load served in other ways."""
    return choices_table(plan.what_if, _WHAT_IF, objectives=plan.objectives, notes=_what_if_notes(plan))


def _what_if_notes(plan: Plan) -> Iterator[str]:
    yield "Batch: mean size; busy: share of the workers' time in the model; memory: the most that one worker needs."
    yield from _windows(plan)
    if any(row.prediction is not None and not row.prediction.stable for row in plan.what_if):
        yield "Where there is no latency, more arrives than can be served, and the queue grows without end."
    for row in plan.what_if:
        said = row.why_not or row.assumes
        if said:
            yield f"{capitalised(row.name)}: {said}."
    price = plan.options.price_per_hour
    if price is not None:
        yield f"Cost: of a million answered items, at {price:g} an hour for each worker."


def _windows(plan: Plan) -> Iterator[str]:
    """Say where the rows, the plan's among them, rest on other windows than what is predicted of the plan alone."""
    found = next((row.prediction for row in plan.what_if if row.prediction is not None), plan.prediction)
    if (found.num_runs, found.window_s) != (plan.prediction.num_runs, plan.prediction.window_s):
        yield (
            f"Every row is from the same {found.num_runs} windows of {format_duration(found.window_s)}, and so the "
            "plan's row differs a little from what is predicted of it alone."
        )


_WITH_INTERVALS: tuple[Shown, ...] = (
    ("throughput", "answered", "1/s", 1.0),
    ("goodput", "goodput", "1/s", 1.0),
    ("p50_s", "p50", "ms", MS),
    ("p95_s", "p95", "ms", MS),
    ("p99_s", "p99", "ms", MS),
    ("mean_batch_size", "batch", "", 1.0),
    ("utilisation", "busy", "%", PERCENT),
)


def what_if_intervals(plan: Plan) -> Table:
    """The same rows with the interval of every figure."""
    return intervals_table(plan.what_if, _WITH_INTERVALS, (Column("cost", "per M", align="right"), _cost_span))


def _cost_span(row: WhatIfRow) -> Cell:
    return None if row.cost_per_million is None else span(row.cost_per_million, 1.0)


# ---------------------------------------------------------------------------------- what the search compared


def _wait(one: Tried) -> Cell:
    return one.setup.policy.max_wait_s * MS or None


def _buckets(one: Tried) -> Cell:
    return ", ".join(map(str, one.setup.policy.length_buckets)) or None


_TRIED: tuple[ColumnOf[Tried], ...] = (
    (Column("batches up to"), lambda one: one.setup.policy.max_batch_size),
    (Column("waiting up to", "ms"), _wait),
    (Column("token budget"), lambda one: one.setup.policy.token_budget),
    (Column("padded to", align="right"), _buckets),
    (Column("workers"), lambda one: one.setup.num_workers),
    (Column("objectives", align="right"), lambda one: str(one.verdict)),
    (Column("goodput", "1/s", align="right"), lambda one: span(one.prediction.goodput, 1.0)),
    (Column("p99", "ms", align="right"), lambda one: span(one.prediction.p99_s, MS)),
    (Column("windows"), lambda one: one.prediction.num_runs),
    (Column("as good", align="right"), lambda one: "yes" if one.tie else None),
)


def tried_table(plan: Plan) -> Table:
    """What the search compared, the plan first."""
    note = "As good: as far as these short windows can tell; the simpler one is then taken."
    return compared_table(plan.tried, plan.chosen, _TRIED, most=_MOST_TRIED, note=note)


# --------------------------------------------------------------------------------------------------- memory


def memory_tables(trade: MemoryTrade) -> tuple[Table, Table]:
    """The largest batch for each model, and the largest model for each batch."""
    lengths = [Column(f"{length} tokens" if length > 1 else "items", align="right") for length in trade.lengths]
    by_model = Table(
        f"The largest batch beside a model, in {format_bytes(trade.limit_bytes)}",
        (Column("model", align="right"), Column("weights", align="right"), *lengths),
        tuple(
            (f"{one.scale:g} x", format_bytes(one.weights_bytes), *(size or "none" for size in one.largest_batches))
            for one in trade.model_sizes
        ),
        notes=tuple(_memory_notes(trade)),
        highlight=next((number for number, one in enumerate(trade.model_sizes) if one.scale == 1), None),
        highlight_label="this model",
    )
    by_batch = Table(
        "The largest model beside a batch",
        (Column("batch"), *lengths),
        tuple((one.batch_size, *(_model(trade, scale) for scale in one.largest_scales)) for one in trade.batch_sizes),
    )
    return by_model, by_batch


def _model(trade: MemoryTrade, scale: float) -> str:
    return f"{scale:.3g} x, {format_bytes(scale * trade.weights_bytes)}" if scale else "none"


def _memory_notes(trade: MemoryTrade) -> Iterator[str]:
    held = f"{format_bytes(trade.other_bytes)} are held besides the weights, whatever the batch; " * bool(
        trade.other_bytes
    )
    adds = ", ".join(
        f"{format_bytes(item)} at {length} tokens" if length > 1 else format_bytes(item)
        for item, length in zip(trade.item_bytes, trade.lengths, strict=True)
    )
    yield f"{held}an item adds {adds}."
    yield "A larger model is taken to be deeper: more weights, and the same memory for an item."
    probed = [
        f"up to {size} at {length} tokens" if length > 1 else f"up to {size}"
        for size, length in zip(trade.probed_batch_sizes, trade.lengths, strict=True)
        if size
    ]
    missing = [f"{length}" for size, length in zip(trade.probed_batch_sizes, trade.lengths, strict=True) if not size]
    none = [f"not at all at {' or '.join(missing)} tokens"] if missing else []
    yield f"Batches were probed {', '.join([*probed, *none])}; beyond that the line is prolonged."
