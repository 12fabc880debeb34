"""A plan for a model that generates as tables."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from carpool.plan.tables import how_sure, number, span
from carpool.report.table import Cell, Column, Table
from carpool.units import format_bytes, format_count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from carpool.plan.llm_plan import LlmPlan
    from carpool.plan.llm_predict import LlmPrediction
    from carpool.plan.llm_search import LlmTried
    from carpool.plan.llm_what_if import LlmRow
    from carpool.plan.predict import Interval

MS, PERCENT = 1e3, 100.0
# Where the queue grows without end, what a request waits says only how long one looked.
_ENDLESS = frozenset({"ttft_p50_s", "ttft_p99_s", "latency_p50_s", "latency_p99_s"})
_MOST_TRIED = 14

# Figures of a prediction: name, words, unit, and what a figure is multiplied with to be shown.
_FIGURES: tuple[tuple[str, str, str, float], ...] = (
    ("offered", "arrive", "requests/s", 1.0),
    ("throughput", "answered", "requests/s", 1.0),
    ("goodput", "goodput", "requests/s", 1.0),
    ("attainment", "within every objective", "% of arrivals", PERCENT),
    ("output_rate", "generated", "tokens/s", 1.0),
    ("ttft_p50_s", "median TTFT", "ms", MS),
    ("ttft_p99_s", "p99 TTFT", "ms", MS),
    ("tpot_p50_s", "median TPOT", "ms", MS),
    ("tpot_p99_s", "p99 TPOT", "ms", MS),
    ("itl_p50_s", "median ITL", "ms", MS),
    ("itl_p99_s", "p99 ITL", "ms", MS),
    ("latency_p50_s", "median time to the last token", "s", 1.0),
    ("latency_p99_s", "p99 of that", "s", 1.0),
    ("mean_batch", "sequences in a step", "", 1.0),
    ("mean_tokens", "tokens in a step", "", 1.0),
    ("kv_usage", "KV held on average", "%", PERCENT),
    ("kv_peak", "KV held at most", "%", PERCENT),
    ("preemptions", "computed anew", "per 100 requests", PERCENT),
    ("prefix_hits", "found in the prefix cache", "% of prompts", PERCENT),
    ("utilisation", "utilisation", "%", PERCENT),
    ("refused", "refused", "% of arrivals", PERCENT),
)
_WHERE_ANY = frozenset({"attainment", "preemptions", "prefix_hits", "refused"})


def prediction_table(plan: LlmPlan) -> Table:
    """Everything that the plan is predicted to do, each figure with its interval."""
    found = plan.prediction
    rows: list[tuple[Cell, ...]] = []
    for name, words, unit, factor in _FIGURES:
        value: Interval = getattr(found, name)
        if name not in _WHERE_ANY or value.high > 0:
            rows.append((words, unit, number(value.value, factor), span(value, factor)))
    unstable = "More arrives than can be served: times grow for as long as it lasts, and hold for this window only."
    return Table(
        f"Predicted for {plan.chosen.describe()}",
        (Column("figure"), Column("unit"), Column("value", align="right"), Column("90 % interval", align="right")),
        tuple(rows),
        notes=(
            how_sure(found),
            "TTFT: arrival to the first token; ITL: each time between two tokens; TPOT: its mean over one answer.",
            *(() if found.stable else (unstable,)),
        ),
    )


# A column of the what-if table, and what a row has in it; None everywhere leaves the column out.
_CellOf = tuple[Column, "Callable[[LlmRow], Cell]"]


def _figure(name: str, factor: float = 1.0) -> Callable[[LlmRow], Cell]:
    """Read one figure of a row; nothing where there is none, or where it says nothing."""

    def read(row: LlmRow) -> Cell:
        value = _interval_of(row.prediction, name)
        return None if value is None else format_count(value.value * factor)

    return read


def _interval_of(found: LlmPrediction | None, name: str) -> Interval | None:
    if found is None or (name in _ENDLESS and not found.stable):
        return None
    value: Interval = getattr(found, name)
    return value if math.isfinite(value.value) else None


_WHAT_IF: tuple[_CellOf, ...] = (
    (Column("answered", "1/s", align="right"), _figure("throughput")),
    (Column("goodput", "1/s", align="right"), _figure("goodput")),
    (Column("tokens/s", align="right"), _figure("output_rate")),
    (Column("TTFT p50", "ms", align="right"), _figure("ttft_p50_s", MS)),
    (Column("p99", "ms", align="right"), _figure("ttft_p99_s", MS)),
    (Column("TPOT p50", "ms", align="right"), _figure("tpot_p50_s", MS)),
    (Column("p99", "ms", align="right"), _figure("tpot_p99_s", MS)),
    (Column("ITL p99", "ms", align="right"), _figure("itl_p99_s", MS)),
    (Column("batch", align="right"), _figure("mean_batch")),
    (Column("KV", "%", align="right"), _figure("kv_peak", PERCENT)),
    (Column("busy", "%", align="right"), _figure("utilisation", PERCENT)),
)


def what_if_table(plan: LlmPlan) -> Table:
    """The same load served in other ways."""
    columns = [one for one in _WHAT_IF if plan.objectives or one[0].title != "goodput"]
    return Table(
        "The same load served in other ways",
        (Column("choice"), *(column for column, _ in columns)),
        tuple((row.name, *(cell(row) for _, cell in columns)) for row in plan.what_if),
        notes=tuple(_what_if_notes(plan)),
        highlight=next((place for place, row in enumerate(plan.what_if) if row.chosen), None),
        highlight_label="plan",
    )


def _what_if_notes(plan: LlmPlan) -> Iterator[str]:
    yield "Batch: sequences in a step, on average; KV: the most of the cache that was held; busy: time spent in steps."
    yield "Continuous batching is first taken with prompts whole and without a prefix cache; then with both, in turn."
    if any(row.prediction is None or not row.prediction.stable for row in plan.what_if):
        yield "Where there is no TTFT, more arrives than can be served, and the queue grows without end."
    for row in plan.what_if:
        if row.assumes:
            yield f"{row.name[:1].upper()}{row.name[1:]}: {row.assumes}."


def what_if_intervals(plan: LlmPlan) -> Table:
    """The same rows with the interval of every figure."""
    names = (
        ("throughput", "answered", "1/s", 1.0),
        ("goodput", "goodput", "1/s", 1.0),
        ("ttft_p50_s", "TTFT p50", "ms", MS),
        ("ttft_p99_s", "TTFT p99", "ms", MS),
        ("tpot_p99_s", "TPOT p99", "ms", MS),
        ("itl_p99_s", "ITL p99", "ms", MS),
        ("kv_peak", "KV", "%", PERCENT),
    )
    rows = []
    for row in plan.what_if:
        values = [_interval_of(row.prediction, name) for name, *_ in names]
        rows.append(
            (
                row.name,
                *(None if one is None else span(one, factor) for one, (*_, factor) in zip(values, names, strict=True)),
            )
        )
    return Table(
        "The same with 90 % intervals",
        (Column("choice"), *(Column(words, unit, align="right") for _, words, unit, _ in names)),
        tuple(rows),
    )


# A column of the table of what was compared, and what an entry has in it.
_TriedCellOf = tuple[Column, "Callable[[LlmTried], Cell]"]
_TRIED: tuple[_TriedCellOf, ...] = (
    (Column("slots"), lambda one: one.setup.policy.num_slots),
    (Column("token budget"), lambda one: one.setup.policy.token_budget),
    (Column("workers"), lambda one: one.setup.num_workers),
    (Column("objectives", align="right"), lambda one: str(one.verdict)),
    (Column("goodput", "1/s", align="right"), lambda one: span(one.prediction.goodput, 1.0)),
    (Column("TTFT p99", "ms", align="right"), lambda one: span(one.prediction.ttft_p99_s, MS)),
    (Column("TPOT p99", "ms", align="right"), lambda one: span(one.prediction.tpot_p99_s, MS)),
)


def tried_table(plan: LlmPlan) -> Table:
    """What the search compared, the plan first."""
    tried = plan.tried[:_MOST_TRIED]
    left_out = len(plan.tried) - len(tried)
    windows = f"Each in the same {tried[0].prediction.num_runs} short windows." if tried else ""
    return Table(
        "What was compared, the best first",
        tuple(column for column, _ in _TRIED),
        tuple(tuple(cell(entry) for _, cell in _TRIED) for entry in tried),
        notes=(windows, *((f"{left_out} more were compared.",) if left_out else ())),
        highlight=next((place for place, one in enumerate(tried) if one.setup == plan.chosen), None),
        highlight_label="plan",
    )


def memory_table(plan: LlmPlan) -> Table:
    """What the plan needs of memory."""
    tokens = plan.chosen.num_blocks * plan.chosen.policy.block_size
    enough = round(tokens * plan.enough_kv_bytes / plan.kv_bytes)
    return Table(
        "Keys and values",
        (Column("what"), Column("memory", align="right"), Column("tokens")),
        (
            ("the plan's", format_bytes(plan.kv_bytes), tokens),
            ("as good, by halves", format_bytes(plan.enough_kv_bytes), enough),
        ),
    )
