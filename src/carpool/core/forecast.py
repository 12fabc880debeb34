"""Who is about to arrive: what a batch that could leave now may wait for.

Two kinds of arrivals are foreseen. *Returns*: clients that wait for an answer before they send again come back right
after a batch completes; the share of answered items that is followed by an arrival within a short window is learned
from every batch, whether or not anything waited. *Strangers*: everything else, by the mean gap between arrivals.
"""

import math
from collections import deque
from dataclasses import dataclass

_SMOOTHING = 0.25  # weight of the newest window; the last eight or so count
_GAP_SMOOTHING = 0.1
_NOT_WORTH_A_THOUGHT = 0.5  # fewer expected returns than this are none


@dataclass(slots=True)
class _Window:
    """What follows one completion."""

    completed_at: float
    num_answered: int  # at least 1
    num_arrived: int = 0  # arrivals since then that are taken for returns, at most `num_answered`


class ArrivalForecast:
    """Learns how arrivals follow completions, and how far apart they are.

    Args:
        window_s: how long after a completion an arrival counts as a return; the longest wait that is allowed.
        num_workers: how many of the last completions are watched: one of each worker.
    """

    def __init__(self, window_s: float, num_workers: int = 1) -> None:
        self.window_s = window_s
        self._num_windows = num_workers
        self._return_share = 0.0
        self._return_delay_s = 0.0  # mean, from completion to return
        self._windows: deque[_Window] = deque()  # oldest first
        self._last_event_at = -math.inf  # the last completion or arrival
        self._last_arrival_at = -math.inf
        self._mean_gap_s = math.inf

    def arrived(self, now: float) -> None:
        """Take note of an arrival."""
        gap = now - self._last_arrival_at
        if 0.0 < gap < math.inf:  # what comes at one instant, as the rows of a request do, is one arrival
            known = self._mean_gap_s < math.inf
            self._mean_gap_s = self._mean_gap_s + _GAP_SMOOTHING * (gap - self._mean_gap_s) if known else gap
        self._last_arrival_at = self._last_event_at = now
        for window in self._windows:  # nobody knows whose return it is: the oldest answers come back first
            if window.num_arrived < window.num_answered and now - window.completed_at <= self.window_s:
                window.num_arrived += 1
                self._return_delay_s += _GAP_SMOOTHING * (now - window.completed_at - self._return_delay_s)
                return

    def completed(self, num_items: int, now: float) -> None:
        """Take note that `num_items` (at least 1) were answered."""
        if len(self._windows) == self._num_windows:
            oldest = self._windows.popleft()
            share = oldest.num_arrived / oldest.num_answered
            self._return_share += _SMOOTHING * (share - self._return_share)
        self._windows.append(_Window(now, num_items))
        self._last_event_at = now

    def returns(self, now: float) -> float:
        """Return how many of the items answered last are still expected to be followed by another."""
        open_windows = (window for window in self._windows if now - window.completed_at < self.window_s)
        expected = sum(max(0.0, self._return_share * w.num_answered - w.num_arrived) for w in open_windows)
        return expected if expected > _NOT_WORTH_A_THOUGHT else 0.0

    def next_in_s(self, returns: float) -> float:
        """Return about how long until the next arrival, `returns` of them being expected from the last completions.

        As many returns with a mean delay of d follow each other every d / returns seconds or sooner.
        """
        return min(self._mean_gap_s, self._return_delay_s / returns if returns else math.inf)

    @property
    def quiet_since(self) -> float:
        """The last arrival or completion."""
        return self._last_event_at
