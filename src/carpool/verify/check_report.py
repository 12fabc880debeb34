"""A check as tables, a picture and a page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from carpool.plan.words import describe_setup
from carpool.report.page import KeyFigure, KeyFigures, Page, Text, Verdict
from carpool.report.plot import LineSeries, Panel, Picture, figure
from carpool.report.table import Cell, Column, Table
from carpool.units import counted, format_count, format_duration
from carpool.verify.beside import KINDS, Beside, beside, beside_objectives, shown
from carpool.verify.explain import typical
from carpool.verify.measured import measured_figures, shares_within
from carpool.verify.reasons import TOLERANCES_PCT, doubts, reasons, signed, verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from carpool.verify.check import Check


def rows_of(check: Check) -> tuple[Beside, ...]:
    """Put every figure that was predicted beside what was measured."""
    prediction, windows = check.findings.prediction, [one.window for one in check.findings.observed]
    return (
        *beside(prediction, [measured_figures(window, check.setup, check.objectives) for window in windows]),
        *beside_objectives(prediction, [shares_within(window, check.objectives) for window in windows]),
    )


def table(check: Check, rows: Sequence[Beside]) -> Table:
    """Show predicted beside measured."""
    num = len(check.findings.observed)
    several = num > 1
    return Table(
        "Predicted beside measured",
        (
            Column("figure"),
            Column("unit"),
            Column("predicted", align="right"),
            Column("90 % interval", align="right"),
            Column(f"measured, median of {num}" if several else "measured", align="right"),
            Column("error", "%", align="right"),
            Column("inside", align="right"),
        ),
        tuple(_row(row, several=several) for row in shown(rows)),
        notes=tuple(_notes(check)),
    )


def _row(row: Beside, *, several: bool) -> tuple[Cell, ...]:
    predicted, scale = row.predicted, row.kind.scale
    low, high = (format_count(value * scale) for value in (predicted.low, predicted.high))
    return (
        row.kind.label,
        row.kind.unit,
        format_count(predicted.value * scale),
        f"{low} to {high}",
        format_count(row.value * scale),
        f"{row.error_pct:.1f}" if several else f"{row.errors_pct[0]:+.1f}",
        f"{sum(row.inside)} of {len(row.inside)}" if several else ("yes" if row.inside[0] else "no"),
    )


def _notes(check: Check) -> Iterator[str]:
    findings, options = check.findings, check.options
    windows = counted(len(findings.observed), "window")
    yield f"Served: {describe_setup(check.setup)}. Load: {check.workload.describe()}"
    yield (
        f"Measured in {windows} of {format_duration(options.duration_s)}; predicted from "
        f"{findings.prediction.num_runs} simulated ones: nine measurements in ten should lie in the interval."
    )
    size = "; of several windows the median of its size" if len(findings.observed) > 1 else ""
    yield f"Error: predicted over measured, less 1{size}."
    yield _expected(check)


def _expected(check: Check) -> str:
    """Say what the single client found, and what of it the prediction assumes."""
    expected, pace = check.findings.expected, check.findings.alone.pace
    way = f"the way to the batcher and back takes {format_duration(expected.transport_s)}"
    if pace is None or check.options.as_profiled:
        return f"From one client alone the prediction knows that {way}; batches take what the profile says."
    return (
        f"From one client alone the prediction knows that {way}, and batches {pace:.2f} times as long as the profile "
        "says."
    )


def steps_table(check: Check) -> Table:
    """Show where the differences come from."""
    found = typical([one.steps for one in check.findings.observed])
    rows: list[tuple[Cell, ...]] = []
    for one in found:
        kind = KINDS[one.name]
        predicted, measured = (format_count(value * kind.scale) for value in (one.predicted, one.measured))
        parts = (signed(part * kind.scale) for part in one.parts)
        rows.append((kind.label, kind.unit, predicted, *parts, measured))
    titles = ("predicted", "these arrivals", "pace of batches", "way there and back", "unexplained", "measured")
    return Table(
        "Where the difference comes from",
        (Column("figure"), Column("unit"), *(Column(title, align="right") for title in titles)),
        tuple(rows),
        notes=("Simulated again with what really happened in place of what was assumed, one thing after the other.",),
    )


def picture(check: Check) -> Picture:
    """Draw what share of the requests was answered within a time, predicted and measured."""
    shares = np.linspace(0, 100, 101).tolist()
    series = []
    predicted = check.findings.prediction.latency_quantiles_s
    if predicted:
        series.append(LineSeries(label="predicted", x=[1e3 * value for value in predicted], y=shares))
    for number, one in enumerate(check.findings.observed):
        latencies_s = one.window.load.latency_s[one.window.load.ok]
        if len(latencies_s):
            x = (1e3 * np.quantile(latencies_s, np.linspace(0, 1, 101))).tolist()
            label = "" if number else "measured"
            series.append(LineSeries(label=label, x=x, y=shares, style="dashed", tone=1))
    return figure(
        (
            Panel(
                title="How soon requests are answered",
                x_label="latency, ms",
                y_label="% answered within it",
                series=tuple(series),
                x_scale="log10",
            ),
        ),
        title="Predicted and measured latency",
    )


def write_page(check: Check, rows: Sequence[Beside], out: Path) -> list[Path]:
    """Write verify.html and verify.png to a folder; return their paths."""
    drawn = picture(check)
    return [page(check, rows, drawn).save(out / "verify.html"), drawn.save(out / "verify.png")]


def page(check: Check, rows: Sequence[Beside], drawn: Picture) -> Page:
    """Put the page together."""
    tone, said = verdict(rows)
    by_name = {row.name: row for row in rows}
    figures = tuple(
        KeyFigure(KINDS[name].label, f"{by_name[name].error_pct:.1f}", "%", f"of error, {limit:g} % at most")
        for name, limit in TOLERANCES_PCT.items()
    )
    machine = check.profile.machine
    return Page(
        title=f"{check.profile.name}: predicted beside measured",
        lead=said,
        sections=(
            KeyFigures(figures),
            table(check, rows),
            drawn,
            steps_table(check),
            Verdict(said, tone=tone, details=(*reasons(check, rows), *doubts(check)), label="Verdict"),
            Text("How it was measured", (_METHOD,)),
        ),
        footer=f"Measured on {machine.device_name}, {machine.platform}; the profile is of {check.profile.created_at}.",
    )


_METHOD = (
    "The plan was served by a process of its own on this machine, which the load generator shares with it. One client "
    "alone showed what a request spends on its way; then the windows were predicted, and only then measured. Arrivals "
    "are an open loop: a slow server is sent the next request all the same."
)
