"""One worker: a thread, the model that it runs, and the care for both."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from carpool.core import Fault
from carpool.errors import BatcherClosed, CarpoolError, ConfigError, ModelError, ModelHung
from carpool.models.blame import describe
from carpool.models.model import Model
from carpool.runtime.execute import run_checked
from carpool.runtime.overlap import Overlap, overlaps
from carpool.runtime.process.remote import RemoteModel
from carpool.runtime.watch import Watch
from carpool.units import counted, format_bytes, format_duration

if TYPE_CHECKING:
    from carpool.core import Batch, Clock
    from carpool.runtime.dispatcher import Dispatcher
    from carpool.runtime.restarts import Restarts

_logger = logging.getLogger("carpool.runtime")


@dataclass(frozen=True, slots=True, kw_only=True)
class Care:
    """How workers are looked after.

    Args:
        warm_up: given a loaded model, yields batches of items to run before it is ready.
        watch: notices calls that take too long; None where none does.
        max_memory_bytes: a worker's process that holds more is replaced between batches; None for no limit.
        closing: set when no more is accepted: nobody pauses any longer.
    """

    warm_up: Callable[[Model], Iterable[Sequence[Any]]] | None = None
    watch: Watch | None = None
    max_memory_bytes: int | None = None
    closing: threading.Event


class Worker:
    """Runs batches on a thread of its own, and mends what it runs them with.

    Args:
        number: from 0, for events and messages.
        model: what it runs.
        loading: held while it is loaded: libraries do not always load two models of a process at a time.
        restarts: when a model that died is started again.
        care: how it is looked after.
        clock: tells the time.
    """

    def __init__(
        self, number: int, model: Model, *, loading: threading.Lock, restarts: Restarts, care: Care, clock: Clock
    ) -> None:
        self.number = number
        self.model = model
        self.restarts = restarts
        self.is_live = False
        self.is_written_off = False
        self.trouble: CarpoolError | None = None
        self.thread: threading.Thread | None = None
        self.on_written_off: Callable[[], None] = lambda: None
        self._loading = loading
        self._care = care
        self._clock = clock

    def start(self, target: Callable[[Worker], None]) -> None:
        """Begin a thread that lives the life of this worker."""
        name = f"carpool-worker-{self.number}"
        self.thread = threading.Thread(target=target, args=(self,), name=name, daemon=True)
        self.thread.start()

    def bring_up(self, is_wanted: Callable[[], bool] = lambda: True) -> None:
        """Load the model and warm it up, on the thread that runs it.

        Args:
            is_wanted: asked once it is this worker's turn to load.

        Raises:
            CarpoolError: it could not be, or is not wanted any more; `trouble` has it too.
        """
        try:
            self._load_in_turn(is_wanted)
            for batch in self._care.warm_up(self.model) if self._care.warm_up else ():
                self.model.run([self.model.admit(item).payload for item in batch])
            self._check_memory()
        except BaseException as error:
            self.trouble = told(error)
            if self.trouble is error:
                raise
            raise self.trouble from error
        self.trouble = None
        self.is_live = True

    def _load_in_turn(self, is_wanted: Callable[[], bool]) -> None:
        with self._loading:
            if not is_wanted():
                raise BatcherClosed("it was not loaded, since another worker has failed or the batcher was closed")
            self.model.load()

    def _check_memory(self) -> None:
        if self._holds_too_much():
            assert isinstance(self.model, RemoteModel), "only processes are limited"
            held, limit = self.model.memory_bytes(), self._care.max_memory_bytes or 0
            self.model.close()
            raise ConfigError(
                f"the worker's process holds {format_bytes(held)} before its first batch, and max_worker_memory is "
                f"{format_bytes(limit)}: raise it well above that"
            )

    def _holds_too_much(self) -> bool:
        limit, model = self._care.max_memory_bytes, self.model
        return limit is not None and isinstance(model, RemoteModel) and model.memory_bytes() > limit

    # ------------------------------------------------------------------------------------------- running

    def work(self, dispatcher: Dispatcher, replace: Callable[[Worker], None]) -> None:
        """Run batches until the dispatcher has shut, or this worker is beyond mending.

        Args:
            dispatcher: where the batches come from.
            replace: called once this worker is written off: it runs a call that does not return.
        """
        batch = None
        try:
            if overlaps(self.model):
                self._work_ahead(dispatcher, replace)
                return
            while not dispatcher.is_over and self._is_fit(dispatcher):
                batch = dispatcher.next_batch(self._is_dead)
                if batch is not None and not self.run(batch, dispatcher, replace, functools.partial(self._call, batch)):
                    return
        except BaseException as error:  # noqa: BLE001 - nothing that was accepted may be left waiting
            dispatcher.die(error, batch)
        finally:
            self.is_live = False

    def _work_ahead(self, dispatcher: Dispatcher, replace: Callable[[Worker], None]) -> None:
        overlap = Overlap(
            self.model,
            self.number,
            dispatcher=dispatcher,
            run=lambda batch, call: self.run(batch, dispatcher, replace, call),
            is_left=lambda: self.is_written_off,
            clock=self._clock,
        )
        self.on_written_off = overlap.leave
        overlap.work()

    def _is_dead(self) -> bool:
        return isinstance(self.model, RemoteModel) and self.model.is_dead

    def run(
        self,
        batch: Batch,
        dispatcher: Dispatcher,
        replace: Callable[[Worker], None],
        call: Callable[[], list[Any] | CarpoolError],
    ) -> bool:
        """Run one batch and report what came of it; return False where that was reported already, as late.

        Args:
            batch: the batch.
            dispatcher: where it came from.
            replace: called if it does not return in time.
            call: runs it, and returns its results or what it failed of.
        """
        watch, started_at = self._care.watch, self._clock.now()
        if watch is not None:
            watch.begin(self, lambda: self._late(batch, started_at, dispatcher, replace))
        outcome = call()
        if watch is not None and not watch.end(self) and not isinstance(self.model, RemoteModel):
            return False
        if isinstance(outcome, CarpoolError):
            dispatcher.failed(batch, outcome, started_at=started_at)
        else:
            dispatcher.succeeded(batch, outcome, worker=self.number, started_at=started_at)
            self.restarts.ran()
        return True

    def _call(self, batch: Batch) -> list[Any] | CarpoolError:
        payloads = [item.payload for item in batch.items]
        try:
            if isinstance(self.model, RemoteModel):
                return self.model.run_checked(payloads, batch.size)
            return run_checked(self.model.run, payloads, batch.size)
        except CarpoolError as error:
            return error

    def _late(self, batch: Batch, started_at: float, dispatcher: Dispatcher, replace: Callable[[Worker], None]) -> None:
        """End a process whose call does not return; leave a thread behind that can't be ended."""
        assert self._care.watch is not None, "it has called"
        took = format_duration(self._care.watch.timeout_s)
        hung = ModelHung(
            f"a batch of {counted(len(batch.items), 'item')} took longer than batch_timeout, {took}: raise it, or find "
            "out what the model waits for"
        )
        if isinstance(self.model, RemoteModel):
            self.model.kill(hung)
            return
        self.is_written_off, self.trouble, self.is_live = True, hung, False
        dispatcher.failed(batch, hung, started_at=started_at, fault=Fault.MODEL)
        self.on_written_off()
        dispatcher.wake_workers()  # the thread that prepares for it, where there is one
        replace(self)
        dispatcher.failures.raised(batch, hung)

    # ------------------------------------------------------------------------------------------- mending

    def _is_fit(self, dispatcher: Dispatcher) -> bool:
        if not isinstance(self.model, RemoteModel):
            return True
        if self.model.is_dead:
            return self.revive(self.model.death(), dispatcher)
        if self._holds_too_much():
            _logger.warning("worker %d held more than max_worker_memory: it is replaced", self.number)
            self.is_live = False
            self.model.close()
            return self._start_again(dispatcher, 0.0)
        return True

    def revive(self, death: CarpoolError, dispatcher: Dispatcher) -> bool:
        """Start the model again, after pauses where that is needed; return whether it runs."""
        self.is_live = False
        self.trouble = death
        return self._start_again(dispatcher, self._pause_s(has_started=True))

    def _start_again(self, dispatcher: Dispatcher, pause_s: float | None) -> bool:
        while pause_s is not None:
            self._care.closing.wait(pause_s)
            if dispatcher.is_over:
                return False
            try:
                self.bring_up()
            except CarpoolError:
                pause_s = self._pause_s(has_started=False)
            else:
                return True
        return False

    def _pause_s(self, *, has_started: bool) -> float | None:
        pause_s = self.restarts.pause_s(has_started=has_started)
        when = f"in {format_duration(pause_s)}" if pause_s else "at once"
        what_now = "it is given up" if pause_s is None else f"it is started again {when}"
        _logger.warning("worker %d failed, and %s: %s", self.number, what_now, self.trouble)
        return pause_s


def told(error: BaseException) -> CarpoolError:
    """Return what to tell of an error that came out of loading a model."""
    return error if isinstance(error, CarpoolError) else ModelError(f"loading the model raised {describe(error)}")
