"""How much of the processor other programs took while something was timed: on a busy machine times are not its own."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# Processor time is counted in hundredths of a second: over less than this it says little.
LEAST_S = 0.5
# On Linux a guest's time is counted within the user's, and what the hypervisor took (steal) was not idle either.
BUSY = ("user", "nice", "system", "irq", "softirq", "steal", "interrupt", "dpc")


class OtherLoad:
    """Counts processor time from its making on.

    Args:
        clock: Seconds from any origin.
        busy_s: Seconds that all cores together were not idle.
        own_s: Those of this process and of what it started.

    >>> readings = iter([1.0, 7.0])
    >>> seconds = iter([0.0, 4.0])
    >>> OtherLoad(clock=lambda: next(seconds), busy_s=lambda: next(readings), own_s=lambda: 0.0).cores()
    1.5
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        busy_s: Callable[[], float] | None = None,
        own_s: Callable[[], float] | None = None,
    ) -> None:
        self._clock, self._busy_s, self._own_s = clock, busy_s or _busy_s, own_s or _own_s
        self._begun_at, self._all_s, self._mine_s = clock(), self._busy_s(), self._own_s()

    def cores(self) -> float:
        """Return how many cores' time other programs used, on average since the beginning; 0 while it is too early."""
        elapsed_s = self._clock() - self._begun_at
        if elapsed_s < LEAST_S:
            return 0.0
        others_s = (self._busy_s() - self._all_s) - (self._own_s() - self._mine_s)
        return max(0.0, others_s / elapsed_s)


def _busy_s() -> float:
    """Seconds that the cores which this process may use were not idle, all together."""
    import psutil

    cores, allowed = psutil.cpu_times(percpu=True), _allowed()
    # Where some cores are switched off, their numbers are no places in the list: then all count.
    counted = [cores[number] for number in allowed] if allowed and max(allowed) < len(cores) else cores
    return float(sum(getattr(core, kind, 0.0) for core in counted for kind in BUSY))


def _allowed() -> set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()


def _own_s() -> float:
    """Seconds of this process and of those that it started, ended ones included."""
    import psutil

    process = psutil.Process()
    times = process.cpu_times()
    total_s = times.user + times.system + times.children_user + times.children_system
    for child in process.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            total_s += sum(child.cpu_times()[:2])
    return float(total_s)
