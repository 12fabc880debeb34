"""Batching off against batching on under the same load: what it bought, what it cost, and one honest verdict."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Literal

from carpool.loadgen.stats import Summary
from carpool.signals.objective import Objective
from carpool.units import format_count, format_duration
from carpool.verify.beside import Beside
from carpool.verify.scrape import BatchFigures

if TYPE_CHECKING:
    from collections.abc import Iterator

# Other programs that use more than this many cores disturb what is compared.
QUIET_CORES = 0.2
NORMAL_95 = 1.96
NEAR_PACE = 0.05  # batches that take so much more or less than profiled are as profiled
# What a demonstration shows of its prediction.
PREDICTED = ("goodput", "mean_batch_size", "p50_s", "p99_s")

Tone = Literal["good", "warning", "bad", "neutral"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One server under one load.

    Args:
        batching: whether it batches.
        rate: requests a second that were asked for; random arrivals keep to it on average.
        load: that rate over the unbatched capacity.
        summary: what the load generator saw.
        batches: what the server says of its batches.
        figures: what was predicted, beside what was measured; none where nothing was predicted.
    """

    batching: bool
    rate: float
    load: float
    summary: Summary
    batches: BatchFigures
    figures: tuple[Beside, ...] = ()

    def figure(self, name: str) -> Beside:
        """Return what was predicted and measured under a name."""
        return next(row for row in self.figures if row.name == name)

    @property
    def offered(self) -> float:
        """Requests a second that were meant to be sent: as many with batching as without, to the last one."""
        return self.summary.offered_rate

    @property
    def goodput(self) -> float:
        """Requests a second that were answered within the objective."""
        assert self.summary.attainment is not None
        return self.summary.attainment.goodput


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The same loads, with batching off and on.

    Args:
        objective: fixed before any of it was measured.
        capacity: requests a second that the unbatched server sustained flat out.
        off: trials without batching, by rising rate.
        on: trials with it, at the same rates.
        pace: how many times as long batches were predicted to take as the profile says; None for just as long.
        other_load_cores: cores' worth of time that programs which have no part in this used meanwhile.
        interrupted: whether it was stopped before the last load; what is there was measured whole.
    """

    objective: Objective
    capacity: float
    off: tuple[Trial, ...]
    on: tuple[Trial, ...]
    pace: float | None = None
    other_load_cores: float = 0.0
    interrupted: bool = False

    @property
    def speedup_goodput(self) -> float:
        """The best goodput with batching over the best without."""
        best_off = max(trial.goodput for trial in self.off)
        return max(trial.goodput for trial in self.on) / best_off if best_off else float("inf")

    @property
    def speedup_interval(self) -> tuple[float, float]:
        """The 95 % confidence interval of `speedup_goodput`: counts of requests scatter as Poisson's do.

        Source: the logarithm of a ratio of two Poisson counts has the variance 1/n1 + 1/n2.
        """
        best = [max(trials, key=lambda trial: trial.goodput) for trials in (self.off, self.on)]
        counts = [max(trial.goodput * trial.summary.window_s, 1.0) for trial in best]
        spread = math.exp(NORMAL_95 * math.sqrt(sum(1 / count for count in counts)))
        return self.speedup_goodput / spread, self.speedup_goodput * spread

    @property
    def predicted(self) -> bool:
        """Whether all this was predicted before it was measured."""
        return all(trial.figures for trial in (*self.off, *self.on))

    @property
    def predicted_goodput(self) -> tuple[float, float]:
        """The best goodput that was predicted, without batching and with it."""
        off, on = (max(one.figure("goodput").predicted.value for one in trials) for trials in (self.off, self.on))
        return off, on

    @property
    def predicted_speedup(self) -> float:
        """The best predicted goodput with batching over the best without."""
        off, on = self.predicted_goodput
        return on / off if off else math.inf

    @property
    def p50_cost_low_load_s(self) -> float:
        """What batching adds to the median latency at the lowest load, in seconds; below zero, it saves."""
        return self.on[0].summary.latency_s["p50"].value - self.off[0].summary.latency_s["p50"].value


def verdict(comparison: Comparison) -> tuple[Tone, str]:
    """Say in one sentence whether batching helped."""
    ratio = comparison.speedup_goodput
    best_on, best_off = (max(trial.goodput for trial in trials) for trials in (comparison.on, comparison.off))
    low, high = comparison.speedup_interval
    figures = (
        f"{format_count(best_on)} instead of {format_count(best_off)} requests a second within the objective, "
        f"{ratio:.2f} times ({low:.2f} to {high:.2f} with 95 % confidence){_as_predicted(comparison)}"
    )
    if low > 1:
        return "good", f"Batching pays on this model and machine: {figures}."
    if high < 1:
        return "bad", f"Batching does harm here: {figures}. Serve this model without it."
    return "neutral", f"No difference beyond chance in windows this short: {figures}."


def _as_predicted(comparison: Comparison) -> str:
    """Say what had been predicted, where anything was."""
    if not comparison.predicted:
        return ""
    off, on = comparison.predicted_goodput
    ratio = comparison.predicted_speedup
    return f"; predicted before were {format_count(on)} instead of {format_count(off)}, {ratio:.2f} times"


def prediction_held(comparison: Comparison) -> str:
    """Say how far the plan's figures were from what was measured under its loads."""
    rows = [trial.figure(name) for trial in comparison.on for name in PREDICTED]
    num_inside, num = sum(sum(row.inside) for row in rows), len(rows)
    labels = ", ".join(rows[number].kind.label for number in range(len(PREDICTED)))
    errors = (median([trial.figure(name).error_pct for trial in comparison.on]) for name in PREDICTED)
    return (
        f"With batching, {num_inside} of {num} figures ({labels}) lie in the interval that was predicted before; the "
        f"median errors are {', '.join(f'{error:.0f} %' for error in errors)}.{_at_pace(comparison.pace)}"
    )


def _at_pace(pace: float | None) -> str:
    if pace is None or abs(pace - 1) < NEAR_PACE:
        return ""
    return (
        f" Batches were predicted to take {pace:.2f} times as long as profiled, as a single client found just before."
    )


def cost_at_low_load(comparison: Comparison) -> str:
    """Say what batching cost where there was nothing to batch."""
    off, on = comparison.off[0].summary.latency_s["p50"], comparison.on[0].summary.latency_s["p50"]
    difference = comparison.p50_cost_low_load_s
    overlap = None not in (off.low, off.high, on.low, on.high) and on.low <= off.high and off.low <= on.high  # type: ignore[operator]
    direction = "adds" if difference > 0 else "saves"
    said = (
        f"At {comparison.off[0].load:.0%} of the unbatched capacity batching {direction} "
        f"{format_duration(abs(difference))} at the median ({format_duration(off.value)} without, "
        f"{format_duration(on.value)} with it)"
    )
    return f"{said}; the confidence intervals overlap, so that may be chance." if overlap else f"{said}."


def ceiling(comparison: Comparison) -> str:
    """Say what each answered flat out, in time or not."""
    off, on = (max(trial.summary.sustained_rate for trial in trials) for trials in (comparison.off, comparison.on))
    return (
        f"Whatever the latency, {format_count(on)} requests a second were answered with batching and "
        f"{format_count(off)} without."
    )


def doubts(comparison: Comparison) -> tuple[str, ...]:
    """Say what in these figures is not the server's doing."""
    return (*_disturbed(comparison), *_limited_by_generator(comparison))


def _disturbed(comparison: Comparison) -> Iterator[str]:
    if comparison.other_load_cores > QUIET_CORES:
        yield (
            f"Other programs used {comparison.other_load_cores:.1f} cores while the servers were compared: do not "
            "trust these figures; run it again on a quiet machine."
        )


def _limited_by_generator(comparison: Comparison) -> Iterator[str]:
    limited = [trial for trial in (*comparison.off, *comparison.on) if trial.summary.generator_limited]
    if not limited:
        return
    rates = ", ".join(f"{format_count(trial.offered)}/s {'on' if trial.batching else 'off'}" for trial in limited)
    evidence = "; ".join(limited[0].summary.evidence)
    yield f"The load generator shares the machine with the server, and may be what shows at {rates}: {evidence}."
