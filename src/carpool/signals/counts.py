"""Counts since a batcher began."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from carpool.signals.events import BatchFailed, BatchRan, CacheAsked, Event, ItemDropped, ItemRejected
from carpool.signals.figures import fill_ratio, padding_waste
from carpool.signals.histogram import (
    BATCH_SIZE_BOUNDS,
    DURATION_BOUNDS_S,
    PREDICTION_BOUNDS,
    SHARE_BOUNDS,
    Histogram,
    Tally,
)

__all__ = ["Counts", "Totals"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What was counted since the batcher began.

    Args:
        num_batches: batches that were run.
        num_items: items that were answered, with a result or with an error; the mean batch follows from `batch_size`.
        num_failed: items of them that were answered with an error, of a run that raised too.
        num_batch_failures: runs that raised; their items may have succeeded later in smaller batches.
        reasons: batches by the reason they left for.
        rejections: items refused at arrival, by reason.
        drops: items that left the queue without being computed, by cause.
        cache: items by whether they had an answer already: `hit`, `joined` or `miss`; empty without a cache.
        real_tokens: tokens of the items.
        padded_tokens: tokens computed, padding included.
        busy_s: seconds that workers spent in the model, in runs that raised too.
        predicted_s: what the cost model promised, over the batches that carried a prediction.
        predicted_busy_s: what those batches took.
        profiled_s: what the profile says of them, whatever has been learned since; 0 without a profile.
        queue_depth: items that were waiting when the latest batch was done.
        drift: what batches take lately over what the profile says of them; None without a profile.
        num_drift_batches: how many batches `drift` rests on.
        batch_size: items a batch.
        fill: items over `max_batch_size`, a batch.
        padding: share of padding, a batch.
        queue_delay_s: arrival to dispatch, an item.
        compute_s: start to end of the model's run, a batch.
        latency_s: arrival to end of the model's run, an item.
        prediction: measured over predicted time, a batch that carried a prediction.
    """

    num_batches: int
    num_items: int
    num_failed: int
    num_batch_failures: int
    reasons: dict[str, int]
    rejections: dict[str, int]
    drops: dict[str, int]
    cache: dict[str, int]
    real_tokens: int
    padded_tokens: int
    busy_s: float
    predicted_s: float
    predicted_busy_s: float
    profiled_s: float
    queue_depth: int
    drift: float | None
    num_drift_batches: int
    batch_size: Histogram
    fill: Histogram
    padding: Histogram
    queue_delay_s: Histogram
    compute_s: Histogram
    latency_s: Histogram
    prediction: Histogram


class Counts:
    """Totals under construction; for one thread at a time."""

    def __init__(self, max_batch_size: int) -> None:
        self.max_batch_size = max_batch_size
        self._num_batches = self._num_items = self._num_failed = self._num_batch_failures = 0
        self._real_tokens = self._padded_tokens = self._queue_depth = 0
        self._drift: float | None = None
        self._num_drift_batches = 0
        self._busy_s = self._predicted_s = self._predicted_busy_s = self._profiled_s = 0.0
        self._reasons: Counter[str] = Counter()
        self._rejections: Counter[str] = Counter()
        self._drops: Counter[str] = Counter()
        self._cache: Counter[str] = Counter()
        self._batch_size, self._fill, self._padding = Tally(BATCH_SIZE_BOUNDS), Tally(SHARE_BOUNDS), Tally(SHARE_BOUNDS)
        self._queue_delay_s, self._compute_s, self._latency_s = (Tally(DURATION_BOUNDS_S) for _ in range(3))
        self._prediction = Tally(PREDICTION_BOUNDS)

    def add(self, event: Event) -> None:
        """Count one event."""
        if isinstance(event, BatchRan):
            self._add_batch(event)
            self._add_durations(event)
        elif isinstance(event, ItemRejected):
            self._rejections[event.reason] += 1
        elif isinstance(event, ItemDropped):
            self._drops[event.cause] += 1
        elif isinstance(event, CacheAsked):
            self._cache[event.answer] += 1
        elif isinstance(event, BatchFailed):
            self._num_batch_failures += 1
            self._num_items += event.num_failed
            self._num_failed += event.num_failed
            self._busy_s += event.at - event.started_at

    def freeze(self) -> Totals:
        """Copy what was counted so far."""
        return Totals(
            num_batches=self._num_batches,
            num_items=self._num_items,
            num_failed=self._num_failed,
            num_batch_failures=self._num_batch_failures,
            reasons=dict(self._reasons),
            rejections=dict(self._rejections),
            drops=dict(self._drops),
            cache=dict(self._cache),
            real_tokens=self._real_tokens,
            padded_tokens=self._padded_tokens,
            busy_s=self._busy_s,
            predicted_s=self._predicted_s,
            predicted_busy_s=self._predicted_busy_s,
            profiled_s=self._profiled_s,
            queue_depth=self._queue_depth,
            drift=self._drift,
            num_drift_batches=self._num_drift_batches,
            batch_size=self._batch_size.freeze(),
            fill=self._fill.freeze(),
            padding=self._padding.freeze(),
            queue_delay_s=self._queue_delay_s.freeze(),
            compute_s=self._compute_s.freeze(),
            latency_s=self._latency_s.freeze(),
            prediction=self._prediction.freeze(),
        )

    def _add_batch(self, batch: BatchRan) -> None:
        real, padded = sum(batch.lengths), batch.padded_tokens
        self._num_batches += 1
        self._num_items += batch.num_items
        self._num_failed += batch.num_failed
        self._real_tokens += real
        self._padded_tokens += padded
        self._queue_depth = batch.queue_depth
        self._drift, self._num_drift_batches = batch.drift, batch.num_drift_batches
        self._reasons[batch.reason] += 1
        self._batch_size.add_one(batch.num_items)
        self._fill.add_one(fill_ratio(batch.num_items, self.max_batch_size))
        self._padding.add_one(padding_waste(real, padded))

    def _add_durations(self, batch: BatchRan) -> None:
        compute_s = batch.finished_at - batch.started_at
        self._busy_s += compute_s
        self._compute_s.add_one(compute_s)
        self._queue_delay_s.add([batch.dispatched_at - arrived_at for arrived_at in batch.arrived_at])
        self._latency_s.add([batch.finished_at - arrived_at for arrived_at in batch.arrived_at])
        if batch.predicted_s is not None and batch.predicted_s > 0:
            self._predicted_s += batch.predicted_s
            self._predicted_busy_s += compute_s
            self._profiled_s += batch.profiled_s or 0.0
            self._prediction.add_one(compute_s / batch.predicted_s)
