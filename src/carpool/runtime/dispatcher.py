"""The batch former behind a lock, told the time by a clock: what every thread of a live batcher calls.

It starts no thread and waits for nothing itself, so that a test can drive it step by step.
"""

import contextlib
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from carpool.core import Batch, BatchFormer, Clock, Dispatch, Fault, Item, Policy
from carpool.core.item import State
from carpool.errors import (
    BatcherClosed,
    CarpoolError,
    DeadlineExceeded,
    DispatcherDied,
    ModelHung,
    OutOfMemory,
    QueueFull,
    WorkerDied,
    WrongResultCount,
)
from carpool.runtime.delivery import Deliver, Outcome
from carpool.runtime.failures import FailureLog
from carpool.runtime.told import run_failed, run_succeeded, why_rejected
from carpool.signals.events import ItemDropped, ItemRejected, Sink


@dataclass(frozen=True, slots=True)
class Idle:
    """Nothing to run for `timeout_s` seconds; None: until something happens."""

    timeout_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What the next item is in for.

    Args:
        num_waiting: items that wait.
        delay_s: how long it is predicted to wait for its batch.
        item_s: what it takes of a worker's time in a full batch, as predicted; seconds.
    """

    num_waiting: int
    delay_s: float
    item_s: float


class Dispatcher:
    """Hands batches to workers and answers to callers.

    Args:
        former: forms the batches.
        clock: tells the time.
        sink: is told what happened.
        deliver: hands outcomes to those who wait.
        model: how the log names what runs the batches.
    """

    def __init__(self, former: BatchFormer, clock: Clock, sink: Sink, deliver: Deliver, *, model: str = "") -> None:
        self.failures = FailureLog(model, clock)
        self._former = former
        self._clock = clock
        self._sink = sink
        self._deliver = deliver
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)  # there may be a batch to form
        self._deadlines = threading.Condition(self._lock)  # the earliest deadline may have changed
        self._room = threading.Condition(self._lock)  # the queue is shorter than it was
        self._num_idle = 0
        self._awaited_at = math.inf  # the deadline that the timekeeper waits for
        self._closing = False
        self._abandoned = False
        self._failure: CarpoolError | None = None

    # -------------------------------------------------------------------------------------------- for callers

    def submit_many(self, items: list[Item]) -> int:
        """Accept items until the queue is full; return how many were accepted.

        Raises:
            InvalidItem: the first one can never fit.
            BatcherClosed: the batcher is shutting down.
            DispatcherDied: it failed.
        """
        with self._lock:
            count, refusal = self._accept_in_turn(items)
            if count or refusal is None or isinstance(refusal, QueueFull):
                self._work.notify()
                return count
            raise refusal

    def submit(self, item: Item) -> None:
        """Accept an item.

        Raises:
            CarpoolError: as `submit_all`.
        """
        with self._lock:
            self._accept(item)
            if self._num_idle and not self._former.holds_on(item, item.arrived_at):
                self._work.notify()

    def submit_all(self, items: list[Item]) -> None:
        """Accept all the items, or none, so that those of one request may run together.

        Where there are several, a refusal names the first item that it concerns.

        Raises:
            QueueFull: the queue has not enough room.
            DeadlineExceeded: a deadline cannot be met.
            InvalidItem: an item can never fit.
            BatcherClosed: the batcher is shutting down.
            DispatcherDied: it failed.
        """
        with self._lock:
            count, refusal = self._accept_in_turn(items)
            if refusal is not None:
                self._take_back(items[:count])
                if len(items) > 1:
                    refusal.args = (f"item {count} of {len(items)}: {refusal}",)
                raise refusal
            if self._num_idle:
                self._work.notify(len(items))

    def _accept_in_turn(self, items: list[Item]) -> tuple[int, CarpoolError | None]:
        """Accept items up to the first that is refused; return how many, and the refusal."""
        for count, item in enumerate(items):
            try:
                self._accept(item)
            except CarpoolError as refusal:
                return count, refusal
        return len(items), None

    def _take_back(self, items: list[Item]) -> None:
        for item in items:
            self._former.cancel(item)
            self._sink.record(ItemDropped(at=item.arrived_at, arrived_at=item.arrived_at, cause="cancelled"))

    def _accept(self, item: Item) -> None:
        if self._failure:
            raise type(self._failure)(str(self._failure))
        if self._closing:
            raise BatcherClosed("the batcher is shutting down and takes no more items: start another one")
        try:
            self._former.add(item, item.arrived_at)
        except CarpoolError as error:
            self._sink.record(ItemRejected(at=item.arrived_at, reason=why_rejected(error), tenant=item.tenant))
            raise
        if item.deadline_at < self._awaited_at:
            self._deadlines.notify()

    def wait_for_room(self) -> None:
        """Wait until the queue is shorter than its limit, or the dispatcher has shut."""
        with self._lock:
            self._room.wait_for(lambda: self._closing or self._failure or not self._former.is_full)

    def hurry(self, item: Item, deadline_at: float, priority: int) -> bool:
        """Let an item that waits become more urgent; False when it runs or has left already."""
        with self._lock:
            hurried = self._former.hurry(item, deadline_at, priority)
            self._deadlines.notify()
        return hurried

    def cancel(self, item: Item) -> bool:
        """Withdraw an item that waits; False when it runs or has left already."""
        with self._lock:
            withdrawn = self._former.cancel(item)
        if withdrawn:
            self._sink.record(ItemDropped(at=self._clock.now(), arrived_at=item.arrived_at, cause="cancelled"))
        return withdrawn

    @property
    def num_waiting(self) -> int:
        """Accepted items that are not in a batch now."""
        return self._former.num_waiting

    def outlook(self, length: int) -> Outlook:
        """Tell what an item of a length that came now would be in for."""
        with self._lock:
            num_waiting = self._former.num_waiting
            delay_s = self._former.predicted_wait_s(num_waiting, self._clock.now())
            num_items, batch_s = self._former.full_batch(length)
        return Outlook(num_waiting=num_waiting, delay_s=delay_s, item_s=batch_s / num_items)

    @property
    def is_idle(self) -> bool:
        """Whether every accepted item has been answered."""
        with self._lock:
            return not self._former.num_waiting and not self._former.num_running

    @property
    def failure(self) -> CarpoolError | None:
        """Why it stopped working; None while it works."""
        return self._failure

    def set_policy(self, policy: Policy) -> None:
        """Form the batches from now on by another policy; what waits keeps its place.

        Raises:
            ConfigError: the cost model can't tell what the policy limits.
        """
        with self._lock:
            self._former.set_policy(policy)
            self._wake_all()  # who waits for company, or for room, may have waited long enough

    # -------------------------------------------------------------------------------------------- for workers

    @property
    def is_over(self) -> bool:
        """Whether there will be no more batches."""
        with self._lock:
            return self._is_over()

    def _is_over(self) -> bool:
        return bool(self._failure) or (self._closing and not self._former.num_waiting)

    def wake_workers(self) -> None:
        """Let every worker that waits for a batch look whether it is interrupted."""
        with self._lock:
            self._work.notify_all()

    def next_batch(self, is_interrupted: Callable[[], bool] = lambda: False) -> Batch | None:
        """Wait for a batch to run; None when the batcher has shut and nothing is left.

        Args:
            is_interrupted: whether the worker has something else to do; then it is given None.
        """
        while True:
            self.expire()
            with self._lock:
                if is_interrupted():
                    return None
                answer = self._poll()
                if not isinstance(answer, Idle):
                    return answer
                self._num_idle += 1
                self._work.wait(answer.timeout_s)
                self._num_idle -= 1

    def step(self) -> Batch | Idle | None:
        """Say what a free worker does now, without waiting."""
        with self._lock:
            return self._poll()

    def _poll(self) -> Batch | Idle | None:
        now = self._clock.now()
        answer = self._former.poll(now)
        if isinstance(answer, Dispatch):
            self._room.notify_all()
            if self._former.num_waiting and self._num_idle:
                self._work.notify()  # another free worker may take what is left
            return answer.batch
        if self._is_over():
            return None
        return Idle(None if answer.until == math.inf else max(0.0, answer.until - now))

    def succeeded(self, batch: Batch, results: list[Any], *, worker: int, started_at: float) -> None:
        """Answer the items of a batch that ran; a result that is a `CarpoolError` fails its own item only."""
        now = self._clock.now()
        with self._lock:
            self._former.came_back(batch, now)
            depth = self._former.num_waiting
        outcomes = list(zip([item.handle for item in batch.items], results, strict=True))

        def note() -> None:  # after the answers: nobody waits for it, nor does the worker's next batch
            try:
                with self._lock:
                    self._former.learn(batch, now)
                ran = run_succeeded(
                    batch,
                    results,
                    worker=worker,
                    started_at=started_at,
                    at=now,
                    queue_depth=depth,
                    drift=self._former.drift,
                    profiled_s=self._former.profiled_s(batch),
                )
                self._sink.record(ran)
                if ran.num_failed:
                    self.failures.returned(batch, results)
            except BaseException as error:  # noqa: BLE001 - it may be called on a thread that knows nothing of batches
                self.die(error, None)

        self._deliver(outcomes, note)

    def failed(self, batch: Batch, error: CarpoolError, *, started_at: float, fault: Fault | None = None) -> None:
        """Fail the items that are guilty of a failed batch; the others run again.

        Args:
            batch: the batch.
            error: what it failed of.
            started_at: when the model began.
            fault: what kind of fault that is; None goes by the error.
        """
        now = self._clock.now()
        with self._lock:
            guilty = self._former.failed(batch, now, Fault.MODEL if self._abandoned else fault or _fault(error))
            gone = [item for item in batch.items if item.handle.cancelled()]
            withdrawn = [item for item in gone if self._former.cancel(item)]
        failure = run_failed(batch, guilty, error, started_at=started_at, at=now)
        try:
            for item in withdrawn:
                self._sink.record(ItemDropped(at=now, arrived_at=item.arrived_at, cause="cancelled"))
            self._sink.record(failure)
        finally:
            self._deliver([(item.handle, error) for item in guilty])
        if fault is None:  # who names the fault has a worker to replace first, or a batch that did not run
            self.failures.raised(batch, error)

    # ------------------------------------------------------------------------------------------ for deadlines

    def expire(self) -> None:
        """Answer the items whose deadline has passed while they waited."""
        now = self._clock.now()
        with self._lock:
            if self._former.next_deadline_at() > now:
                return
            expired = self._former.expire(now)
        outcomes: list[Outcome] = []
        for item in expired:
            self._sink.record(ItemDropped(at=now, arrived_at=item.arrived_at, cause="deadline"))
            message = f"the deadline passed after {now - item.arrived_at:.3g} s in the queue; it was not computed"
            outcomes.append((item.handle, DeadlineExceeded(message)))
        self._deliver(outcomes)

    def await_deadline(self) -> bool:
        """Wait for the earliest deadline to pass or to change; False when there will be no more."""
        with self._lock:
            if self._failure or (self._closing and not self._former.num_waiting):
                return False
            self._awaited_at = self._former.next_deadline_at()
            left_s = self._awaited_at - self._clock.now()
            self._deadlines.wait(None if left_s == math.inf else max(0.0, left_s))
        return True

    # ---------------------------------------------------------------------------------------------- shut down

    def close(self) -> None:
        """Accept nothing more; what was accepted still runs, waiting for nobody."""
        with self._lock:
            self._closing = True
            self._former.drain()
            self._wake_all()

    def abandon(self, error: CarpoolError) -> None:
        """Fail everything that waits; what runs is not run again if it fails."""
        with self._lock:
            self._abandoned = True
            items = self._former.abandon()
            self._wake_all()
        self._deliver([(item.handle, error) for item in items])
        now = self._clock.now()
        for item in items:
            self._sink.record(ItemDropped(at=now, arrived_at=item.arrived_at, cause="abandoned"))

    def die(self, cause: BaseException, batch: Batch | None) -> None:
        """Fail everything, waiting or in `batch` and not answered yet, because of a fault of the batcher itself."""
        message = f"the dispatcher stopped: {type(cause).__name__}: {cause}; restart the batcher and report this"
        failure = DispatcherDied(message)
        failure.__cause__ = cause
        left = [item for item in batch.items if item.state is not State.DONE] if batch else []
        self._deliver([(item.handle, failure) for item in left])
        with contextlib.suppress(Exception):  # the fault may be the sink's own, and everyone has been answered
            lost = [item for item in left if item.state is State.RUNNING]
            self.fail(failure)
            if batch and lost:
                at = self._clock.now()
                self._sink.record(run_failed(batch, lost, failure, started_at=batch.dispatched_at, at=at))

    def fail(self, failure: CarpoolError) -> None:
        """Fail everything that waits, and take nothing more."""
        self._failure = failure
        self.abandon(failure)

    def _wake_all(self) -> None:
        self._work.notify_all()
        self._deadlines.notify_all()
        self._room.notify_all()


def _fault(error: CarpoolError) -> Fault:
    if isinstance(error, OutOfMemory):
        return Fault.MEMORY
    if isinstance(error, WorkerDied | ModelHung):
        return Fault.WORKER
    return Fault.MODEL if isinstance(error, WrongResultCount) else Fault.ITEM
