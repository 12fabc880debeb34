"""How much of the processor other programs took while something was timed: on a busy machine times are not its own."""

from __future__ import annotations

import contextlib
import time


class OtherLoad:
    """Counts processor time from its making on.

    >>> 0.0 <= OtherLoad().cores()
    True
    """

    def __init__(self) -> None:
        self._begun_at, self._all_s, self._own_s = time.monotonic(), _busy_s(), _own_s()

    def cores(self) -> float:
        """Return how many cores' time other programs used, on average since the beginning."""
        elapsed_s = max(time.monotonic() - self._begun_at, 1e-3)
        others_s = (_busy_s() - self._all_s) - (_own_s() - self._own_s)
        return max(0.0, others_s / elapsed_s)


def _busy_s() -> float:
    """Seconds that all cores together were not idle."""
    import psutil

    times = psutil.cpu_times()
    # On Linux a guest's time is counted within the user's, and what the hypervisor took (steal) was not idle either.
    counted = ("user", "nice", "system", "irq", "softirq", "steal", "interrupt", "dpc")
    return float(sum(getattr(times, name, 0.0) for name in counted))


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
