"""A line through a stream of times that is unmoved by outliers and follows changes: what online cost models rest on."""

from __future__ import annotations

from math import inf

__all__ = ["RobustLine"]

# Places that differ by 5 % from their mean say as much about the slope as what was believed before.
RIDGE = 0.05**2
# A time is trusted in full within three mean deviations plus 5 %; beyond, less and less (Huber).
DEVIATIONS, MARGIN = 3.0, 0.05
# No clock tells less than a nanosecond.
SHORTEST_S = 1e-9
# So many outliers in a row on one side are no accident: the machine or the model has changed.
OUTLIERS_IN_A_ROW = 5
SCALE_STEP, SCALE_START = 0.1, 0.1


class RobustLine:
    """Fits `t = offset_s + slope * x` to the latest times, outliers counting little.

    A weighted least-squares fit of relative error whose weights halve every `half_life` times, kept as five sums, so
    that each time costs the same few operations. While all times are of one place x, the proportion of offset to slope
    stays as it was believed before. Five outliers in a row on one side mean that something has changed: what was
    learned before is dropped.

    Args:
        half_life: Times after which one counts half.
        offset_share: Share of a time that is taken to be offset, until times of different places have been seen.

    Source: recursive least squares with forgetting, Ljung, *System Identification*, 2nd ed., section 11.2;
    Huber, "Robust estimation of a location parameter", Ann. Math. Statist. 35(1), 1964.

    >>> line = RobustLine(offset_share=0.5)
    >>> for x in (1.0, 8.0, 32.0, 2.0) * 5:
    ...     line.observe(x, 0.002 + 0.001 * x)
    >>> round(line.offset_s, 4), round(line.slope, 4)
    (0.002, 0.001)
    """

    __slots__ = (
        "_keep",
        "_offset_share",
        "_run",
        "_scale",
        "_sum",
        "_sum_t",
        "_sum_x",
        "_sum_xt",
        "_sum_xx",
        "num_fitted",
        "num_observed",
        "offset_s",
        "slope",
    )

    def __init__(self, *, half_life: float = 64.0, offset_share: float) -> None:
        self._keep = 0.5 ** (1.0 / half_life)
        self._offset_share = offset_share
        self._scale = SCALE_START
        self._run = 0
        self._sum = self._sum_x = self._sum_xx = self._sum_t = self._sum_xt = 0.0
        self.num_observed = 0
        self.num_fitted = 0
        self.offset_s = 0.0
        self.slope = 0.0

    @property
    def mean_x(self) -> float:
        """The place that the latest times were of, on average; 0 before the first."""
        return self._sum_x / self._sum if self._sum else 0.0

    def believe(self, x: float, time_s: float, num_times: float) -> None:
        """Start from a belief that counts like so many times at a place, before any was observed."""
        weight = num_times / (time_s * time_s)
        self._add(weight, x, time_s)
        self._solve()

    def observe(self, x: float, time_s: float) -> None:
        """Take in the time at a place; one below what a clock can tell is passed over.

        Args:
            x: Above 0.
            time_s: Seconds.
        """
        if not SHORTEST_S <= time_s < inf:
            return
        expected_s = self.offset_s + self.slope * x
        weight = self._weight(expected_s, time_s) if expected_s > 0.0 else 1.0 / (time_s * time_s)
        self._add(weight, x, time_s)
        self.num_observed += 1
        self.num_fitted += 1
        self._solve()

    def _add(self, weight: float, x: float, time_s: float) -> None:
        keep = self._keep
        self._sum = keep * self._sum + weight
        self._sum_x = keep * self._sum_x + weight * x
        self._sum_xx = keep * self._sum_xx + weight * x * x
        self._sum_t = keep * self._sum_t + weight * time_s
        self._sum_xt = keep * self._sum_xt + weight * x * time_s

    def _weight(self, expected_s: float, time_s: float) -> float:
        """Weigh a time by how far it lies from what was expected, and learn how far they usually lie."""
        slower = time_s >= expected_s
        deviation = (time_s / expected_s if slower else expected_s / time_s) - 1.0
        limit = DEVIATIONS * self._scale + MARGIN
        self._scale += SCALE_STEP * (min(deviation, limit) - self._scale)
        weight = 1.0 / (expected_s * expected_s)
        if deviation <= limit:
            self._run = 0
            return weight
        return self._distrust(slower, weight * limit / deviation, 1.0 / (time_s * time_s))

    def _distrust(self, slower: bool, reduced: float, full: float) -> float:  # noqa: FBT001 - a keyword costs time here
        """Give an outlier little weight, unless it is the last of a run on one side: then start afresh from it."""
        self._run = max(self._run, 0) + 1 if slower else min(self._run, 0) - 1
        if abs(self._run) < OUTLIERS_IN_A_ROW:
            return reduced
        self._run = 0
        self._scale = SCALE_START
        self._sum = self._sum_x = self._sum_xx = self._sum_t = self._sum_xt = 0.0
        self.num_fitted = 0
        return full

    def _solve(self) -> None:
        """Solve for the line; the less the places differ, the more the slope stays with the last proportion."""
        total = self._sum
        mean_x, mean_t = self._sum_x / total, self._sum_t / total
        ridge = RIDGE * mean_x * mean_x
        spread = max(0.0, self._sum_xx / total - mean_x * mean_x)
        believed = self._believed_slope(mean_x, mean_t)
        slope = (self._sum_xt / total - mean_x * mean_t + ridge * believed) / (spread + ridge)
        offset_s = mean_t - slope * mean_x
        if slope < 0.0:
            slope, offset_s = 0.0, mean_t
        elif offset_s < 0.0:
            slope, offset_s = self._sum_xt / self._sum_xx, 0.0
        self.offset_s, self.slope = offset_s, slope

    def _believed_slope(self, mean_x: float, mean_t: float) -> float:
        """Return the slope that keeps the last proportion of offset to slope, or at first the assumed one."""
        expected_s = self.offset_s + self.slope * mean_x
        if expected_s > 0.0:
            return self.slope * mean_t / expected_s
        return (1.0 - self._offset_share) * mean_t / mean_x
