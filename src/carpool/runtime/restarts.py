"""When a worker that died is started again, and when it is given up."""

from __future__ import annotations

from math import ceil, log2

_FIRST_PAUSE_S = 0.1
_MOST_PAUSE_S = 10.0
_MOST_PAUSES = 6
_SPARE = 3


class Restarts:
    """Counts the deaths of one worker since it last ran a batch well.

    To find the item that kills it, a full batch is run twice whole and then in halves: so many deaths in a row are
    followed by a start at once. After those, and after a start that failed, it pauses for longer and longer; when
    pausing has not helped six times, the worker is given up.

    Args:
        max_batch_size: most items in a batch.

    >>> restarts = Restarts(max_batch_size=1)
    >>> [restarts.pause_s(has_started=False) for _ in range(7)]
    [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, None]
    >>> restarts.ran()
    >>> restarts.pause_s(has_started=True)
    0.0
    """

    def __init__(self, max_batch_size: int) -> None:
        self._num_free = 2 + ceil(log2(max_batch_size)) + _SPARE
        self._num_deaths = 0
        self._num_pauses = 0

    def ran(self) -> None:
        """Take note that it ran a batch well."""
        self._num_deaths = self._num_pauses = 0

    def pause_s(self, *, has_started: bool) -> float | None:
        """Take note of a death; return after how many seconds it is started again, or None to give it up.

        Args:
            has_started: whether it was ready to run batches before it died.
        """
        self._num_deaths += has_started
        if has_started and self._num_deaths <= self._num_free:
            return 0.0
        self._num_pauses += 1
        if self._num_pauses > _MOST_PAUSES:
            return None
        return min(_MOST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** (self._num_pauses - 1))
