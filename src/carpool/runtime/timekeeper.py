"""The thread that answers items whose deadline passes while every worker is busy."""

import threading

from carpool.runtime.dispatcher import Dispatcher


def start_timekeeper(dispatcher: Dispatcher) -> threading.Thread:
    """Start it; it ends with the dispatcher."""

    def keep_time() -> None:
        while dispatcher.await_deadline():
            dispatcher.expire()

    thread = threading.Thread(target=keep_time, name="carpool-timekeeper", daemon=True)
    thread.start()
    return thread
