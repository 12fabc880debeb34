"""Where the outputs of an engine are taken: on an event loop, or on the thread that waits for them.

Turning tokens into text, looking for stop strings and handing outputs over is done there, while the engine's thread
computes the next step.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


class Consumer(Protocol):
    """Calls functions later, one after another, in the order in which they were handed in."""

    def post(self, call: Callable[[], None], /) -> bool:
        """Have a function called, which must not raise; from any thread. False: nobody is left to call it."""
        ...


class LoopConsumer:
    """Calls on an event loop: whatever was posted since the loop last looked, by one wake-up.

    Args:
        loop: the loop; once it has closed, nobody is left to tell.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._calls: deque[Callable[[], None]] = deque()
        self._lock = threading.Lock()
        self._is_awake = False

    def post(self, call: Callable[[], None], /) -> bool:
        """Have a function called on the loop; False once it has closed."""
        with self._lock:
            self._calls.append(call)
            if not self._is_awake:
                try:
                    self.loop.call_soon_threadsafe(self._run)
                except RuntimeError:  # it has closed
                    self._calls.clear()
                    return False
                self._is_awake = True
        return not self.loop.is_closed()

    def _run(self) -> None:
        with self._lock:
            calls, self._calls, self._is_awake = self._calls, deque(), False
        for call in calls:
            call()


class QueueConsumer:
    """Calls on whichever thread asks for it, by `run_next`."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()

    def post(self, call: Callable[[], None], /) -> bool:
        """Have a function called by the next `run_next`."""
        self._calls.put(call)
        return True

    def run_next(self) -> None:
        """Wait for a function, and call it."""
        self._calls.get()()
