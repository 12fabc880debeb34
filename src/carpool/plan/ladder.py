"""A long queue, from above: how it falls below a full batch's worth of items, and where it lands.

While at least a full batch waits, the queue moves from one completion to the next by independent steps: the items that
arrive less those that leave, a random walk that drifts down. A chain on the queue's length needs to know where the walk
first gets below the level at which it began. That law comes of splitting `1 - E[z^step]` into a factor with powers of z
below zero and one with the others (Wiener and Hopf). All that follows is sums and products of probabilities: the walk
may go up as far as it likes, and the result is as exact at 99.9 % of the largest rate as at half of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]

# Points of the circle that the factors are read off: at first so many, then as many as it takes to cut off nothing but
# rounding, which is more than the least close to saturation.
_POINTS_AN_ITEM, _MOST_POINTS, _NEGLIGIBLE, _NOISE = 8, 1 << 20, 1e-15, 1e-6
_LARGEST_EXPONENT, _NUM_HALVINGS = 600.0, 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """How a queue moves while full batches run: Poisson arrivals less one batch.

    Args:
        batch_size: Items that leave.
        means: Mean arrivals, for each of the times that the batch may take [k]; on average fewer than leave.
        weights: Probabilities of those times [k].
    """

    batch_size: int
    means: Floats
    weights: Floats

    @property
    def drift(self) -> float:
        """Items by which the queue shrinks in a step, on average."""
        return float(self.batch_size - self.weights @ self.means)

    def log_growth(self, exponent: float) -> float:
        """Return the logarithm of the mean of `exp(exponent * step)`."""
        powers = self.means * np.expm1(exponent)
        top = float(powers.max())
        if top > 1.0:
            return top + float(np.log(self.weights @ np.exp(powers - top))) - self.batch_size * exponent
        return float(np.log1p(self.weights @ np.expm1(powers))) - self.batch_size * exponent

    def decay(self) -> float:
        """Return the rate above 0 at which long queues become rare: their probability falls like `exp(-decay * q)`."""
        low, high = 0.0, 1.0
        while self.log_growth(high) < 0:
            if high >= _LARGEST_EXPONENT:
                return high
            low, high = high, min(2 * high, _LARGEST_EXPONENT)
        for _ in range(_NUM_HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if self.log_growth(middle) < 0 else (low, middle)
        return high

    def survivals(self) -> Floats:
        """Return the probabilities that the first fall below the start is more than 0, 1, ... items [batch_size].

        Source: Feller, An Introduction to Probability Theory and Its Applications, volume 2, chapter XVIII: the factor
            is the exponential of the negative powers in the series of `log(1 - E[z^step])`, here read off its values on
            a circle just outside of 1. The two zeros that come close to the circle near saturation are divided out.
        """
        decay = self.decay()
        radius = min(1 / self.batch_size, decay / 2)  # its logarithm: what is read off is multiplied by up to exp(1)
        series = self._long_series(radius, decay)
        num = len(series)
        series[: num // 2 + 1] = 0.0  # what remains are the negative powers
        factor = np.fft.fft(np.exp(np.fft.ifft(series, norm="forward")), norm="forward")
        powers = np.arange(self.batch_size)
        survivals: Floats = (factor[-powers] * np.exp((radius + 1j * np.pi / num) * powers)).real
        return np.clip(survivals, 0.0, 1.0)

    def _long_series(self, radius: float, decay: float) -> NDArray[np.complex128]:
        """Return the series from so many points that its farthest powers are next to none, or that more do not help."""
        num, before = 1 << (_POINTS_AN_ITEM * self.batch_size).bit_length(), np.inf
        while True:
            series = self._series(num, radius, decay)
            # Of few arrivals only every `batch_size`-th power is more than that: a quarter of all holds some of these.
            far = float(np.abs(series[num * 3 // 8 : num * 5 // 8]).max())
            if far <= _NEGLIGIBLE or before / 2 < far < _NOISE or num >= _MOST_POINTS:
                return series
            num, before = 2 * num, far

    def _series(self, num: int, radius: float, decay: float) -> NDArray[np.complex128]:
        """Return the series of the logarithm, without its two outermost zeros, from `num` points of a circle."""
        halfway = np.arange(num) + 0.5  # half a step off the real line, where the zeros are
        log_z = radius + 2j * np.pi * np.where(halfway < num / 2, halfway, halfway - num) / num
        # 1 - E[z^step], in a way that loses no digits where z is close to 1
        short = -np.expm1(np.outer(np.expm1(log_z), self.means) - self.batch_size * log_z[:, None]) @ self.weights
        smooth = short / (np.expm1(-log_z) * np.expm1(log_z - decay))
        return np.fft.fft(np.log(np.abs(smooth)) + 1j * np.unwrap(np.angle(smooth)), norm="forward")


@dataclass(frozen=True, slots=True, kw_only=True)
class Descent:
    """Where queues land that start above a level and fall below it, for starts 0, 1, ..., r - 1 items above it.

    Args:
        landings: Probabilities of coming to rest at 0, 1, ..., from each point that was the lowest yet [r, batch_size].
        visits: Probabilities that a walk from one start makes another point its lowest so far [r starts, r points].
        num_tops: Mean number of points of a walk that are nowhere exceeded before them, the start among them.
    """

    landings: Floats
    visits: Floats
    num_tops: float


def descent(step: Step, reach: int) -> Descent:
    """Work out the falls below a level that lies `batch_size` above 0, for starts less than `reach` above the level."""
    survivals = step.survivals()
    fall = np.maximum(-np.diff(survivals, append=0.0), 0.0)  # of 1, ..., batch_size
    fall /= fall.sum()
    visited = np.zeros(reach)  # whether a walk makes the point n below its start its lowest yet
    visited[0] = 1.0
    for n in range(1, reach):
        steps = min(n, step.batch_size)
        visited[n] = fall[:steps] @ visited[n - steps : n][::-1]
    # From a point m above the level to state i the fall is of batch_size + m - i items.
    downwards = np.concatenate([np.zeros(reach - 1), fall[::-1]])
    backwards = np.concatenate([visited[::-1], np.zeros(reach - 1)])
    landings = sliding_window_view(downwards, step.batch_size)[::-1]
    visits = sliding_window_view(backwards, reach)[::-1]
    return Descent(landings=landings, visits=visits, num_tops=float(survivals.sum()) / step.drift)
