"""Who is about to arrive: what a batch that could leave now may wait for.

Two kinds of arrivals are foreseen. *Returns*: clients that wait for an answer before they send again come back right
after a batch completes; the share of answered items that is followed by an arrival within a short window is learned
from every batch, whether or not anything waited. *Strangers*: everything else, by the mean gap between arrivals.
"""

import math

_SMOOTHING = 0.25  # weight of the newest window; the last eight or so count
_GAP_SMOOTHING = 0.1
_NOT_WORTH_A_THOUGHT = 0.5  # fewer expected returns than this are none


class ArrivalForecast:
    """Learns how arrivals follow completions, and how far apart they are.

    Args:
        window_s: how long after a completion an arrival counts as a return; the longest wait that is allowed.
    """

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._return_share = 0.0
        self._num_answered = 0  # items in the last completion
        self._num_arrived = 0  # arrivals since then, within the window
        self._completed_at = -math.inf
        self._last_event_at = -math.inf  # the last completion or arrival
        self._last_arrival_at = -math.inf
        self._mean_gap_s = math.inf

    def arrived(self, now: float) -> None:
        """Take note of an arrival."""
        gap = now - self._last_arrival_at
        if gap < math.inf:
            known = self._mean_gap_s < math.inf
            self._mean_gap_s = self._mean_gap_s + _GAP_SMOOTHING * (gap - self._mean_gap_s) if known else gap
        self._last_arrival_at = self._last_event_at = now
        if now - self._completed_at <= self._window_s:
            self._num_arrived += 1

    def completed(self, num_items: int, now: float) -> None:
        """Take note that `num_items` were answered."""
        if self._num_answered:
            share = min(1.0, self._num_arrived / self._num_answered)
            self._return_share += _SMOOTHING * (share - self._return_share)
        self._num_answered, self._num_arrived = num_items, 0
        self._completed_at = self._last_event_at = now

    def returns(self, now: float) -> float:
        """Return how many of the items answered last are still expected to be followed by another."""
        if now - self._completed_at >= self._window_s:
            return 0.0
        expected = self._return_share * self._num_answered - self._num_arrived
        return expected if expected > _NOT_WORTH_A_THOUGHT else 0.0

    @property
    def mean_gap_s(self) -> float:
        """Mean seconds between arrivals; infinite before the second."""
        return self._mean_gap_s

    @property
    def quiet_since(self) -> float:
        """The last arrival or completion."""
        return self._last_event_at

    @property
    def completed_at(self) -> float:
        """The last completion."""
        return self._completed_at
