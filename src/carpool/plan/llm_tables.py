"""A plan for a model that generates as tables."""

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
from carpool.report.table import Column, Table
from carpool.units import capitalised, format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from carpool.plan.figure_tables import Shown
    from carpool.plan.llm_plan import LlmPlan
    from carpool.plan.llm_search import LlmTried
    from carpool.plan.llm_what_if import LlmRow
    from carpool.report.table import ColumnOf

_MOST_TRIED = 14

_FIGURES: tuple[Shown, ...] = (
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


def prediction_table(plan: LlmPlan) -> Table:
    """Everything that the plan is predicted to do, each figure with its interval."""
    found = plan.prediction
    endless = "More arrives than can be served: times grow for as long as it lasts, and hold for this window only."
    words = "TTFT: arrival to the first token; ITL: each time between two tokens; TPOT: its mean over one answer."
    notes = (words,) if found.stable else (words, endless)
    return figures_table(found, plan.chosen.describe(), _FIGURES, notes=notes)


_WHAT_IF: tuple[ColumnOf[LlmRow], ...] = (
    (Column("answered", "1/s", align="right"), figure("throughput")),
    (Column("goodput", "1/s", align="right"), figure("goodput")),
    (Column("tokens/s", align="right"), figure("output_rate")),
    (Column("TTFT p50", "ms", align="right"), figure("ttft_p50_s", MS)),
    (Column("p99", "ms", align="right"), figure("ttft_p99_s", MS)),
    (Column("TPOT p50", "ms", align="right"), figure("tpot_p50_s", MS)),
    (Column("p99", "ms", align="right"), figure("tpot_p99_s", MS)),
    (Column("ITL p99", "ms", align="right"), figure("itl_p99_s", MS)),
    (Column("batch", align="right"), figure("mean_batch")),
    (Column("KV", "%", align="right"), figure("kv_peak", PERCENT)),
    (Column("busy", "%", align="right"), figure("utilisation", PERCENT)),
)


def what_if_table(plan: LlmPlan) -> Table:
    """The same load served in other ways."""
    return choices_table(plan.what_if, _WHAT_IF, objectives=plan.objectives, notes=_what_if_notes(plan))


def _what_if_notes(plan: LlmPlan) -> Iterator[str]:
    yield "Batch: sequences in a step, on average; KV: the most of the cache that was held; busy: time spent in steps."
    yield "Continuous batching is first taken with prompts whole and without a prefix cache; then with both, in turn."
    if any(row.prediction is None or not row.prediction.stable for row in plan.what_if):
        yield "Where there is no TTFT, more arrives than can be served, and the queue grows without end."
    for row in plan.what_if:
        if row.assumes:
            yield f"{capitalised(row.name)}: {row.assumes}."


_WITH_INTERVALS: tuple[Shown, ...] = (
    ("throughput", "answered", "1/s", 1.0),
    ("goodput", "goodput", "1/s", 1.0),
    ("ttft_p50_s", "TTFT p50", "ms", MS),
    ("ttft_p99_s", "TTFT p99", "ms", MS),
    ("tpot_p99_s", "TPOT p99", "ms", MS),
    ("itl_p99_s", "ITL p99", "ms", MS),
    ("kv_peak", "KV", "%", PERCENT),
)


def what_if_intervals(plan: LlmPlan) -> Table:
    """The same rows with the interval of every figure."""
    return intervals_table(plan.what_if, _WITH_INTERVALS)


_TRIED: tuple[ColumnOf[LlmTried], ...] = (
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
    note = f"Each in the same {plan.tried[0].prediction.num_runs} short windows." if plan.tried else ""
    return compared_table(plan.tried, plan.chosen, _TRIED, most=_MOST_TRIED, note=note)


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
