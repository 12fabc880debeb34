"""A plan as a page."""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from carpool.plan.plots import pictures
from carpool.plan.slo import Verdict as Kept
from carpool.plan.tables import (
    memory_tables,
    prediction_table,
    tried_table,
    what_if_intervals,
    what_if_table,
)
from carpool.plan.words import describe_setup
from carpool.report.page import Details, KeyFigure, KeyFigures, Page, Section, Text, Verdict
from carpool.units import format_bytes, format_count, format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from carpool.plan.llm_plan import LlmPlan
    from carpool.plan.plan import Plan
    from carpool.plan.predict import Interval
    from carpool.report.plot import Picture

Tone = Literal["good", "warning", "bad", "neutral"]
_TONES: Mapping[Kept, Tone] = MappingProxyType({Kept.MET: "good", Kept.LIKELY: "warning", Kept.MISSED: "bad"})
_LABELS: Mapping[Kept, str] = MappingProxyType(
    {
        Kept.MET: "Every objective is kept",
        Kept.LIKELY: "Kept more often than not",
        Kept.MISSED: "Not every objective can be kept",
    }
)


def write_pages(plan: Plan, out: Path, footer: str = "", *, stem: str = "plan") -> list[Path]:
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
    return save_pages(build_page(plan, drawn, footer), drawn, out, stem)


def save_pages(page: Page, drawn: Mapping[str, Picture], out: Path, stem: str) -> list[Path]:
    """Write a page and its pictures, and return the files.

    Args:
        page: The page.
        drawn: Its pictures, by names that begin with `plan`.
        out: The directory; made where it is missing.
        stem: What the files' names begin with.
    """
    pictured = [one.save(out / f"{stem}{name.removeprefix('plan')}.png") for name, one in drawn.items()]
    return [page.save(out / f"{stem}.html"), *pictured]


def build_page(plan: Plan, drawn: Mapping[str, Picture], footer: str = "") -> Page:
    """Put the page together.

    Args:
        plan: What to show.
        drawn: Its pictures, by name.
        footer: Where the figures come from.
    """
    return Page(
        title=f"Plan for {plan.name}",
        lead=f"{describe_setup(plan.chosen).capitalize()}, for this load: {plan.workload}",
        sections=tuple(_sections(plan, drawn)),
        footer=footer,
    )


def _sections(plan: Plan, drawn: Mapping[str, Picture]) -> Iterator[Section]:
    yield KeyFigures(tuple(_figures(plan)))
    yield from _verdicts(plan)
    if "plan-latency" in drawn:
        yield drawn["plan-latency"]
    yield Text("What else could be done")
    yield what_if_table(plan)
    yield from _rest(plan)
    yield from _memory(plan, drawn)
    yield Details("Every figure with its interval", (prediction_table(plan), what_if_intervals(plan)))
    yield Details("What was compared", (tried_table(plan),))


def _figures(plan: Plan) -> Iterator[KeyFigure]:
    policy, found = plan.chosen.policy, plan.prediction
    wait = f"waiting up to {format_duration(policy.max_wait_s)}" if policy.max_wait_s else "never waiting for company"
    yield KeyFigure("Batches of up to", str(policy.max_batch_size), "items", wait if policy.max_batch_size > 1 else "")
    yield KeyFigure("Workers", str(plan.chosen.num_workers), "", _busy(found.utilisation))
    yield KeyFigure("Answered", format_count(found.throughput.value), "/s", f"of {format_count(found.offered.value)}/s")
    if found.stable:
        for name, value in (("Median latency", found.p50_s), ("p99", found.p99_s)):
            yield time_figure(name, value)
    price = next((row.cost_per_million for row in plan.what_if if row.chosen and row.cost_per_million), None)
    if price is not None:
        yield KeyFigure("A million items", f"{price.value:.3g}", "", f"{price.low:.3g} to {price.high:.3g}")


def _busy(value: Interval) -> str:
    return f"busy {value.value:.0%} of the time ({value.low:.0%} to {value.high:.0%})"


def time_figure(name: str, value: Interval) -> KeyFigure:
    """Show a time with its interval."""
    if not math.isfinite(value.value):
        return KeyFigure(name, "none", "", "nothing is answered")
    number, _, unit = format_duration(value.value).partition(" ")
    return KeyFigure(name, number, unit, f"{format_duration(value.low)} to {format_duration(value.high)}")


def _verdicts(plan: Plan) -> Iterator[Section]:
    """Say whether the objectives are kept, whether batching belongs here, and what to doubt."""
    yield from whether_kept(plan, _about_objectives(plan))
    belongs = plan.belongs
    label = "Batching belongs here" if belongs.answer else "Batching does not belong here"
    yield Verdict(belongs.why, "good" if belongs.answer else "neutral", label=label)
    yield from what_to_doubt(plan)


def whether_kept(plan: Plan | LlmPlan, details: tuple[str, ...]) -> Iterator[Verdict]:
    """Say whether the objectives are kept; without any, whether the load is carried.

    Args:
        plan: What is promised.
        details: Sentences on that.
    """
    tone = _TONES[plan.verdict]
    if plan.objectives:
        promised = f"Promised: {', '.join(map(str, plan.objectives))}."
        yield Verdict(promised, tone, details, label=_LABELS[plan.verdict])
    elif plan.verdict is not Kept.MET:
        yield Verdict("Not all that arrives is answered.", tone, details, label="The load is too high")


def what_to_doubt(plan: Plan | LlmPlan) -> Iterator[Verdict]:
    """Say what makes a plan's figures less sure."""
    if plan.doubts:
        yield Verdict("These figures are less sure than they look.", "warning", plan.doubts, label="Mind this")


def _rest(plan: Plan) -> Iterator[Text]:
    """Give the sentences that no verdict has said."""
    said = (*_about_objectives(plan), plan.belongs.why)
    rest = tuple(sentence for sentence in plan.sentences if not any(known in sentence for known in said))
    if rest:
        yield Text("What this means", rest)


def _about_objectives(plan: Plan) -> tuple[str, ...]:
    return (*(gap.sentence for gap in plan.gaps), *(plan.nearest.sentences if plan.nearest else ()))


def _memory(plan: Plan, drawn: Mapping[str, Picture]) -> Iterator[Section]:
    trade = plan.memory_trade
    if trade is None:
        return
    takes = f"This model's weights take {format_bytes(trade.weights_bytes)} of {format_bytes(trade.limit_bytes)}"
    yield Text(
        "Memory: a larger model, or larger batches",
        (f"{takes}. What a larger model takes is no longer there for batches.",),
    )
    if "plan-memory" in drawn:
        yield drawn["plan-memory"]
    yield Details("The largest batch for each model, and the largest model for each batch", memory_tables(trade))
