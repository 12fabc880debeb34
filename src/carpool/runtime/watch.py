"""Notices calls that take too long."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from carpool.core import Clock


class Watch:
    """Calls back for every call that has not ended in time.

    Either the call ends in time or it is late, never both: `end` says which.

    Args:
        timeout_s: how long a call may take.
        clock: tells the time.
    """

    def __init__(self, timeout_s: float, clock: Clock) -> None:
        self.timeout_s = timeout_s
        self._clock = clock
        self._calls: dict[object, tuple[float, Callable[[], None]]] = {}
        self._changed = threading.Condition()
        self._rests = False
        self._is_over = False

    def begin(self, call: object, on_late: Callable[[], None]) -> None:
        """Watch a call from now on.

        Args:
            call: names it; no other that is watched has the name.
            on_late: called once if it does not end in time, on the thread of the watch.
        """
        self._calls[call] = (self._clock.now() + self.timeout_s, on_late)
        if self._rests:  # while it watches others, it wakes up for this one in time: all have the same limit
            with self._changed:
                self._changed.notify()

    def end(self, call: object) -> bool:
        """Stop to watch a call; return whether it ended in time."""
        return self._calls.pop(call, None) is not None

    def start(self) -> None:
        """Watch on a thread, until `close`."""
        threading.Thread(target=self._keep_watch, name="carpool-watch", daemon=True).start()

    def close(self) -> None:
        """Watch no more."""
        with self._changed:
            self._is_over = True
            self._changed.notify()

    def _keep_watch(self) -> None:
        while not self._is_over:
            for on_late in self.late():
                on_late()
            with self._changed:
                self._rests = True  # before it looks: a call that begins now either is seen, or sees this
                wait_s = self.wait_s()
                self._rests = wait_s is None
                if not self._is_over:
                    self._changed.wait(wait_s)
                self._rests = False

    def late(self) -> list[Callable[[], None]]:
        """Take out the calls that are late by now; return what is to be called for each."""
        now = self._clock.now()
        found: list[Any] = [call for call, (until, _) in list(self._calls.items()) if until <= now]
        entries = [self._calls.pop(call, None) for call in found]
        return [entry[1] for entry in entries if entry is not None]

    def wait_s(self) -> float | None:
        """Return the seconds until the first call that is watched is late; None while there is none."""
        limits = [until for until, _ in list(self._calls.values())]
        return max(0.0, min(limits) - self._clock.now()) if limits else None
