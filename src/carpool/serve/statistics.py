"""What a model has done since it was loaded, in the counts and sums of the protocol's statistics.

An item is counted as the protocol counts a request of one row: a request of several rows counts as so many, since its
rows join batches one by one.

Source: the statistics extension of NVIDIA Triton (docs/protocol/extension_statistics.md)
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import msgspec

from carpool.signals.events import BatchFailed, BatchRan, CacheAsked, Event, ItemDropped, ItemRejected

if TYPE_CHECKING:
    from collections.abc import Callable

_NS = 1_000_000_000
_MS = 1000


class Duration(msgspec.Struct, frozen=True):
    """How often something took time, and how much.

    Args:
        count: how often.
        ns: nanoseconds, all together.
    """

    count: int = 0
    ns: int = 0


class InferenceStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What happened to items.

    Args:
        success: those answered with a result, from arrival to the end of the model's run; an item that shares the
            computation of an equal one is counted with that one.
        fail: those that were refused, given up or answered with an error.
        queue: from arrival until a batch was formed, of the items that were computed.
        compute_input: from there until the model began.
        compute_infer: the model's run; each item of a batch counts all of it.
        compute_output: after the run; 0, since answers are written apart from batches.
        cache_hit: items answered from the response cache.
        cache_miss: items looked for there in vain.
    """

    success: Duration
    fail: Duration
    queue: Duration
    compute_input: Duration
    compute_infer: Duration
    compute_output: Duration
    cache_hit: Duration
    cache_miss: Duration


class BatchStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What happened to batches of one size.

    Args:
        batch_size: items in each.
        compute_input: from when a batch was formed until the model began.
        compute_infer: the model's run.
        compute_output: after the run; 0.
    """

    batch_size: int
    compute_input: Duration
    compute_infer: Duration
    compute_output: Duration


class ModelStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What one version of one model has done.

    Args:
        name: of the model.
        version: which one.
        last_inference: milliseconds since 1970 of the latest batch; 0 for none.
        inference_count: items that were computed with a result.
        execution_count: batches that were run.
        inference_stats: what happened to items.
        response_stats: of answers in several parts, by part: none.
        batch_stats: what happened to batches, by rising size.
        memory_usage: not measured: none.
    """

    name: str
    version: str
    last_inference: int
    inference_count: int
    execution_count: int
    inference_stats: InferenceStatistics
    response_stats: dict[str, Duration] = {}
    batch_stats: list[BatchStatistics] = []
    memory_usage: list[Any] = []


class _Sum:
    """A count and a sum under construction."""

    __slots__ = ("count", "total_s")

    def __init__(self) -> None:
        self.count = 0
        self.total_s = 0.0

    def add(self, count: int, total_s: float) -> None:
        self.count += count
        self.total_s += total_s

    def freeze(self) -> Duration:
        return Duration(self.count, round(self.total_s * _NS))


class Statistics:
    """Folds a batcher's events into the counts that clients of the protocol read.

    Args:
        now_s: tells the seconds since 1970.

    >>> statistics = Statistics()
    >>> statistics.record(ItemRejected(at=0.0, reason="queue_full"))
    >>> statistics.freeze("m", "1").inference_stats.fail.count
    1
    """

    def __init__(self, now_s: Callable[[], float] = time.time) -> None:
        self._now_s = now_s
        self._lock = threading.Lock()
        self._last_s = 0.0
        self._num_batches = 0
        self._success, self._fail, self._queue = _Sum(), _Sum(), _Sum()
        self._input, self._infer = _Sum(), _Sum()
        self._hit, self._miss = _Sum(), _Sum()
        self._by_size: dict[int, tuple[_Sum, _Sum]] = {}

    def record(self, event: Event) -> None:
        """Count one event; from any thread."""
        with self._lock:
            if isinstance(event, BatchRan):
                self._add(event)
            elif isinstance(event, ItemRejected):
                self._fail.add(1, 0.0)
            elif isinstance(event, ItemDropped):
                self._fail.add(1, event.at - event.arrived_at)
            elif isinstance(event, BatchFailed):
                self._num_batches += 1
                self._fail.add(event.num_failed, event.num_failed * event.at - sum(event.arrived_at))
            elif isinstance(event, CacheAsked):
                self._add_cached(event)

    def _add(self, batch: BatchRan) -> None:
        num, num_failed = batch.num_items, batch.num_failed
        arrived_s = sum(batch.arrived_at)
        waited_s = num * batch.dispatched_at - arrived_s
        prepared_s = batch.started_at - batch.dispatched_at
        ran_s = batch.finished_at - batch.started_at
        # Which of its items failed is not said: each is taken to have been there as long as the mean.
        mean_s = (num * batch.finished_at - arrived_s) / num
        self._last_s = self._now_s()
        self._num_batches += 1
        self._success.add(num - num_failed, (num - num_failed) * mean_s)
        self._fail.add(num_failed, num_failed * mean_s)
        self._queue.add(num, waited_s)
        self._input.add(num, num * prepared_s)
        self._infer.add(num, num * ran_s)
        of_size = self._by_size.get(num)
        if of_size is None:
            of_size = self._by_size[num] = (_Sum(), _Sum())
        of_size[0].add(1, prepared_s)
        of_size[1].add(1, ran_s)

    def _add_cached(self, asked: CacheAsked) -> None:
        if asked.answer == "hit":
            self._hit.add(1, asked.took_s)
            self._success.add(1, asked.took_s)
        else:
            self._miss.add(1, asked.took_s)

    def add_request(self, num_items: int, took_s: float, *, failed: bool) -> None:
        """Count the items of a request that went through several models; from any thread.

        Args:
            num_items: its rows.
            took_s: from its arrival to its end.
            failed: whether it was refused, given up or answered with an error, in whichever of them.
        """
        with self._lock:
            self._last_s = self._now_s()
            (self._fail if failed else self._success).add(num_items, num_items * took_s)

    def freeze(self, name: str, version: str) -> ModelStatistics:
        """Return what was counted so far.

        Args:
            name: of the model.
            version: which one.
        """
        with self._lock:
            return ModelStatistics(
                name=name,
                version=version,
                last_inference=int(self._last_s * _MS),
                inference_count=self._success.count - self._hit.count,
                execution_count=self._num_batches,
                inference_stats=InferenceStatistics(
                    success=self._success.freeze(),
                    fail=self._fail.freeze(),
                    queue=self._queue.freeze(),
                    compute_input=self._input.freeze(),
                    compute_infer=self._infer.freeze(),
                    compute_output=Duration(self._infer.count),
                    cache_hit=self._hit.freeze(),
                    cache_miss=self._miss.freeze(),
                ),
                batch_stats=[self._of_size(size) for size in sorted(self._by_size)],
            )

    def _of_size(self, size: int) -> BatchStatistics:
        prepared, ran = self._by_size[size]
        return BatchStatistics(
            batch_size=size,
            compute_input=prepared.freeze(),
            compute_infer=ran.freeze(),
            compute_output=Duration(ran.count),
        )
