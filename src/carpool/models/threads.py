"""How many threads a model computes with: a setting of the thread that calls PyTorch."""

import os
import threading

from carpool.models.loaded_torch import loaded_torch

_MOST_WORKERS = 8  # Python's own part of a call runs on one thread at a time: beyond these they wait for each other


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def preferred_workers(num_threads: int | None) -> int:
    """How many workers share the cores best, for a model that computes on the CPU.

    Single-threaded calls side by side do more than one call with many threads: small operations gain little from a
    second thread, and each of them waits for the slowest.

    Args:
        num_threads: threads of each, where that is asked for.
    """
    return max(1, min(_MOST_WORKERS, num_cores() // (num_threads or 1)))


class ThreadCount:
    """Set PyTorch's number of threads on whichever thread runs a model, once each.

    OpenMP keeps the number for each calling thread apart, so that a value set where a model is loaded
    has no effect where it runs.

    Args:
        num_threads: threads of one operation; None leaves PyTorch's own choice.
    """

    def __init__(self, num_threads: int | None) -> None:
        self._num_threads = num_threads
        self._done = threading.local()

    def apply(self) -> None:
        """Set the number on the calling thread, unless that is done or PyTorch is not in use."""
        torch = loaded_torch()
        if self._num_threads is None or torch is None or getattr(self._done, "is_set", False):
            return
        torch.set_num_threads(self._num_threads)
        self._done.is_set = True
