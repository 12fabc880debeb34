"""A plan as tables."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from carpool.plan.words import describe_setup
from carpool.report.table import Cell, Column, Table
from carpool.units import format_bytes, format_count, format_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from carpool.plan.llm_predict import LlmPrediction
    from carpool.plan.memory_trade import MemoryTrade
    from carpool.plan.plan import Plan
    from carpool.plan.predict import Interval, Prediction
    from carpool.plan.search import Tried
    from carpool.plan.what_if import WhatIfRow

MS, PERCENT = 1e3, 100.0
# Where the queue grows without end, what an item waits says only how long one looked.
_ENDLESS = frozenset({"mean_s", "p50_s", "p95_s", "p99_s", "queue_delay_s"})
_MOST_TRIED = 12

# Figures of a prediction: name, words, unit, and what a figure is multiplied with to be shown.
_FIGURES: tuple[tuple[str, str, str, float], ...] = (
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
_ALWAYS = frozenset(name for name, *_ in _FIGURES) - {"attainment", "refused", "expired", "padding_waste"}


def prediction_table(plan: Plan) -> Table:
    """Everything that the plan is predicted to do, each figure with its interval."""
    found = plan.prediction
    rows: list[tuple[Cell, ...]] = []
    for name, words, unit, factor in _FIGURES:
        value: Interval = getattr(found, name)
        if name in _ALWAYS or value.high > 0:
            rows.append((words, unit, number(value.value, factor), span(value, factor)))
    return Table(
        f"Predicted for {describe_setup(plan.chosen)}",
        (Column("figure"), Column("unit"), Column("value", align="right"), Column("90 % interval", align="right")),
        tuple(rows),
        notes=(how_sure(found), *_unstable(found)),
    )


def how_sure(found: Prediction | LlmPrediction) -> str:
    """Say what figures rest on, and what their intervals hold."""
    windows = f"{found.num_runs} simulated windows of {format_duration(found.window_s)}"
    return (
        f"From {windows}. Nine measurements of that length in ten should lie in the interval: it holds chance and the "
        "cost model's error."
    )


def _unstable(found: Prediction) -> Iterator[str]:
    if not found.stable:
        yield "More arrives than can be served: latencies grow for as long as it lasts, and hold for this window only."


def number(value: float, factor: float) -> str:
    """Write a figure, multiplied to be in its unit."""
    return "none" if not math.isfinite(value) else format_count(value * factor)


def span(value: Interval, factor: float) -> str:
    """Write an interval, multiplied to be in its unit."""
    return f"{number(value.low, factor)} to {number(value.high, factor)}"


# ------------------------------------------------------------------------------------------------- what if

# A column of the what-if table, and what a row has in it; None everywhere leaves the column out.
_CellOf = tuple[Column, "Callable[[WhatIfRow], Cell]"]


def _figure(name: str, factor: float = 1.0) -> Callable[[WhatIfRow], Cell]:
    """Read one figure of a row; nothing where there is none, or where it says nothing."""

    def read(row: WhatIfRow) -> Cell:
        value = _interval_of(row, name)
        return None if value is None else format_count(value.value * factor)

    return read


def _interval_of(row: WhatIfRow, name: str) -> Interval | None:
    found = row.prediction
    if found is None or (name in _ENDLESS and not found.stable):
        return None
    value: Interval = getattr(found, name)
    return value if math.isfinite(value.value) else None


def _memory(row: WhatIfRow) -> Cell:
    return None if row.memory_bytes is None else format_bytes(row.memory_bytes)


def _cost(row: WhatIfRow) -> Cell:
    return None if row.cost_per_million is None else format_count(row.cost_per_million.value)


_WHAT_IF: tuple[_CellOf, ...] = (
    (Column("workers"), lambda row: row.setup.num_workers),
    (Column("answered", "1/s", align="right"), _figure("throughput")),
    (Column("goodput", "1/s", align="right"), _figure("goodput")),
    (Column("p50", "ms", align="right"), _figure("p50_s", MS)),
    (Column("p95", "ms", align="right"), _figure("p95_s", MS)),
    (Column("p99", "ms", align="right"), _figure("p99_s", MS)),
    (Column("batch", align="right"), _figure("mean_batch_size")),
    (Column("busy", "%", align="right"), _figure("utilisation", PERCENT)),
    (Column("memory", align="right"), _memory),
    (Column("cost", "per M", align="right"), _cost),
)


def what_if_table(plan: Plan) -> Table:
    """The same load served in other ways."""
    columns = [one for one in _WHAT_IF if any(one[1](row) is not None for row in plan.what_if)]
    if not plan.objectives:  # without any, goodput is what is answered
        columns = [one for one in columns if one[0].title != "goodput"]
    return Table(
        "The same load served in other ways",
        (Column("choice"), *(column for column, _ in columns)),
        tuple((row.name, *(cell(row) for _, cell in columns)) for row in plan.what_if),
        notes=tuple(_what_if_notes(plan)),
        highlight=next((number for number, row in enumerate(plan.what_if) if row.chosen), None),
        highlight_label="plan",
    )


def _what_if_notes(plan: Plan) -> Iterator[str]:
    yield "Batch: mean size; busy: share of the workers' time in the model; memory: the most that one worker needs."
    yield from _windows(plan)
    if any(row.prediction is not None and not row.prediction.stable for row in plan.what_if):
        yield "Where there is no latency, more arrives than can be served, and the queue grows without end."
    for row in plan.what_if:
        said = row.why_not or row.assumes
        if said:
            yield f"{row.name[:1].upper()}{row.name[1:]}: {said}."
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


def what_if_intervals(plan: Plan) -> Table:
    """The same rows with the interval of every figure."""
    names = (
        ("throughput", "answered", "1/s", 1.0),
        ("goodput", "goodput", "1/s", 1.0),
        ("p50_s", "p50", "ms", MS),
        ("p95_s", "p95", "ms", MS),
        ("p99_s", "p99", "ms", MS),
        ("mean_batch_size", "batch", "", 1.0),
        ("utilisation", "busy", "%", PERCENT),
    )
    priced = any(row.cost_per_million for row in plan.what_if)
    rows = []
    for row in plan.what_if:
        values = [_interval_of(row, name) for name, *_ in names]
        cells = [None if one is None else span(one, factor) for one, (*_, factor) in zip(values, names, strict=True)]
        cost = None if row.cost_per_million is None else span(row.cost_per_million, 1.0)
        rows.append((row.name, *cells, *([cost] if priced else [])))
    return Table(
        "The same with 90 % intervals",
        (
            Column("choice"),
            *(Column(words, unit, align="right") for _, words, unit, _ in names),
            *([Column("cost", "per M", align="right")] if priced else []),
        ),
        tuple(rows),
    )


# ---------------------------------------------------------------------------------- what the search compared


# A column of the table of what was compared, and what an entry has in it; None everywhere leaves the column out.
_TriedCellOf = tuple[Column, "Callable[[Tried], Cell]"]


def _wait(one: Tried) -> Cell:
    return one.setup.policy.max_wait_s * MS or None


def _buckets(one: Tried) -> Cell:
    return ", ".join(map(str, one.setup.policy.length_buckets)) or None


_TRIED: tuple[_TriedCellOf, ...] = (
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
    tried = plan.tried[:_MOST_TRIED]
    columns = [one for one in _TRIED if any(one[1](entry) is not None for entry in tried)]
    left_out = len(plan.tried) - len(tried)
    return Table(
        "What was compared, the best first",
        tuple(column for column, _ in columns),
        tuple(tuple(cell(entry) for _, cell in columns) for entry in tried),
        notes=(
            "As good: as far as these short windows can tell; the simpler one is then taken.",
            *((f"{left_out} more were compared.",) if left_out else ()),
        ),
        highlight=next((number for number, one in enumerate(tried) if one.setup == plan.chosen), None),
        highlight_label="plan",
    )


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
