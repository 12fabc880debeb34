"""An event loop that keeps time finely enough to send by."""

from __future__ import annotations

import asyncio
import select
import selectors
import sys
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

Result = TypeVar("Result")


def run_in_loop(work: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine to its end in a loop whose timers are late by microseconds, not by a millisecond.

    Ctrl-C cancels the coroutine, which may still return what it has.
    """
    with asyncio.Runner(loop_factory=_new_loop) as runner:
        return runner.run(work)


if sys.platform == "linux":

    class FineSelector(selectors.EpollSelector):
        """Waits for files as epoll does, and for timers with the microseconds of select(2).

        epoll_wait takes whole milliseconds, so every timer would fire up to one late; at a rate of 1,000 a second that
        is a request's whole interval. An epoll object can itself be waited for by select, whose timeout is finer.
        """

        def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            """Wait until a file is ready or the time is up."""
            if timeout is None or timeout <= 0:
                return super().select(timeout)
            select.select([self.fileno()], (), (), timeout)
            return super().select(0)

    def _new_loop() -> asyncio.AbstractEventLoop:
        return asyncio.SelectorEventLoop(FineSelector())

else:

    def _new_loop() -> asyncio.AbstractEventLoop:
        return asyncio.new_event_loop()
