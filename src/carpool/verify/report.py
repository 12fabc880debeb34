"""Batching off and on, side by side: a table, a picture, a page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carpool.report.page import KeyFigure, KeyFigures, Page, Text, Verdict
from carpool.report.plot import LineSeries, Panel, Picture, figure
from carpool.report.table import Cell, Column, Table
from carpool.units import format_count, format_duration
from carpool.verify.beside import KINDS
from carpool.verify.compare import PREDICTED, ceiling, cost_at_low_load, doubts, prediction_held, verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from carpool.verify.beside import Beside
    from carpool.verify.compare import Comparison, Trial


def side_by_side(comparison: Comparison) -> Table:
    """Show each load twice: without batching, and with it."""
    rows = []
    for off, on in zip(comparison.off, comparison.on, strict=True):
        rows += [_row(off), _row(on)]
    return Table(
        "Batching off and on, under the same arrivals",
        (
            Column("offered", "1/s"),
            Column("batching", align="left"),
            Column("sustained", "1/s"),
            Column("goodput", "1/s"),
            Column("p50", "ms"),
            Column("p95", "ms"),
            Column("p99", "ms"),
            Column("batch"),
            Column("fill", "%"),
            Column("padding", "%"),
            Column("queue", "ms"),
            Column("compute", "ms"),
        ),
        tuple(rows),
        notes=(
            *_asked(comparison),
            f"The unbatched server does {format_count(comparison.capacity)}/s flat out.",
            f"Goodput: within the objective, {comparison.objective}: five times the unloaded median, fixed beforehand.",
            "Latency counts from when a request was meant to be sent.",
            "Batch: mean size; queue: mean wait of an item; compute: mean time of a batch in the model.",
        ),
    )


def _asked(comparison: Comparison) -> tuple[str, ...]:
    """Give the rates that were asked for, where chance made others of them."""
    if all(round(trial.rate) == round(trial.offered) for trial in comparison.off):
        return ()
    rates = ", ".join(format_count(round(trial.rate)) for trial in comparison.off)
    return (f"Asked for were {rates}/s: random arrivals keep to a rate on average only.",)


def _row(trial: Trial) -> tuple[str | float | None, ...]:
    latency, batches = trial.summary.latency_s, trial.batches
    return (
        round(trial.offered),
        "on" if trial.batching else "off",
        round(trial.summary.sustained_rate),
        round(trial.goodput),
        *(latency[name].value * 1e3 if name in latency else None for name in ("p50", "p95", "p99")),
        batches.mean_batch_size,
        _percent(batches.fill_ratio),
        _percent(batches.padding_waste),
        _ms(batches.queue_delay_s),
        _ms(batches.compute_s),
    )


def predicted_beside_measured(comparison: Comparison) -> Table:
    """Show what the plan was predicted to do under each load, and what it did."""
    rows = []
    for trial in comparison.on:
        cells: list[Cell] = [round(trial.offered)]
        for name in PREDICTED:
            row = trial.figure(name)
            predicted, low, high = (value * row.kind.scale for value in _interval(row))
            cells += [
                f"{format_count(predicted)} ({format_count(low)} to {format_count(high)})",
                format_count(row.value * row.kind.scale),
            ]
        rows.append(tuple(cells))
    columns = [Column("offered", "1/s")]
    for kind in (KINDS[name] for name in PREDICTED):
        columns += [Column(f"{kind.label}, predicted", kind.unit, align="right"), Column("measured", align="right")]
    return Table(
        "The plan, predicted before and measured",
        tuple(columns),
        tuple(rows),
        notes=("In brackets the 90 % interval: nine measurements in ten should lie in it.",),
    )


def _interval(row: Beside) -> tuple[float, float, float]:
    return row.predicted.value, row.predicted.low, row.predicted.high


def _percent(share: float | None) -> int | None:
    return None if share is None else round(100 * share)


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1e3


def sentences(comparison: Comparison) -> tuple[str, ...]:
    """Say what batching brought, what it cost, and what to doubt."""
    held = (prediction_held(comparison),) if comparison.predicted else ()
    return (*held, ceiling(comparison), cost_at_low_load(comparison), *doubts(comparison))


def picture(comparison: Comparison) -> Picture:
    """Draw goodput and p99 over the offered rate, for both."""
    limit_ms = comparison.objective.latency_s * 1e3
    rates = [trial.offered for trial in comparison.off]
    return figure(
        (
            Panel(
                title="Requests answered within the objective",
                x_label="offered, requests/s",
                y_label="goodput, requests/s",
                series=(
                    *_pair(comparison, lambda trial: trial.goodput),
                    LineSeries(label="offered", x=rates, y=rates, style="dashed"),
                ),
            ),
            Panel(
                title="Slowest request in a hundred",
                x_label="offered, requests/s",
                y_label="p99, ms",
                y_scale="log10",
                series=(
                    *_pair(comparison, _p99_ms),
                    LineSeries(label="objective", x=rates, y=[limit_ms] * len(rates), style="dashed"),
                ),
            ),
        ),
        title="The same load with batching off and on",
    )


def _pair(comparison: Comparison, value: Callable[[Trial], float]) -> tuple[LineSeries, LineSeries]:
    return tuple(  # type: ignore[return-value]
        LineSeries(label=label, x=[trial.offered for trial in trials], y=[value(trial) for trial in trials])
        for label, trials in (("batching off", comparison.off), ("batching on", comparison.on))
    )


def _p99_ms(trial: Trial) -> float:
    return trial.summary.latency_s["p99"].value * 1e3


def write_page(comparison: Comparison, name: str, out: Path, footer: str) -> Sequence[Path]:
    """Write comparison.html and comparison.png to a folder; return their paths."""
    drawn = picture(comparison)
    tone, said = verdict(comparison)
    page = Page(
        title=f"{name}: does batching help here?",
        lead=said,
        sections=(
            KeyFigures(
                (
                    KeyFigure("goodput", f"{comparison.speedup_goodput:.2f}", "x", "with batching over without"),
                    KeyFigure(
                        "cost at low load",
                        format_duration(comparison.p50_cost_low_load_s),
                        note="added to the median by batching",
                    ),
                    KeyFigure("unbatched capacity", format_count(comparison.capacity), "/s"),
                    KeyFigure("objective", format_duration(comparison.objective.latency_s), note="at p99"),
                )
            ),
            drawn,
            side_by_side(comparison),
            *([predicted_beside_measured(comparison)] if comparison.predicted else []),
            Verdict(said, tone=tone, details=sentences(comparison)),
            Text("How it was measured", (_METHOD,)),
        ),
        footer=footer,
    )
    return (page.save(out / "comparison.html"), drawn.save(out / "comparison.png"))


_METHOD = (
    "Two servers, one without batching, took turns at every load on the same machine as the load generator, with the "
    "same Poisson arrivals (an open loop: a slow server is sent the next request all the same)."
)
