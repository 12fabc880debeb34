"""While a device computes one batch, the next one is formed, prepared and copied to it.

Without this the device rests while a batch is collated and copied. With it, a second thread of the worker does that
part (`Stages.prepare` and `to_device`, on a CUDA stream of its own) for one batch ahead.

A batch that is formed too early is too small: what arrives while the device computes would have to wait for the one
after it. So the next batch is formed only when the current one is predicted to end within the time that preparing has
taken lately, or when it has ended. As long as nothing is known of either, nothing is formed ahead.
"""

from __future__ import annotations

import functools
import math
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from carpool.core import Batch, Fault
from carpool.errors import CarpoolError, ModelHung
from carpool.models.loaded_torch import loaded_torch
from carpool.runtime.execute import run_checked, translate

if TYPE_CHECKING:
    from collections.abc import Callable

    from carpool.core import Clock
    from carpool.models.model import Model, Stages
    from carpool.runtime.dispatcher import Dispatcher

_MARGIN = 1.5
_KEEP = 0.9


def overlaps(model: Model) -> bool:
    """Whether preparing and computing are done by different hardware, so that they gain from being done at once."""
    return model.stages is not None and model.info.device.partition(":")[0] == "cuda"


class Ahead:
    """Says when the next batch is formed.

    >>> ahead = Ahead()
    >>> ahead.prepared(0.002)
    >>> round(ahead.look_at(ends_at=1.0), 6)
    0.997
    """

    def __init__(self) -> None:
        self._host_s: float | None = None

    def prepared(self, host_s: float) -> None:
        """Take note of how long it took to prepare a batch."""
        self._host_s = host_s if self._host_s is None else _KEEP * self._host_s + (1.0 - _KEEP) * host_s

    def look_at(self, ends_at: float | None) -> float:
        """Return when to form the next batch, as an instant; infinite for not before the current one has ended.

        Args:
            ends_at: when the current batch is predicted to end; None where nothing is predicted.
        """
        return math.inf if ends_at is None or self._host_s is None else ends_at - _MARGIN * self._host_s


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A batch whose inputs are on the device."""

    batch: Batch
    inputs: Any


class Overlap:
    """The two threads of a worker that prepares one batch ahead.

    Args:
        model: has stages.
        number: of the worker.
        dispatcher: where the batches come from.
        run: given a batch and a call that computes it, reports what comes of that; False where that is late.
        is_left: whether the worker has been written off, so that others run what it would have.
        clock: tells the time.
    """

    def __init__(
        self,
        model: Model,
        number: int,
        *,
        dispatcher: Dispatcher,
        run: Callable[[Batch, Callable[[], list[Any] | CarpoolError]], bool],
        is_left: Callable[[], bool],
        clock: Clock,
    ) -> None:
        stages = model.stages
        assert stages is not None, "asked by `overlaps`"
        self._stages: Stages = stages
        self._device = model.info.device
        self._number = number
        self._dispatcher = dispatcher
        self._run = run
        self._is_left = is_left
        self._clock = clock
        self._ahead = Ahead()
        self._changed = threading.Condition()
        self._current: Batch | None = None
        self._next: _Prepared | None = None
        self._is_over = False

    def work(self) -> None:
        """Compute on this thread what the other one prepares, until the dispatcher has shut."""
        host = threading.Thread(target=self._prepare_all, name=f"carpool-host-{self._number}", daemon=True)
        host.start()
        while (prepared := self._taken()) is not None:
            try:
                if not self._compute(prepared):
                    return
            except BaseException as error:  # noqa: BLE001 - nothing that was accepted may be left waiting
                self._dispatcher.die(error, prepared.batch)
                return

    def _compute(self, prepared: _Prepared) -> bool:
        """Compute a batch; return whether this worker goes on."""
        call = functools.partial(self._computed, prepared)
        is_in_time = self._run(prepared.batch, call)
        with self._changed:
            self._current = None
            self._changed.notify_all()
        return is_in_time

    def _taken(self) -> _Prepared | None:
        """Wait for the next batch; None when there is none left."""
        with self._changed:
            self._changed.wait_for(lambda: self._next is not None or self._is_over)
            prepared, self._next = self._next, None
            self._current = prepared.batch if prepared else None
            self._changed.notify_all()
            return prepared

    def _computed(self, prepared: _Prepared) -> list[Any] | CarpoolError:
        payloads, stages = [item.payload for item in prepared.batch.items], self._stages

        def compute(_: Any) -> Any:
            return stages.finish(stages.to_host(stages.compute(prepared.inputs)))

        try:
            return run_checked(compute, payloads, prepared.batch.size)
        except CarpoolError as error:
            return error

    def leave(self) -> None:
        """Hand back what was prepared, now that this worker has been written off."""
        with self._changed:
            prepared, self._next, self._is_over = self._next, None, True
            self._changed.notify_all()
        if prepared is not None:
            self._hand_back(prepared.batch)

    def _hand_back(self, batch: Batch) -> None:
        error = ModelHung("the call before it took longer than batch_timeout")
        self._dispatcher.failed(batch, error, started_at=self._clock.now(), fault=Fault.WORKER)

    # ----------------------------------------------------------------------------------------- the other thread

    def _prepare_all(self) -> None:
        batch = None
        try:
            copying = _copying(self._device)
            while self._may_look():
                batch = self._dispatcher.next_batch(self._is_left)
                if batch is not None:
                    self._prepare(batch, copying)
                elif self._is_done():
                    break
        except BaseException as error:  # noqa: BLE001 - nothing that was accepted may be left waiting
            self._dispatcher.die(error, batch)
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    def _may_look(self) -> bool:
        """Wait until the next batch may be formed; False when this worker has been written off."""
        with self._changed:
            while not (self._is_over or self._is_left()):
                wait_s = self._wait_s()
                if wait_s is not None and wait_s <= 0.0:
                    return True
                self._changed.wait(wait_s)
        return False

    def _wait_s(self) -> float | None:
        """Return how long not to look yet; None until something changes."""
        if self._next is not None:
            return None
        if self._current is None:
            return 0.0
        batch = self._current
        ends_at = batch.dispatched_at + batch.predicted_s if batch.predicted_s else None
        look_at = self._ahead.look_at(ends_at)
        return None if look_at == math.inf else look_at - self._clock.now()

    def _is_done(self) -> bool:
        """Wait until nothing is computed, which might fail and run again; return whether that was all."""
        with self._changed:
            self._changed.wait_for(lambda: (self._current is None and self._next is None) or self._is_over)
        return self._is_over or self._is_left() or self._dispatcher.is_over

    def _prepare(self, batch: Batch, copying: Callable[[Callable[[], Any]], Any]) -> None:
        started_at = self._clock.now()
        payloads = [item.payload for item in batch.items]
        rows = payloads + [payloads[-1]] * (batch.size - len(payloads))
        try:
            inputs = copying(lambda: self._stages.to_device(self._stages.prepare(rows)))
        except BaseException as error:  # noqa: BLE001 - whatever the model raises is an error of the model
            failure = translate(error, len(rows))
            failure.__cause__ = error.__cause__ if failure is error else error
            self._dispatcher.failed(batch, failure, started_at=started_at)
            return
        self._ahead.prepared(self._clock.now() - started_at)
        with self._changed:
            is_late = self._is_over
            if not is_late:
                self._next = _Prepared(batch, inputs)
                self._changed.notify_all()
        if is_late:
            self._hand_back(batch)


def _copying(device: str) -> Callable[[Callable[[], Any]], Any]:
    """Return what runs a copy to a device beside what it computes, and waits until the copy is there."""
    torch = loaded_torch()
    if torch is None or not torch.cuda.is_available():
        return lambda copy: copy()
    stream = torch.cuda.Stream(device)

    def beside(copy: Callable[[], Any]) -> Any:
        with torch.cuda.stream(stream):
            copied = copy()
        stream.synchronize()
        return copied

    return beside
