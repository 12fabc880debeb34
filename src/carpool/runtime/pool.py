"""The workers of a batcher, from the start to the end of their lives."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

from carpool.errors import BatcherClosed, CarpoolError, ModelHung, WorkerDied
from carpool.models.target import remake
from carpool.runtime.process.remote import RemoteModel
from carpool.runtime.restarts import Restarts
from carpool.runtime.watch import Watch
from carpool.runtime.worker import Care, Worker, told

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from carpool.core import Clock
    from carpool.models.model import Model
    from carpool.runtime.dispatcher import Dispatcher

_logger = logging.getLogger("carpool.runtime")
# So many threads may be stuck in calls that do not return, each with a core and with what it holds.
_MOST_STUCK = 4
_KILLED_WITHIN_S = 5.0


class Pool:
    """Starts workers, replaces those that are lost, and lets them go.

    Args:
        clock: tells the time.
        warm_up: given a loaded model, yields batches of items to run before it is ready.
        batch_timeout_s: how long a call may take; None for ever.
        max_memory_bytes: of a worker's process; None for no limit.
        max_batch_size: most items in a batch.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        warm_up: Callable[[Model], Iterable[Sequence[Any]]] | None,
        batch_timeout_s: float | None,
        max_memory_bytes: int | None,
        max_batch_size: int,
    ) -> None:
        self._clock = clock
        self._max_batch_size = max_batch_size
        self._watch = None if batch_timeout_s is None else Watch(batch_timeout_s, clock)
        self._closing = threading.Event()
        self._care = Care(warm_up=warm_up, watch=self._watch, max_memory_bytes=max_memory_bytes, closing=self._closing)
        self._workers: list[Worker] = []
        self._stuck: list[Worker] = []
        self._kept: Model | None = None
        self._lock = threading.Lock()
        self._loading = threading.Lock()  # of all workers whose models are loaded in this process
        self._num_loaded = 0
        self._opened = threading.Event()  # there is a dispatcher, or there will be none
        self._dispatcher: Dispatcher | None = None
        self._make_dispatcher: Callable[[], Dispatcher] | None = None
        self.failure: CarpoolError | None = None

    # -------------------------------------------------------------------------------------------- start

    def start(self, models: list[Model], make_dispatcher: Callable[[], Dispatcher]) -> None:
        """Let every worker load and warm up its model, all at once, and then work; a second call does nothing.

        Args:
            models: one a worker; several may be one and the same.
            make_dispatcher: called when all are ready, on the thread of the last one.
        """
        with self._lock:
            if self._workers:
                return
            self._make_dispatcher = make_dispatcher
            self._kept = models[0]
            for number, model in enumerate(models):
                self._workers.append(self._worker(number, model, Restarts(self._max_batch_size)))
        for worker in self._workers:
            worker.start(self._live)

    def _worker(self, number: int, model: Model, restarts: Restarts) -> Worker:
        loading = threading.Lock() if isinstance(model, RemoteModel) else self._loading
        return Worker(number, model, loading=loading, restarts=restarts, care=self._care, clock=self._clock)

    def wait(self) -> None:
        """Wait until all workers are ready.

        Raises:
            CarpoolError: one could not be made so.
        """
        self._opened.wait()
        if self.failure is not None:
            raise self.failure

    def _live(self, worker: Worker) -> None:
        """Live the life of a worker, on its own thread."""
        try:
            worker.bring_up(lambda: not self._opened.is_set())
            self._open_if_last()
        except BaseException as error:  # noqa: BLE001 - raised again in wait(), where somebody waits for it
            self._fail_to_start(told(error))
        self._opened.wait()
        self._work(worker)

    def _open_if_last(self) -> None:
        with self._lock:
            self._num_loaded += 1
            if self._num_loaded < len(self._workers) or self._opened.is_set():
                return
            assert self._make_dispatcher is not None, "it was started"
            self._dispatcher = self._make_dispatcher()
            if self._watch is not None:
                self._watch.start()
            self._opened.set()

    def _fail_to_start(self, error: CarpoolError) -> None:
        with self._lock:
            if self._opened.is_set():
                return
            self.failure = error
            self._opened.set()
        self._kill()

    def _work(self, worker: Worker) -> None:
        try:
            if self._dispatcher is not None:
                worker.work(self._dispatcher, self._replace)
                self._lose(worker)
        finally:
            self._let_go(worker)

    def _let_go(self, worker: Worker) -> None:
        """Close the model of a worker that is the only one to have it; a shared one is the batcher's."""
        if worker.model is self._kept and not isinstance(worker.model, RemoteModel):
            return
        if any(other is not worker and other.model is worker.model for other in self._workers):
            return
        try:
            worker.model.close()
        except CarpoolError:
            _logger.exception("closing the model of worker %d failed", worker.number)

    # --------------------------------------------------------------------------------------------- losses

    def _replace(self, worker: Worker) -> None:
        """Put another in the place of a thread that is stuck, where its model allows that."""
        assert self._dispatcher is not None, "it was working"
        self._stuck = [other for other in [*self._stuck, worker] if other.thread and other.thread.is_alive()]
        model = self._successor(worker.model)
        if model is None or len(self._stuck) > _MOST_STUCK:
            self._lose(worker)
            return
        successor = self._worker(worker.number, model, worker.restarts)
        successor.trouble = worker.trouble
        with self._lock:
            self._workers[self._workers.index(worker)] = successor
        successor.start(self._succeed)

    def _successor(self, model: Model) -> Model | None:
        if model.concurrent:
            return model
        return remake(model.recipe, device=model.info.device) if model.recipe and model.recipe.is_independent else None

    def _succeed(self, worker: Worker) -> None:
        """Live the life of a worker that takes the place of another."""
        assert self._dispatcher is not None, "the other was working"
        assert worker.trouble is not None, "the other was written off"
        if worker.revive(worker.trouble, self._dispatcher):
            self._work(worker)
        else:
            self._lose(worker)

    def _lose(self, worker: Worker) -> None:
        """Fail everything when the last worker is lost."""
        dispatcher = self._dispatcher
        assert dispatcher is not None, "it was working"
        worker.is_live = False
        if dispatcher.is_over or worker.trouble is None or worker not in self._workers:
            return
        with self._lock:
            left = [other for other in self._workers if other is not worker and self._goes_on(other)]
        if not left:
            kind = ModelHung if isinstance(worker.trouble, ModelHung) else WorkerDied
            dispatcher.fail(kind(f"no worker is left, and what waited has failed; the last one: {worker.trouble}"))

    @staticmethod
    def _goes_on(worker: Worker) -> bool:
        return not worker.is_written_off and worker.thread is not None and worker.thread.is_alive()

    # ---------------------------------------------------------------------------------------------- state

    @property
    def is_ready(self) -> bool:
        """Whether at least one worker can run a batch."""
        return self._dispatcher is not None and any(worker.is_live for worker in self._workers)

    @property
    def trouble(self) -> CarpoolError | None:
        """What keeps the workers from running while none can; None where one can, or all still load."""
        if self._dispatcher is None or self.is_ready:
            return None
        return next((worker.trouble for worker in self._workers if worker.trouble is not None), None)

    def holds(self, thread: threading.Thread) -> bool:
        """Whether a thread is one of the workers'."""
        return any(worker.thread is thread for worker in [*self._workers, *self._stuck])

    def died(self) -> None:
        """Take note that the process of a worker has ended: whoever waits with nothing to do sees to it."""
        if self._dispatcher is not None:
            self._dispatcher.wake_workers()

    # ------------------------------------------------------------------------------------------------ end

    def close(self, timeout_s: float | None) -> None:
        """Finish what was accepted, for so long, and end the workers.

        Args:
            timeout_s: how long to wait; None for ever.
        """
        self._closing.set()
        dispatcher = self._dispatcher
        if dispatcher is None:
            if self._workers:
                message = "the batcher was closed before its model was loaded: start another one"
                self._fail_to_start(BatcherClosed(message))
            return
        dispatcher.close()
        if not self._join(timeout_s):
            message = f"the batcher was closed, and {timeout_s} s were not enough to finish: allow more time"
            dispatcher.abandon(BatcherClosed(message))
            self._kill()
        dispatcher.failures.close()
        if self._watch is not None:
            self._watch.close()

    def _join(self, timeout_s: float | None) -> bool:
        """Wait for the workers, and for those that take their place meanwhile; return whether all have ended."""
        stop_at = None if timeout_s is None else self._clock.now() + timeout_s
        while alive := [worker.thread for worker in list(self._workers) if self._goes_on(worker)]:
            left_s = None if stop_at is None else stop_at - self._clock.now()
            if left_s is not None and left_s <= 0:
                return False
            assert alive[0] is not None, "it goes on"
            alive[0].join(left_s)
        return True

    def _kill(self) -> None:
        """End the processes at once, and see their workers off."""
        remote = [worker for worker in list(self._workers) if isinstance(worker.model, RemoteModel)]
        for worker in remote:
            worker.model.kill()  # type: ignore[attr-defined]  # they are remote
        for worker in remote:
            if worker.thread is not None and worker.thread is not threading.current_thread():
                worker.thread.join(_KILLED_WITHIN_S)
