"""A plan for a model that generates as a page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carpool.plan.llm_plots import pictures
from carpool.plan.llm_tables import memory_table, prediction_table, tried_table, what_if_intervals, what_if_table
from carpool.plan.page import save_pages, time_figure, what_to_doubt, whether_kept
from carpool.report.page import Details, KeyFigure, KeyFigures, Page, Section, Text
from carpool.units import capitalised, format_bytes, format_count

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from carpool.plan.llm_plan import LlmPlan
    from carpool.report.plot import Picture


def write_pages(plan: LlmPlan, out: Path, footer: str = "", *, stem: str = "plan") -> list[Path]:
    """Write `plan.html`, and its pictures as PNG.

    Args:
        plan: What to write.
        out: The directory; made where it is missing.
        footer: Where the figures come from.
        stem: What the files' names begin with.

    Returns:
        The files written.
    """
    drawn = pictures(plan)
    page = Page(
        title=f"Plan for {plan.name}",
        lead=f"{capitalised(plan.chosen.describe())}, for this load: {plan.workload}",
        sections=tuple(_sections(plan, drawn)),
        footer=footer,
    )
    return save_pages(page, drawn, out, stem)


def _sections(plan: LlmPlan, drawn: Mapping[str, Picture]) -> Iterator[Section]:
    yield KeyFigures(tuple(_figures(plan)))
    kept = [one for one in plan.sentences if any(str(objective) in one for objective in plan.objectives)]
    yield from whether_kept(plan, tuple(kept))
    yield from what_to_doubt(plan)
    shown = list(drawn.values())
    yield from shown[:1]
    yield Text("What else could be done")
    yield what_if_table(plan)
    yield Text("What this means", plan.sentences)
    yield from shown[1:]
    yield Details("Every figure with its interval", (prediction_table(plan), what_if_intervals(plan)))
    yield Details("What was compared, and memory", (tried_table(plan), memory_table(plan)))


def _figures(plan: LlmPlan) -> Iterator[KeyFigure]:
    policy, found = plan.chosen.policy, plan.prediction
    yield KeyFigure("Slots", str(policy.num_slots), "", f"{policy.token_budget:,} tokens in a step at most")
    yield KeyFigure("KV cache", format_bytes(plan.kv_bytes), "", f"{found.kv_peak.value:.0%} held at most")
    answered = f"of {format_count(found.offered.value)}/s; {format_count(found.output_rate.value)} tokens/s"
    yield KeyFigure("Answered", format_count(found.throughput.value), "/s", answered)
    if found.stable:
        yield time_figure("p99 TTFT", found.ttft_p99_s)
        yield time_figure("p99 TPOT", found.tpot_p99_s)
        yield time_figure("p99 ITL", found.itl_p99_s)
