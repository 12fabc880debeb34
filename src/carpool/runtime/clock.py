"""The real clock."""

from time import perf_counter


class SystemClock:
    """Tells the process's monotonic time."""

    now = staticmethod(perf_counter)
