"""A run of load for people: tables, plain sentences, pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from carpool.loadgen.stats import CPU_SHARE, timed, timed_latencies_s
from carpool.report.plot import LineSeries, Panel, Picture, figure
from carpool.report.table import Column, Table
from carpool.signals.figures import percentile
from carpool.signals.objective import Objective
from carpool.units import counted, format_bytes, format_count, format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from carpool.loadgen.records import LoadResult
    from carpool.loadgen.stats import Attainment, Summary

MOST_POINTS = 500
MOST_BINS = 60
LEAST_PER_BIN = 20


def summary_table(summary: Summary) -> Table:
    """Show the latencies with their confidence, the slowest at the bottom."""
    rows = [
        (name, _ms(estimate.value), _ms(estimate.low), _ms(estimate.high))
        for name, estimate in summary.latency_s.items()
    ]
    rows += [("mean", _ms(summary.mean_s), None, None), ("max", _ms(summary.max_s), None, None)]
    kind = (
        f"open loop, {offered(summary)}"
        if summary.connections is None
        else f"closed loop, {counted(summary.connections, 'connection')}"
    )
    return Table(
        f"Latency of {counted(summary.num_requests, 'request')} in {format_duration(summary.window_s)}: {kind}",
        (
            Column("latency", align="left"),
            Column("measured", "ms", align="right"),
            Column("95 % from", "ms", align="right"),
            Column("to", "ms", align="right"),
        ),
        tuple(rows),
        notes=(f"Received {format_bytes(summary.bytes_received)}.",),
    )


def offered(summary: Summary) -> str:
    """Say at what rate requests were meant to be sent, and the rate asked for where chance made it another."""
    came, asked = format_count(summary.offered_rate), format_count(summary.asked_rate or summary.offered_rate)
    return f"{came}/s offered" if came == asked else f"{came}/s offered ({asked}/s asked)"


def failure_table(summary: Summary) -> Table:
    """Show what failed, how often, and in whose words."""
    return Table(
        f"{format_count(summary.num_failed)} failures",
        (Column("kind"), Column("count"), Column("meaning"), Column("the first one's words")),
        tuple((one.kind, one.count, one.meaning, one.example) for one in summary.failures),
    )


def picture(result: LoadResult, summary: Summary) -> Picture:
    """Draw the distribution of the latencies, and their course over time.

    Args:
        result: A run with at least one timed latency.
        summary: What it amounts to.
    """
    return figure(
        (_distribution(result, summary), _course(result)),
        title="Latency from the time at which each request was meant to be sent",
    )


def _distribution(result: LoadResult, summary: Summary) -> Panel:
    """Show how long the quickest so many per cent took, beside the objective."""
    shares = np.linspace(0, 100, MOST_POINTS)
    latencies_ms = np.percentile(timed_latencies_s(result), shares) * 1e3
    series = [LineSeries(label="measured", x=shares.tolist(), y=latencies_ms.tolist())]
    if summary.attainment is not None:
        limit_ms = summary.attainment.latency_s * 1e3
        series.append(LineSeries(label="objective", x=[0, 100], y=[limit_ms, limit_ms], style="dashed"))
    return Panel(
        title="By percentile",
        x_label="requests (%)",
        y_label="latency (ms)",
        series=tuple(series),
        y_scale="log10",  # an objective far above the latencies must not flatten them
    )


def _course(result: LoadResult) -> Panel:
    """Show median and tail over time: a queue that grows is a line that climbs."""
    at, latency_s = result.intended_at[timed(result)], timed_latencies_s(result)
    bins = np.array_split(np.arange(at.size), min(MOST_BINS, max(1, at.size // LEAST_PER_BIN)))
    middles = [float(at[one].mean()) for one in bins]
    series = tuple(
        LineSeries(label=f"p{q}", x=middles, y=[percentile(latency_s[one].tolist(), q) * 1e3 for one in bins])
        for q in (50, 99)
    )
    return Panel(title="Over the run", x_label="meant to be sent at (s)", y_label="latency (ms)", series=series)


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1e3


def sentences_about(summary: Summary) -> Iterator[str]:
    """Say in plain words what a run showed, and how far to believe it."""
    if summary.interrupted:
        yield f"Stopped after {format_duration(summary.window_s)}, before its end: the figures are of that time."
    yield _rates(summary)
    if summary.attainment is not None:
        yield _verdict(summary.attainment)
    if summary.num_censored:
        yield (
            f"Without an answer in time: {format_count(summary.num_censored)}. "
            "Such a latency is a lower bound, and so is a percentile that reaches it."
        )
    if summary.loop == "closed":
        yield (
            "In a closed loop clients wait for their answers, so a slow server is asked less: "
            "its latencies are not what independent callers would see (use --rate)."
        )
    yield _belief(summary)


def _rates(summary: Summary) -> str:
    share = summary.num_ok / summary.num_requests if summary.num_requests else 0.0
    of_offered = f" of {offered(summary)}" if summary.loop == "open" else ""
    return (
        f"Sustained {format_count(summary.sustained_rate)} requests/s{of_offered}; "
        f"{share:.1%} were answered with success."
    )


def _verdict(attainment: Attainment) -> str:
    objective = Objective(attainment.quantile, attainment.latency_s)
    verdict = "met" if attainment.met else "missed"
    return (
        f"Objective {objective}: {verdict}, {attainment.share_within:.2%} of all requests "
        f"were answered within it; goodput {format_count(attainment.goodput)} requests/s."
    )


def _belief(summary: Summary) -> str:
    if summary.generator_limited:
        return f"The generator, and not the server, may be the limit: {'; '.join(summary.evidence)}."
    return (
        f"The generator kept up: 99% of its requests left at most {format_duration(summary.lag_p99_s)} after "
        f"their time (limit {format_duration(summary.lag_limit_s)}, {summary.lag_limit_basis}), "
        f"and it used {summary.cpu_share:.0%} of one core (limit {CPU_SHARE:.0%})."
    )
