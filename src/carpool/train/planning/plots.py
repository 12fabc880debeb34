"""A training plan, and the curve of runs that were really made, as pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from carpool.report.plot import LineSeries, Mark, Panel, Picture, figure
from carpool.train.noise.critical import more_examples, more_steps
from carpool.units import format_bytes, format_count

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from carpool.train.planning.curve import Reached, StepsCurve
    from carpool.train.planning.plan import TrainPlan
    from carpool.train.planning.trade_off import TradeOff

_MIB = 1024.0**2
_BATCH = "effective batch, items"
_NUM_DRAWN = 65  # points of a smooth line


def pictures(plan: TrainPlan) -> dict[str, Picture]:
    """Return all pictures that the plan has figures for, by the name of their file.

    Args:
        plan: what to draw.
    """
    found = {
        "train-plan-time": ("What each effective batch takes", [*_speed(plan.trade_off), *_to_target(plan)]),
        "train-plan-batch": ("What bounds a batch", [*_memory(plan), *_more(plan)]),
    }
    return {name: figure(panels, title=title) for name, (title, panels) in found.items() if panels}


def _sizes(trade: TradeOff) -> list[int]:
    return [row.batch_size for row in trade.rows]


def _asked(trade: TradeOff) -> Mark:
    return Mark(trade.asked.batch_size, "the plan")


def _speed(trade: TradeOff) -> Iterator[Panel]:
    """Draw items a second over the effective batch."""
    yield Panel(
        title="Items a second by effective batch",
        x_label=_BATCH,
        y_label="items/s, predicted",
        series=(LineSeries(label="items/s", x=_sizes(trade), y=[row.items_per_s for row in trade.rows], strong=True),),
        marks=(_asked(trade),),
        x_scale="log2",
    )


def _to_target(plan: TrainPlan) -> Iterator[Panel]:
    """Draw the time to a target over the effective batch, with what the noise scale's interval allows."""
    trade = plan.trade_off
    known = [(row.batch_size, row.to_target) for row in trade.rows if row.to_target is not None]
    fastest = trade.fastest
    if fastest is None:
        return
    yield Panel(
        title="Time until equally much is learnt",
        x_label=_BATCH,
        y_label="times the fastest of these batches, and its interval",
        series=(
            LineSeries(
                label="time to a target",
                x=[size for size, _ in known],
                y=[to.more_time for _, to in known],
                low=[to.more_time_low for _, to in known],
                high=[to.more_time_high for _, to in known],
                style="band",
                strong=True,
            ),
        ),
        marks=tuple({mark.x: mark for mark in (Mark(fastest.batch_size, "fastest"), _asked(trade))}.values()),
        x_scale="log2",
        y_scale="log10",
    )


def _memory(plan: TrainPlan) -> Iterator[Panel]:
    """Draw the peak of memory over the micro-batch, beside what there is."""
    found = plan.micro_batch
    fitted = sorted((probe.size, probe.peak_bytes) for probe in found.probes if probe.fits and probe.peak_bytes)
    if found.memory is None:
        return
    sizes = np.geomspace(fitted[0][0], fitted[-1][0], _NUM_DRAWN)
    yield Panel(
        title="Memory of a micro-batch",
        x_label="micro-batch, items",
        y_label="MiB, probed (dots) and fitted",
        series=(
            LineSeries(
                label="",
                x=[size for size, _ in fitted],
                y=[peak / _MIB for _, peak in fitted],
                style="points",
                tone=0,
            ),
            LineSeries(
                label="needed",
                x=sizes.tolist(),
                y=[found.memory.memory_bytes(round(size), 1) / _MIB for size in sizes],
                tone=0,
            ),
            LineSeries(
                label=format_bytes(found.limit_bytes),
                x=[fitted[0][0], fitted[-1][0]],
                y=[found.limit_bytes / _MIB] * 2,
                style="dashed",
            ),
        ),
        marks=(Mark(plan.trade_off.asked.plan.micro_batch_size, "the plan"),),
        x_scale="log2",
    )


def _more(plan: TrainPlan) -> Iterator[Panel]:
    """Draw what a batch costs in steps and in examples: the two cross at the noise scale."""
    noise, sizes = plan.noise, _sizes(plan.trade_off)
    if noise is None:
        return
    smooth = np.geomspace(sizes[0], sizes[-1], _NUM_DRAWN).tolist() if len(sizes) > 1 else sizes
    within = [Mark(noise.scale, "the noise scale")] if sizes[0] <= noise.scale <= sizes[-1] else []
    yield Panel(
        title="Fewer steps, or fewer examples",
        x_label=_BATCH,
        y_label="times the fewest that any batch takes to a target",
        series=(
            LineSeries(label="steps", x=smooth, y=[more_steps(size, noise.scale) for size in smooth]),
            LineSeries(label="examples", x=smooth, y=[more_examples(size, noise.scale) for size in smooth]),
        ),
        marks=(*within, _asked(plan.trade_off)),
        x_scale="log2",
        y_scale="log10",
    )


def curve_picture(runs: Sequence[Reached], curve: StepsCurve, *, noise_scale: float | None = None) -> Picture:
    """Draw what runs took at their effective batches, and the curve through them.

    Args:
        runs: that reached their target.
        curve: fitted to them.
        noise_scale: of the gradients, measured on the way; None where it was not.
    """
    ordered = sorted(runs, key=lambda run: run.batch_size)
    sizes = np.geomspace(ordered[0].batch_size, ordered[-1].batch_size, _NUM_DRAWN).tolist()
    return figure(
        [_runs_panel(ordered, curve, sizes, noise_scale), _pareto_panel(ordered, curve, sizes)],
        title="Steps and examples to the target, by effective batch",
    )


def _runs_panel(runs: Sequence[Reached], curve: StepsCurve, sizes: Sequence[float], noise_scale: float | None) -> Panel:
    marks = [Mark(curve.critical_batch_size, "critical batch")]
    marks += [Mark(noise_scale, "noise scale")] if noise_scale is not None else []
    return Panel(
        title="Steps to the target, by effective batch",
        x_label=_BATCH,
        y_label="steps (dots: runs; line: S + E / B)",
        series=(
            LineSeries(
                label="",
                x=[run.batch_size for run in runs],
                y=[run.num_steps for run in runs],
                style="points",
                tone=0,
            ),
            LineSeries(label="steps", x=sizes, y=[curve.steps_at(size) for size in sizes], tone=0),
        ),
        marks=tuple(mark for mark in marks if sizes[0] <= mark.x <= sizes[-1]),
        x_scale="log2",
        y_scale="log10",
    )


def _pareto_panel(runs: Sequence[Reached], curve: StepsCurve, sizes: Sequence[float]) -> Panel:
    sooner = f"{format_count(curve.fewest_steps)} steps and {format_count(curve.fewest_examples)} examples"
    by_examples = sorted((run.num_examples, run.num_steps) for run in runs)
    return Panel(
        title="Steps against examples",
        x_label="examples to the target",
        y_label=f"steps; at least {sooner}",
        series=(
            LineSeries(
                label="",
                x=[examples for examples, _ in by_examples],
                y=[steps for _, steps in by_examples],
                style="points",
                tone=0,
            ),
            LineSeries(
                label="steps",
                x=[size * curve.steps_at(size) for size in sizes],
                y=[curve.steps_at(size) for size in sizes],
                tone=0,
            ),
        ),
        x_scale="log10",
        y_scale="log10",
    )
