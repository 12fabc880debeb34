"""The figures of a stretch of time, from what ended in it."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

from carpool.signals.events import BatchFailed, BatchRan, ItemDropped, Passage
from carpool.signals.figures import (
    LITTLES_LAW_TOLERANCE,
    Estimate,
    estimate_percentile,
    fill_ratio,
    littles_law_gap,
    mean,
    mean_batch_size,
    padding_waste,
    percentile,
    prediction_error,
    throughput,
    utilisation,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Durations", "LittlesLaw", "PredictionError", "WindowFigures", "littles_law", "window_figures"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Durations:
    """How one kind of duration was spread, in seconds."""

    mean: float
    p50: Estimate
    p95: Estimate
    p99: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class LittlesLaw:
    """Whether the window obeys Little's law.

    Args:
        num_in_system: time-average number of items waiting or computed.
        gap: `|L - X W| / L`.
        steady: the gap is within the tolerance, so that averages over the window describe the system.
    """

    num_in_system: float
    gap: float
    steady: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionError:
    """How the cost model's promises held, as shares of the measured time.

    Args:
        num_batches: batches that carried a prediction.
        median_error: median of `|predicted / measured - 1|`.
        bias: median of `predicted / measured - 1`; positive when batches were faster than promised.
    """

    num_batches: int
    median_error: float
    bias: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowFigures:
    """Every figure of one stretch of time; those that need a batch are None where there was none.

    Args:
        from_at: start of the stretch.
        to_at: end of it.
        num_batches: batches that ran and ended in it.
        num_items: items in those batches.
        items_per_s: throughput, without the items that failed.
        goodput_per_s: items a second answered within the objective; None without an objective.
        objective_s: the objective that was asked about.
        mean_batch_size: items a batch.
        fill_ratio: items over the most that those batches could have held.
        padding_waste: share of computed tokens that was padding.
        utilisation: share of the workers' time spent in the model, in runs that raised too.
        queue_delay: arrival to dispatch, of each item.
        compute: start to end of the model's run, of each batch.
        latency: arrival to end of the model's run, of each item.
        littles_law: whether the stretch was a steady state.
        prediction: how the cost model's promises held.
    """

    from_at: float
    to_at: float
    num_batches: int
    num_items: int
    items_per_s: float
    goodput_per_s: float | None
    objective_s: float | None
    mean_batch_size: float
    fill_ratio: float | None
    padding_waste: float
    utilisation: float
    queue_delay: Durations | None
    compute: Durations | None
    latency: Durations | None
    littles_law: LittlesLaw | None
    prediction: PredictionError | None


def window_figures(
    records: Sequence[Passage],
    *,
    from_at: float,
    to_at: float,
    max_batch_size: int,
    num_workers: int = 1,
    objective_s: float | None = None,
) -> WindowFigures:
    """Compute every figure of the stretch from the batches, failed runs and drops whose `at` lies in it.

    Args:
        records: what ended in the stretch.
        from_at: its start.
        to_at: its end.
        max_batch_size: most items that a batch could hold.
        num_workers: workers whose time could be used.
        objective_s: latency up to which an item counts as good; None for no goodput.
    """
    batches = [record for record in records if isinstance(record, BatchRan)]
    num_items, span_s = sum(batch.num_items for batch in batches), to_at - from_at
    runs = [record for record in records if not isinstance(record, ItemDropped)]
    busy_s = math.fsum(_overlap_s(run.started_at, _ended_at(run), from_at, to_at) for run in runs)
    return WindowFigures(
        from_at=from_at,
        to_at=to_at,
        num_batches=len(batches),
        num_items=num_items,
        items_per_s=throughput(num_items - sum(batch.num_failed for batch in batches), span_s),
        goodput_per_s=None if objective_s is None else throughput(_num_good(batches, objective_s), span_s),
        objective_s=objective_s,
        mean_batch_size=mean_batch_size(num_items, len(batches)),
        fill_ratio=fill_ratio(num_items, max_batch_size, num_batches=len(batches)) if batches else None,
        padding_waste=padding_waste(
            sum(sum(batch.lengths) for batch in batches), sum(batch.padded_tokens for batch in batches)
        ),
        utilisation=utilisation(busy_s, span_s, num_workers=num_workers),
        queue_delay=_durations([b.dispatched_at - arrived_at for b in batches for arrived_at in b.arrived_at]),
        compute=_durations([batch.finished_at - batch.started_at for batch in batches]),
        latency=_durations([b.finished_at - arrived_at for b in batches for arrived_at in b.arrived_at]),
        littles_law=littles_law(records, from_at=from_at, to_at=to_at),
        prediction=_prediction_error(batches),
    )


def littles_law(records: Sequence[Passage], *, from_at: float, to_at: float) -> LittlesLaw | None:
    """Hold a stretch of time against Little's law; None where nothing left the system in it.

    X and W are those of the items that left. L is measured apart from them, so that the law can fail: the time that
    items are known to have spent in the system, and besides it the items that each batch reported as waiting
    (`queue_depth`) beyond those that are known to have left later, held from one batch's end to the next.

    Args:
        records: what ended in the stretch; of a failed run, the items that run again stay in the system.
        from_at: its start.
        to_at: its end.
    """
    stays = _stays(records)
    if not stays or to_at <= from_at:
        return None
    known_s = math.fsum(_overlap_s(arrived_at, left_at, from_at, to_at) for arrived_at, _, left_at in stays)
    num_in_system = (known_s + _unseen_item_seconds(records, stays, to_at)) / (to_at - from_at)
    latency_s = mean([left_at - arrived_at for arrived_at, _, left_at in stays])
    gap = littles_law_gap(num_in_system, throughput(len(stays), to_at - from_at), latency_s)
    return LittlesLaw(num_in_system=num_in_system, gap=gap, steady=gap <= LITTLES_LAW_TOLERANCE)


def _stays(records: Sequence[Passage]) -> list[tuple[float, float, float]]:
    """When each item came, left the queue, and left the system."""
    stays: list[tuple[float, float, float]] = []
    for record in records:
        if isinstance(record, BatchRan):
            stays += [(arrived_at, record.dispatched_at, record.finished_at) for arrived_at in record.arrived_at]
        elif isinstance(record, BatchFailed):
            stays += [(arrived_at, record.started_at, record.at) for arrived_at in record.arrived_at]
        else:
            stays.append((record.arrived_at, record.at, record.at))
    return stays


def _unseen_item_seconds(
    records: Sequence[Passage], stays: Sequence[tuple[float, float, float]], to_at: float
) -> float:
    """Item-seconds in the queue of items that did not leave within the stretch."""
    arrivals = sorted(arrived_at for arrived_at, _, _ in stays)
    departures = sorted(taken_at for _, taken_at, _ in stays)
    batches = sorted((r for r in records if isinstance(r, BatchRan)), key=lambda batch: batch.at)
    instants = [*(batch.at for batch in batches), to_at]
    total = 0.0
    for batch, end in zip(batches, instants[1:], strict=True):
        # The depth was read before the next batch was formed, even where that happened at the same instant.
        known = bisect_right(arrivals, batch.at) - bisect_left(departures, batch.at)
        total += max(0, batch.queue_depth - known) * (end - batch.at)
    return total


def _num_good(batches: Sequence[BatchRan], objective_s: float) -> int:
    """Items within the objective; which one failed is not known, so each failure takes the place of a good one."""
    good = 0
    for batch in batches:
        in_time = sum(1 for arrived_at in batch.arrived_at if batch.finished_at - arrived_at <= objective_s)
        good += max(0, in_time - batch.num_failed)
    return good


def _prediction_error(batches: Sequence[BatchRan]) -> PredictionError | None:
    errors = [
        prediction_error(batch.predicted_s, batch.finished_at - batch.started_at)
        for batch in batches
        if batch.predicted_s is not None and batch.finished_at > batch.started_at
    ]
    if not errors:
        return None
    sizes = [abs(error) for error in errors]
    return PredictionError(num_batches=len(errors), median_error=percentile(sizes, 50), bias=percentile(errors, 50))


def _durations(values: Sequence[float]) -> Durations | None:
    if not values:
        return None
    ordered = sorted(values)  # sorting what is sorted is fast, and three percentiles follow
    p50, p95, p99 = (estimate_percentile(ordered, q) for q in (50, 95, 99))
    return Durations(mean=mean(ordered), p50=p50, p95=p95, p99=p99)


def _ended_at(run: BatchRan | BatchFailed) -> float:
    return run.finished_at if isinstance(run, BatchRan) else run.at


def _overlap_s(start: float, end: float, from_at: float, to_at: float) -> float:
    return max(0.0, min(end, to_at) - max(start, from_at))
