"""A training plan as a page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carpool.report.page import Details, KeyFigure, KeyFigures, Page, Section, Text, Verdict
from carpool.train.planning.plots import pictures
from carpool.train.planning.tables import probes_table, scaling_table, times_table, trade_off_table
from carpool.units import counted, format_bytes, format_count, format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from carpool.report.plot import Picture
    from carpool.train.planning.plan import TrainPlan


def write_pages(plan: TrainPlan, file: Path, footer: str = "") -> list[Path]:
    """Write the page, and its pictures beside it as PNG.

    Args:
        plan: what to write.
        file: the page; its directory is made where it is missing.
        footer: where the figures come from.

    Returns:
        The files written.
    """
    drawn = pictures(plan)
    page = build_page(plan, drawn, footer).save(file)
    stems = {name: name.replace("train-plan", file.stem, 1) for name in drawn}
    return [page, *(one.save(file.with_name(f"{stems[name]}.png")) for name, one in drawn.items())]


def build_page(plan: TrainPlan, drawn: Mapping[str, Picture], footer: str = "") -> Page:
    """Put the page together.

    Args:
        plan: what to show.
        drawn: its pictures, by name.
        footer: where the figures come from.
    """
    return Page(
        title=f"Training plan for {plan.name}",
        lead=plan.sentences[0] if plan.sentences else "",
        sections=tuple(_sections(plan, drawn)),
        footer=footer,
    )


def _sections(plan: TrainPlan, drawn: Mapping[str, Picture]) -> Iterator[Section]:
    yield KeyFigures(tuple(_figures(plan)))
    if plan.doubts:
        yield Verdict("These figures are less sure than they look.", "warning", plan.doubts, label="Mind this")
    yield trade_off_table(plan)
    yield from drawn.values()
    yield Text("What this means", plan.sentences[1:])
    scaling = scaling_table(plan)
    if scaling is not None:
        yield scaling
    times = times_table(plan)
    yield Details("What was measured", (probes_table(plan), *((times,) if times is not None else ())))


def _figures(plan: TrainPlan) -> Iterator[KeyFigure]:
    row, found = plan.chosen, plan.micro_batch
    steps = counted(row.plan.num_accumulation_steps, "micro-batch")
    yield KeyFigure("Micro-batch", f"{row.plan.micro_batch_size:,}", "items", f"{steps} a step; {found.size:,} fit")
    if row.memory_bytes is not None:
        yield KeyFigure("Memory", format_bytes(row.memory_bytes), "", f"of {format_bytes(found.limit_bytes)}")
    yield _time("Step", row.step_s, f"{format_count(row.items_per_s)} items/s")
    yield _time("Epoch", row.epoch_s, counted(row.num_steps, "step"))
    if row.learning_rate is not None:
        note = f"chosen for {plan.base_batch_size:,}, scaled" if plan.base_batch_size else ""
        yield KeyFigure("Learning rate", f"{row.learning_rate:.3g}", "", note)
    if plan.noise is not None:
        known = f"{format_count(plan.noise.low)} to {format_count(plan.noise.high)}"
        yield KeyFigure("Noise scale", format_count(plan.noise.scale), "items", known)


def _time(label: str, seconds: float, note: str) -> KeyFigure:
    value, _, unit = format_duration(seconds).partition(" ")
    return KeyFigure(label, value, unit, note)
