"""Learns what a batch takes from the batches that run: for a scheduler that was given no profile."""

from __future__ import annotations

from math import inf

__all__ = ["AffineEstimator"]

# Share of the time that does not depend on tokens, until batches of different sizes have been seen.
ASSUMED_OVERHEAD_SHARE = 0.5
# Sizes that differ by 5 % from their mean say as much about the slope as what was believed before.
RIDGE = 0.05**2
# A time is trusted in full within three mean deviations plus 5 %; beyond, less and less (Huber).
DEVIATIONS, MARGIN = 3.0, 0.05
# No clock tells less than a nanosecond.
SHORTEST_S = 1e-9
# So many outliers in a row on one side are no accident: the machine or the model has changed.
OUTLIERS_IN_A_ROW = 5
SCALE_STEP, SCALE_START = 0.1, 0.1


class AffineEstimator:
    """Predicts `t = overhead + per_token * (items x padded length)` from the latest batches, outliers counting little.

    A weighted least-squares fit of relative error whose weights halve every `half_life` batches, kept as five sums, so
    that each batch costs the same few operations. While all batches have one size, half of the time is taken to be
    overhead; when sizes stop differing later, the proportion of the two stays as it was. Five outliers in a row on
    one side mean that the machine has changed: what was learned before is dropped. Before the first batch it predicts
    0: nothing is known, so nothing is held back.

    Args:
        half_life: Batches after which an observation counts half.

    Source: recursive least squares with forgetting, Ljung, *System Identification*, 2nd ed., section 11.2;
    Huber, "Robust estimation of a location parameter", Ann. Math. Statist. 35(1), 1964.

    >>> estimator = AffineEstimator()
    >>> for size in (1, 8, 32, 2, 16, 4) * 5:
    ...     estimator.observe(size, 10, 0.002 + 0.0001 * size * 10)
    >>> round(estimator.time_s(64, 10), 4)
    0.066
    """

    __slots__ = (
        "_keep",
        "_run",
        "_scale",
        "_sum",
        "_sum_t",
        "_sum_x",
        "_sum_xt",
        "_sum_xx",
        "num_observed",
        "overhead_s",
        "per_token_s",
    )

    def __init__(self, *, half_life: float = 64.0) -> None:
        self._keep = 0.5 ** (1.0 / half_life)
        self._scale = SCALE_START
        self._run = 0
        self._sum = self._sum_x = self._sum_xx = self._sum_t = self._sum_xt = 0.0
        self.num_observed = 0
        self.overhead_s = 0.0
        self.per_token_s = 0.0

    def time_s(self, batch_size: int, length: int) -> float:
        """Return the predicted seconds of a batch of this many items, padded to this length."""
        return self.overhead_s + self.per_token_s * batch_size * length

    def observe(self, batch_size: int, length: int, service_s: float) -> None:
        """Take in what a batch took.

        Args:
            batch_size: Items in the batch.
            length: Length that each was padded to.
            service_s: Seconds that the model needed; a time below what a clock can tell is passed over.
        """
        if not SHORTEST_S <= service_s < inf:
            return
        tokens = float(batch_size * length or 1)
        weight = self._weight(tokens, service_s) if self.num_observed else 1.0 / (service_s * service_s)
        keep = self._keep
        self._sum = keep * self._sum + weight
        self._sum_x = keep * self._sum_x + weight * tokens
        self._sum_xx = keep * self._sum_xx + weight * tokens * tokens
        self._sum_t = keep * self._sum_t + weight * service_s
        self._sum_xt = keep * self._sum_xt + weight * tokens * service_s
        self.num_observed += 1
        self._solve()

    def _weight(self, tokens: float, service_s: float) -> float:
        """Weigh an observation by how far it lies from what was expected, and learn how far they usually lie."""
        expected_s = self.overhead_s + self.per_token_s * tokens
        slower = service_s >= expected_s
        deviation = (service_s / expected_s if slower else expected_s / service_s) - 1.0
        limit = DEVIATIONS * self._scale + MARGIN
        self._scale += SCALE_STEP * (min(deviation, limit) - self._scale)
        weight = 1.0 / (expected_s * expected_s)
        if deviation <= limit:
            self._run = 0
            return weight
        return self._distrust(slower, weight * limit / deviation, 1.0 / (service_s * service_s))

    def _distrust(self, slower: bool, reduced: float, full: float) -> float:  # noqa: FBT001 - a keyword costs time here
        """Give an outlier little weight, unless it is the last of a run on one side: then start afresh from it."""
        self._run = max(self._run, 0) + 1 if slower else min(self._run, 0) - 1
        if abs(self._run) < OUTLIERS_IN_A_ROW:
            return reduced
        self._run = 0
        self._scale = SCALE_START
        self._sum = self._sum_x = self._sum_xx = self._sum_t = self._sum_xt = 0.0
        return full

    def _solve(self) -> None:
        """Solve for the line; the less the sizes differ, the more the slope stays with the last proportion."""
        total = self._sum
        mean_x, mean_t = self._sum_x / total, self._sum_t / total
        ridge = RIDGE * mean_x * mean_x
        spread = max(0.0, self._sum_xx / total - mean_x * mean_x)
        believed = self._believed_slope(mean_x, mean_t)
        slope = (self._sum_xt / total - mean_x * mean_t + ridge * believed) / (spread + ridge)
        overhead_s = mean_t - slope * mean_x
        if slope < 0.0:
            slope, overhead_s = 0.0, mean_t
        elif overhead_s < 0.0:
            slope, overhead_s = self._sum_xt / self._sum_xx, 0.0
        self.overhead_s, self.per_token_s = overhead_s, slope

    def _believed_slope(self, mean_x: float, mean_t: float) -> float:
        """Return the slope that keeps the last proportion of overhead to work; at first, a half of each."""
        expected_s = self.overhead_s + self.per_token_s * mean_x
        if expected_s > 0.0:
            return self.per_token_s * mean_t / expected_s
        return (1.0 - ASSUMED_OVERHEAD_SHARE) * mean_t / mean_x
