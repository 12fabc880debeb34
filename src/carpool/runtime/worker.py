"""The threads of a live batcher."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

from carpool.core import Batch, Clock
from carpool.errors import CarpoolError
from carpool.runtime.dispatcher import Dispatcher
from carpool.runtime.execute import run_checked


def run_batch(
    batch: Batch, dispatcher: Dispatcher, run: Callable[[Sequence[Any]], Any], clock: Clock, worker: int
) -> None:
    """Run one batch and report what came of it."""
    started_at = clock.now()
    try:
        results = run_checked(run, [item.payload for item in batch.items], batch.size)
    except CarpoolError as error:
        dispatcher.failed(batch, error, started_at=started_at)
    else:
        dispatcher.succeeded(batch, results, worker=worker, started_at=started_at)


def start_worker(
    dispatcher: Dispatcher, run: Callable[[Sequence[Any]], Any], clock: Clock, worker: int
) -> threading.Thread:
    """Start a thread that runs batches until the dispatcher has shut."""

    def work() -> None:
        work_until_closed(dispatcher, run, clock, worker)

    thread = threading.Thread(target=work, name=f"carpool-worker-{worker}", daemon=True)
    thread.start()
    return thread


def work_until_closed(dispatcher: Dispatcher, run: Callable[[Sequence[Any]], Any], clock: Clock, worker: int) -> None:
    """Run batches until the dispatcher has shut; whatever goes wrong here fails the items, and says so."""
    batch = None
    try:
        while (batch := dispatcher.next_batch()) is not None:
            run_batch(batch, dispatcher, run, clock, worker)
    except BaseException as error:  # noqa: BLE001 - nothing that was accepted may be left waiting
        dispatcher.die(error, batch)


def start_timekeeper(dispatcher: Dispatcher) -> threading.Thread:
    """Start the thread that answers items whose deadline passes while every worker is busy."""

    def keep_time() -> None:
        while dispatcher.await_deadline():
            dispatcher.expire()

    thread = threading.Thread(target=keep_time, name="carpool-timekeeper", daemon=True)
    thread.start()
    return thread
