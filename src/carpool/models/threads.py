"""How many threads a model computes with: a setting of the thread that calls PyTorch."""

import sys
import threading


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
        torch = sys.modules.get("torch")
        if self._num_threads is None or torch is None or getattr(self._done, "is_set", False):
            return
        torch.set_num_threads(self._num_threads)
        self._done.is_set = True
