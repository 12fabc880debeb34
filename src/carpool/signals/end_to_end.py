"""Counts of items that went through several models, from their arrival to the last one's answer."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from carpool.signals.histogram import DURATION_BOUNDS_S, Histogram, Tally

__all__ = ["EndToEnd", "EndToEndTotals"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EndToEndTotals:
    """What was counted since the beginning; fields that `Totals` has too mean the same there, of one model.

    Args:
        num_items: items that were answered, with a result or with an error.
        num_failed: items of them that were answered with an error, be it a refusal, by whichever model.
        latency_s: arrival to the last model's answer, of an item that was answered with a result.
    """

    num_items: int
    num_failed: int
    latency_s: Histogram


class EndToEnd:
    """Totals under construction; from any thread.

    >>> ends = EndToEnd()
    >>> ends.add(8, 0.02, failed=False)
    >>> ends.add(1, 0.001, failed=True)
    >>> ends.freeze().num_items, ends.freeze().num_failed, ends.freeze().latency_s.cumulative()[-1]
    (9, 1, 8)
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._num_items = self._num_failed = 0
        self._latency_s = Tally(DURATION_BOUNDS_S)

    def add(self, num_items: int, took_s: float, *, failed: bool) -> None:
        """Count the items of a request that was answered.

        Args:
            num_items: its rows.
            took_s: from its arrival to its answer.
            failed: whether that was an error. How fast one is refused says nothing of how fast others are answered.
        """
        with self._lock:
            self._num_items += num_items
            if failed:
                self._num_failed += num_items
            else:
                self._latency_s.add([took_s] * num_items)

    def freeze(self) -> EndToEndTotals:
        """Copy what was counted so far."""
        with self._lock:
            return EndToEndTotals(
                num_items=self._num_items, num_failed=self._num_failed, latency_s=self._latency_s.freeze()
            )
