"""Where the queue of a batching worker stands when its batches end: the chain's stationary probabilities."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from carpool.errors import OutOfRange
from carpool.plan.ladder import Floats, Step, descent

if TYPE_CHECKING:
    from carpool.plan.scatter import Scatter

# Probability that may be left out: of long queues, or of more arrivals in one batch than are counted.
_NEGLIGIBLE = 1e-15
# Entries of the largest table of probabilities: 320 MB, and some ten seconds.
_MOST_ENTRIES = 40_000_000
# The exponents s tried in bounds of the kind P(q >= n) <= E[exp(s q)] exp(-s n).
_EXPONENTS = np.geomspace(1e-4, 40.0, 50)


@dataclass(frozen=True, slots=True, kw_only=True)
class Boundary:
    """Stationary probabilities of the number that wait when a batch ends.

    Args:
        below: Of 0, 1, ... items, less than a full batch [n].
        above: Of a full batch or more.
        excess: Mean number by which more than a full batch wait, 0 where they are fewer.
        lows: Of 0, 1, ... items more than a full batch, fewer than ever since a full batch began to wait [r].
        climbs: Probabilities that a queue of at least a full batch first is as long again, or longer, with 0, 1, ...
            items more [r].
        neglected: The most probability that was left out.
    """

    below: Floats
    above: float
    excess: float
    lows: Floats
    climbs: Floats
    neglected: float

    def lengths(self, num: int) -> Floats:
        """Return the probabilities that 0, 1, ..., `num` - 1 items wait: a low is reached, and then climbed from."""
        found = np.concatenate([self.below, np.zeros(max(0, num - len(self.below)))])
        first = len(self.below)
        for n in range(first, num):
            steps = min(n - first, len(self.climbs) - 1)
            low = self.lows[n - first] if n - first < len(self.lows) else 0.0
            found[n] = (low + self.climbs[1 : steps + 1] @ found[n - steps : n][::-1]) / (1 - self.climbs[0])
        lengths: Floats = found[:num]
        return lengths


def boundary(means: Floats, scatter: Scatter) -> Boundary:
    """Solve the chain `q -> max(0, max(q, 1) - B) + arrivals` on the queue length q at completions.

    Args:
        means: Mean arrivals while a batch of 1, 2, ..., B runs that takes what was predicted [B]; stable.
        scatter: What the predicted times are multiplied by.

    Raises:
        OutOfRange: The table of arrivals would be too large.
    """
    by_factor = np.outer(means, scatter.factors)  # (batch size, factor)
    num, neglected = _num_states(by_factor, scatter.weights)
    if num == len(means):
        return _with_full_batches(by_factor, scatter.weights)
    below = _stationary(_arrivals(by_factor[: max(num - 1, 1)], scatter.weights, num))
    none = np.zeros(1)
    return Boundary(below=below, above=0.0, excess=0.0, lows=none, climbs=none, neglected=neglected)


def _with_full_batches(means: Floats, weights: Floats) -> Boundary:
    """Solve the chain where full batches happen: watched only while less than a full batch waits, it has B states.

    While more wait it is a random walk, and its descent says where that comes down. A queue above was first lower than
    before, and then climbed; every climb is like the first.
    """
    most = len(means)
    width, neglected = _width(float(means.max()), most)
    _check_table(width - most, width - most)
    table = _arrivals(means, weights, width)
    down = descent(Step(batch_size=most, means=means[-1], weights=weights), width - most)
    by_size = table[:, most:] @ down.visits  # (batch size, items above a full batch): where the walk is lowest so far
    below = _stationary(table[:, :most] + by_size @ down.landings)
    lows, climbs, heights = below @ _by_state(by_size, most), by_size[-1], np.arange(width - most)
    above = float(lows.sum()) * down.num_tops
    excess = float(lows @ heights + above * (climbs @ heights)) * down.num_tops
    total = 1.0 + above
    return Boundary(
        below=below / total,
        above=above / total,
        excess=excess / total,
        lows=lows / total,
        climbs=climbs,
        neglected=neglected,
    )


def _by_state(rows: Floats, num: int) -> Floats:
    """Return, of rows by batch size from 1, those for 0, 1, ..., `num` - 1 that wait: from none too, one item runs."""
    chosen: Floats = rows[np.maximum(np.arange(num), 1) - 1]
    return chosen


def _stationary(rows: Floats) -> Floats:
    """Return the stationary probabilities of a chain whose rows are given by batch size."""
    num = rows.shape[1]
    system = np.eye(num) - _by_state(rows, num).T
    system[-1] = 1.0  # one balance follows from the others; what is missing is that the probabilities sum to 1
    shares = np.maximum(np.linalg.solve(system, np.eye(num)[-1]), 0.0)
    stationary: Floats = shares / shares.sum()
    return stationary


def _arrivals(means: Floats, weights: Floats, width: int) -> Floats:
    """Return the probabilities of 0, 1, ..., `width` - 1 arrivals in each batch, made to sum to 1 [batch size, width].

    Args:
        means: Mean arrivals, Poisson, by batch size and by factor of scatter.
        weights: Probabilities of the factors.
        width: How many probabilities are kept.
    """
    _check_table(len(means), width)
    table = np.zeros((len(means), width))
    steps = np.log(np.maximum(np.arange(width), 1))
    for column, weight in zip(means.T, weights, strict=True):
        # Sums of log(mean / i) keep more digits than n log(mean) - log(n!) does: close to the mean they are small.
        logs = np.log(column)[:, None] - steps
        logs[:, 0] = 0.0
        np.cumsum(logs, axis=1, out=logs)
        table += weight * np.exp(logs - column[:, None])
    normed: Floats = table / table.sum(axis=1, keepdims=True)
    return normed


def _check_table(rows: int, columns: int) -> None:
    if rows * columns > _MOST_ENTRIES:
        raise OutOfRange(
            f"queues and arrivals need a table of {rows:,} x {columns:,} probabilities, over the limit of "
            f"{_MOST_ENTRIES:,}: simulate instead, or lower the rate or max_batch_size"
        )


def _num_states(means: Floats, weights: Floats) -> tuple[int, float]:
    """Return how many queue lengths matter, at most as many as a full batch, and the probability of more.

    With d(q) the mean of `exp(s q')` after a step from q, and with d(q) <= g exp(s q) for all q >= n and some g < 1,
    in the long run `P(q >= n) <= exp(-s n) max(d(0), ..., d(n - 1)) / (1 - g)`: what flows up there has to come down.
    """
    most = len(means)
    climbs = _EXPONENTS[:, None] * np.arange(most + 1)  # s n, for n up to `most`, which stands for more too
    powers = np.expm1(_EXPONENTS)[:, None, None] * means  # (exponent, batch size, factor)
    top = powers.max(axis=2)
    log_means = _by_state((top + np.log(np.exp(powers - top[:, :, None]) @ weights)).T, most + 1).T  # log d(q)
    log_shares = np.maximum.accumulate((log_means - climbs)[:, ::-1], axis=1)[:, ::-1]  # log g for q >= n
    highest = np.maximum.accumulate(log_means, axis=1)
    falls = -np.expm1(np.minimum(log_shares[:, 1:], 0.0))  # 1 - g
    log_bounds = np.where(falls > 0, highest[:, :-1] - climbs[:, 1:] - np.log(np.where(falls > 0, falls, 1.0)), np.inf)
    log_bound = log_bounds.min(axis=0)  # for n = 1, 2, ...
    enough = np.flatnonzero(log_bound[:-1] <= math.log(_NEGLIGIBLE))
    return (int(enough[0]) + 1, math.exp(log_bound[enough[0]])) if len(enough) else (most, 0.0)


def _width(mean: float, most: int) -> tuple[int, float]:
    """Return how many numbers of arrivals are to be counted, and the probability of more, of a Poisson law.

    `P(N >= n) <= exp(n - mean) (mean / n)^n` for n above the mean (Chernoff).
    """
    width = max(most + 1, int(mean) + 1)
    while (log_bound := width - mean + width * math.log(mean / width)) > math.log(_NEGLIGIBLE):
        width += 1 + width // 50
    return width, math.exp(log_bound)
