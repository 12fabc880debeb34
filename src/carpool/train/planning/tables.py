"""A training plan as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carpool.report.table import Cell, Column, Table
from carpool.units import counted, format_bytes, format_count, format_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from carpool.cost.model import CostModel
    from carpool.train.planning.plan import TrainPlan
    from carpool.train.planning.trade_off import Row, ToTarget

_MS = 1e3

# A column of the trade-off, and what a row has in it; None everywhere leaves the column out.
_CellOf = tuple[Column, "Callable[[Row], Cell]"]


def _target(read: Callable[[ToTarget], Cell]) -> Callable[[Row], Cell]:
    return lambda row: None if row.to_target is None else read(row.to_target)


def _time_to(to: ToTarget) -> Cell:
    if to.more_time_low == to.more_time_high:
        return format_count(to.more_time)
    return f"{format_count(to.more_time)} ({format_count(to.more_time_low)} to {format_count(to.more_time_high)})"


def _sizes(row: Row) -> Cell:
    return " or ".join(f"{size:,}" for size in sorted(set(row.plan.sizes(0))))


_TRADE_OFF: tuple[_CellOf, ...] = (
    (Column("batch"), lambda row: row.batch_size),
    (Column("micro-batches"), lambda row: row.plan.num_accumulation_steps),
    (Column("of items", align="right"), _sizes),
    (Column("memory", align="right"), lambda row: None if row.memory_bytes is None else format_bytes(row.memory_bytes)),
    (Column("rate", spec=".3g", align="right"), lambda row: row.learning_rate),
    (Column("step", "ms"), lambda row: row.step_s * _MS),
    (Column("items/s", spec=",.0f"), lambda row: row.items_per_s),
    (Column("epoch", align="right"), lambda row: format_duration(row.epoch_s)),
    (Column("steps", "x fewest", align="right"), _target(lambda to: format_count(to.more_steps))),
    (Column("examples", "x fewest", align="right"), _target(lambda to: format_count(to.more_examples))),
    (Column("time to target", "x fastest", align="right"), _target(_time_to)),
    (Column("steps to it", align="right"), _target(lambda to: to.num_steps and format_count(to.num_steps))),
    (Column("time to it", align="right"), _target(lambda to: to.time_s and format_duration(to.time_s))),
)


def trade_off_table(plan: TrainPlan) -> Table:
    """What each effective batch costs and buys.

    Args:
        plan: with its trade-off.
    """
    trade = plan.trade_off
    columns = [one for one in _TRADE_OFF if any(one[1](row) is not None for row in trade.rows)]
    return Table(
        f"What each effective batch takes on {counted(plan.num_ranks, 'rank')}",
        tuple(column for column, _ in columns),
        tuple(tuple(cell(row) for _, cell in columns) for row in trade.rows),
        notes=tuple(_notes(plan)),
        highlight=trade.chosen,
        highlight_label="plan",
    )


def _notes(plan: TrainPlan) -> Iterator[str]:
    trade = plan.trade_off
    if plan.noise is not None:
        yield (
            "Steps, examples and time to a target are those that get equally far, by the noise scale, with a learning "
            "rate that suits each batch."
        )
    else:
        yield (
            "Which batch reaches a target first depends on the noise scale: give it with --noise-scale, or have it "
            "measured."
        )
    if plan.num_ranks > 1:
        yield "What ranks tell each other was not measured, and is not in the times."
    if trade.left_out:
        yield f"Left out: {', '.join(f'{size:,}' for size in trade.left_out)}, {_why_left_out(plan)}."


def _why_left_out(plan: TrainPlan) -> str:
    too_large = [size for size in plan.trade_off.left_out if size > plan.num_items]
    too_small = [size for size in plan.trade_off.left_out if size < plan.num_ranks]
    reasons = [f"more than the data's {counted(plan.num_items, 'item')}"] if too_large else []
    reasons += [f"fewer than the {plan.num_ranks} ranks"] if too_small else []
    return " or ".join(reasons)


def probes_table(plan: TrainPlan) -> Table:
    """The micro-batches that were really tried, in order of size.

    Args:
        plan: with its probes.
    """
    found = plan.micro_batch
    probes = sorted(found.probes, key=lambda probe: probe.size)
    return Table(
        f"Micro-batches that were tried, within {format_bytes(found.limit_bytes)}",
        (Column("items"), Column("outcome"), Column("peak", align="right"), Column("why", align="left")),
        tuple(
            (
                probe.size,
                probe.outcome,
                None if probe.peak_bytes is None else format_bytes(probe.peak_bytes),
                probe.reason or None,
            )
            for probe in probes
        ),
        notes=(f"Peak: {found.measure}.",),
        highlight=next((index for index, probe in enumerate(probes) if probe.size == found.size), None),
        highlight_label="largest",
    )


def times_table(plan: TrainPlan) -> Table | None:
    """How long passes over micro-batches take; None where only one size was timed.

    Args:
        plan: with its times.
    """
    throughput = plan.throughput
    if throughput.cost is None:
        return None
    return Table(
        "Loading a micro-batch, and its forward and backward pass",
        (
            Column("items"),
            Column("measured", "ms"),
            Column("95 % interval", "ms", align="right"),
            Column("fitted", "ms"),
            Column("items/s", spec=",.0f"),
        ),
        tuple(
            (
                one.size,
                one.pass_s * _MS,
                f"{format_count(one.low_s * _MS)} to {format_count(one.high_s * _MS)}",
                plan.time.micro_batch_s(one.size) * _MS,
                one.items_per_s,
            )
            for one in throughput.timings
        ),
        notes=tuple(_time_notes(throughput.update_s, throughput.cost)),
        highlight=next(
            (index for index, one in enumerate(throughput.timings) if one.size == throughput.best_size), None
        ),
        highlight_label="fastest",
    )


def _time_notes(update_s: float, cost: CostModel) -> Iterator[str]:
    yield f"The optimiser's step and clearing the gradients take {format_duration(update_s)} more, once a window."
    yield f"The fit ({cost.kind}) misses sizes that it has not seen by {cost.error_pct:.1f}% at the median."


def scaling_table(plan: TrainPlan) -> Table | None:
    """The hyper-parameters that go with the effective batch; None where none is set anew.

    Args:
        plan: with its scaling.
    """
    if plan.scaling is None or not plan.scaling.changes:
        return None
    several = len({change.group for change in plan.scaling.changes}) > 1
    return Table(
        f"Hyper-parameters for {plan.effective_batch_size:,} in place of {plan.base_batch_size:,} items",
        (
            Column("name"),
            *((Column("group"),) if several else ()),
            Column("before", spec=".4g"),
            Column("after", spec=".4g"),
            Column("why", align="left"),
        ),
        tuple(
            (change.name, *((change.group,) if several else ()), change.before, change.after, change.why)
            for change in plan.scaling.changes
        ),
        notes=tuple(sorted({f"{change.source}: holds for {change.holds_for}." for change in plan.scaling.changes})),
    )
