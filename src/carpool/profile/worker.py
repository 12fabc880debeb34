"""The one thread that a model runs on: PyTorch and OpenMP keep a pool of threads for each thread that calls them."""

from __future__ import annotations

import queue
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    Value = TypeVar("Value")

FINISH_WITHIN_S = 10.0


class OneThread:
    """Runs every function that it is handed on the same thread, one after the other.

    The caller waits, and can be interrupted while it does; the call itself then still runs to its end. The thread
    is a daemon, so that a model that never returns cannot keep the process alive.

    >>> import threading
    >>> with OneThread() as thread:
    ...     first, second = thread.call(threading.get_ident), thread.call(threading.get_ident)
    >>> first == second != threading.get_ident()
    True
    """

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="carpool-profile", daemon=True)
        self._given_up = False

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let the call that runs finish, for a while: a process that ends amid one of PyTorch's calls crashes."""
        self._jobs.put(None)
        self._thread.join(0.0 if self._given_up else FINISH_WITHIN_S)

    def call(self, function: Callable[[], Value]) -> Value:
        """Run a function on the thread, and return or raise what it does."""
        future: Future[Value] = Future()
        self._jobs.put((future, function))
        return future.result()

    def call_last(self, function: Callable[[], object]) -> None:
        """Run a function that tidies up, unless a call before it, interrupted, still does not return after a while."""
        future: Future[object] = Future()
        self._jobs.put((future, function))
        try:
            future.result(FINISH_WITHIN_S)
        except TimeoutError:
            self._given_up = True

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            future, function = job
            try:
                future.set_result(function())
            except BaseException as error:  # noqa: BLE001 - it is raised where the result is awaited
                future.set_exception(error)
