"""The one definition of each figure; every command, page and benchmark takes it from here.

All of them are functions of plain numbers: durations in seconds, lengths in tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from carpool.errors import OutOfRange

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "LITTLES_LAW_TOLERANCE",
    "Estimate",
    "estimate_percentile",
    "fill_ratio",
    "goodput",
    "littles_law_gap",
    "mean",
    "mean_batch_size",
    "padding_waste",
    "percentile",
    "percentile_interval",
    "prediction_error",
    "throughput",
    "utilisation",
]

LITTLES_LAW_TOLERANCE = 0.05
"""A larger gap than this means that the window is no steady state, or that items went missing."""

_PERCENT = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A percentile of a sample and how far the sample leaves it open.

    Args:
        value: the sample's own percentile.
        low: lower end of the 95 % confidence interval; None where the sample is too small to bound it.
        high: upper end; None where the sample is too small to bound it.
        num_values: size of the sample.
    """

    value: float
    low: float | None
    high: float | None
    num_values: int


def mean(values: Sequence[float]) -> float:
    """Average of a sample, `sum / n`.

    Raises:
        OutOfRange: the sample is empty.
    """
    _require_values(values)
    return math.fsum(values) / len(values)


def percentile(values: Sequence[float], q: float) -> float:
    """Value below which q percent of the sample lies, interpolated linearly between order statistics.

    With the sorted sample x_0..x_(n-1), h = (n - 1) q / 100 and k = floor(h) it is x_k + (h - k) (x_(k+1) - x_k).

    Args:
        values: the sample, in any order.
        q: percent, 0 to 100.

    Raises:
        OutOfRange: the sample is empty, or q is not in 0..100.

    Source: R. Hyndman, Y. Fan, "Sample Quantiles in Statistical Packages", 1996, definition 7.

    >>> percentile([4.0, 1.0, 3.0, 2.0], 50)
    2.5
    """
    _require_values(values)
    return _percentile_of_sorted(sorted(values), _share(q))


def percentile_interval(
    values: Sequence[float], q: float, *, confidence: float = 0.95
) -> tuple[float | None, float | None]:
    """Confidence interval of a percentile by order statistics, whatever the distribution.

    The number of values below the true percentile is Binomial(n, q / 100). The interval [x_(l), x_(u)] takes the
    largest l with P(Bin < l) <= (1 - confidence) / 2 and the smallest u with P(Bin >= u) <= (1 - confidence) / 2. It
    assumes independent values: where they are correlated, as latencies under a queue are, the truth is less certain.

    Args:
        values: the sample, in any order.
        q: percent, 0 to 100.
        confidence: probability that the interval covers the true percentile, between 0 and 1.

    Returns:
        Lower and upper end; None for an end that the sample is too small to bound.

    Raises:
        OutOfRange: the sample is empty, or q or the confidence is out of range.

    Source: H. David, H. Nagaraja, "Order Statistics", 3rd edition, section 7.1.

    >>> percentile_interval([float(i) for i in range(100)], 50)
    (39.0, 60.0)
    """
    _require_values(values)
    return _interval_of_sorted(sorted(values), _share(q), confidence)


def estimate_percentile(values: Sequence[float], q: float, *, confidence: float = 0.95) -> Estimate:
    """Percentile and its confidence interval, sorting the sample once.

    Interpolation can put the percentile of a handful of values outside their interval, which then is widened.

    Args:
        values: the sample, in any order.
        q: percent, 0 to 100.
        confidence: as in `percentile_interval`.

    Raises:
        OutOfRange: as in `percentile_interval`.
    """
    _require_values(values)
    ordered, share = sorted(values), _share(q)
    low, high = _interval_of_sorted(ordered, share, confidence)
    value = _percentile_of_sorted(ordered, share)
    return Estimate(
        value=value,
        low=None if low is None else min(low, value),
        high=None if high is None else max(high, value),
        num_values=len(ordered),
    )


def fill_ratio(num_items: int, max_batch_size: int, *, num_batches: int = 1) -> float:
    """How full batches were, `items / (batches x max_batch_size)`.

    >>> fill_ratio(24, 32)
    0.75
    """
    return num_items / (num_batches * max_batch_size)


def padding_waste(real_tokens: int, padded_tokens: int) -> float:
    """Share of the computed tokens that was padding, `1 - real / padded`; 0 where nothing was computed.

    >>> padding_waste(75, 100)
    0.25
    """
    return 1.0 - real_tokens / padded_tokens if padded_tokens else 0.0


def mean_batch_size(num_items: int, num_batches: int) -> float:
    """Items a batch, `items / batches`; 0 before the first batch."""
    return num_items / num_batches if num_batches else 0.0


def throughput(num_items: int, window_s: float) -> float:
    """Items answered a second, `items / window`; 0 for an empty window."""
    return num_items / window_s if window_s > 0 else 0.0


def utilisation(busy_s: float, window_s: float, *, num_workers: int = 1) -> float:
    """Share of the workers' time spent in the model, `busy / (workers x window)`; 0 for an empty window."""
    return busy_s / (num_workers * window_s) if window_s > 0 else 0.0


def goodput(latencies_s: Sequence[float], ok: Sequence[bool], objective_s: float, window_s: float) -> float:
    """Requests a second that were answered without error within the objective.

    `count(ok and latency <= objective) / window`; a request that failed or came late counts as nothing.

    Args:
        latencies_s: latency of each request.
        ok: whether each request was answered without error, in the same order.
        objective_s: longest latency that still counts.
        window_s: length of the observation.

    >>> goodput([0.01, 0.02, 0.30], [True, False, True], 0.05, 2.0)
    0.5
    """
    good = sum(1 for latency, fine in zip(latencies_s, ok, strict=True) if fine and latency <= objective_s)
    return throughput(good, window_s)


def littles_law_gap(num_in_system: float, items_per_s: float, latency_s: float) -> float:
    """How far a measurement is from Little's law, `|L - X W| / L`.

    In a steady state the time-average number of items in the system is their throughput times their mean latency. A
    gap over `LITTLES_LAW_TOLERANCE` says that the backlog grew or drained in the window, or that items went missing,
    so that its averages do not describe the system.

    Args:
        num_in_system: L, time-average number of items in the system.
        items_per_s: X, departures a second.
        latency_s: W, mean time in the system of those that left.

    Source: J. Little, "A Proof for the Queuing Formula L = lambda W", 1961.

    >>> littles_law_gap(10.0, 100.0, 0.1)
    0.0
    """
    if num_in_system == 0:
        return 0.0 if items_per_s * latency_s == 0 else math.inf
    return abs(num_in_system - items_per_s * latency_s) / num_in_system


def prediction_error(predicted_s: float, measured_s: float) -> float:
    """Signed error of a prediction relative to what was measured, `predicted / measured - 1`.

    Positive when the model was faster than promised.

    >>> round(prediction_error(0.011, 0.010), 6)
    0.1
    """
    return predicted_s / measured_s - 1.0 if measured_s > 0 else math.inf


def _require_values(values: Sequence[float]) -> None:
    if len(values) == 0:
        raise OutOfRange("a sample of 0 values has no mean or percentile: measure at least 1")


def _share(q: float) -> float:
    if not 0 <= q <= _PERCENT:
        raise OutOfRange(f"percentile {q:g} is outside 0..100: give percent, such as 99 for p99")
    return q / _PERCENT


def _percentile_of_sorted(ordered: Sequence[float], share: float) -> float:
    position = (len(ordered) - 1) * share
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])


def _interval_of_sorted(ordered: Sequence[float], share: float, confidence: float) -> tuple[float | None, float | None]:
    if not 0 < confidence < 1:
        raise OutOfRange(f"confidence {confidence:g} is outside 0..1: give a share, such as 0.95")
    num, tail = len(ordered), (1 - confidence) / 2
    low_rank = _largest_rank_below(num, share, tail)
    # The mirror image: P(Bin(n, p) >= u) = P(Bin(n, 1 - p) < n - u + 1).
    high_rank = num + 1 - _largest_rank_below(num, 1 - share, tail)
    return (ordered[low_rank - 1] if low_rank >= 1 else None, ordered[high_rank - 1] if high_rank <= num else None)


def _largest_rank_below(num: int, share: float, tail: float) -> int:
    """Largest rank l with P(Binomial(num, share) < l) <= tail, by summing the exact terms; 0 where there is none."""
    if share <= 0:
        return 0
    if share >= 1:
        return num
    # Terms more than 10 standard deviations below the mean sum to less than 1e-20.
    first = max(0, math.floor(num * share - 10 * math.sqrt(num * share * (1 - share)) - 1))
    below, rank = 0.0, first
    while rank <= num:
        below += math.exp(_log_binomial_term(num, share, rank))
        if below > tail:
            return rank
        rank += 1
    return num


def _log_binomial_term(num: int, share: float, k: int) -> float:
    ways = math.lgamma(num + 1) - math.lgamma(k + 1) - math.lgamma(num - k + 1)
    return ways + k * math.log(share) + (num - k) * math.log1p(-share)
