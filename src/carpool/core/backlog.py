"""How fast a queue moves: what its batches hold and take, and how far a promise may be wrong.

Items of one length leave in full batches, and what is predicted comes true. With lengths of many kinds batches are
smaller, and an item waits for one of its own kind; how much smaller and how much longer is learned from the batches
that leave others behind, and from the waits that were promised.
"""

import math
from collections.abc import Iterable

from carpool.core.budget import Budget
from carpool.core.item import Item

_SMOOTHING = 0.1  # weight of the newest batch
_QUANTILE = 0.95  # share of the promises that are to be kept
_STEP = 0.05  # how far one promise moves the margin, in batches' time
_AMPLE = 2.0  # times what the fullest queue is predicted to take


class Backlog:
    """What was learned of the queue's pace, held against full batches of its mean length.

    Args:
        num_workers: how many batches run at a time.
    """

    def __init__(self, num_workers: int) -> None:
        self.margin_s = 0.0  # within so much, 95 % of the items leave after they were predicted to
        self._num_workers = num_workers
        self._items_ratio = 1.0
        self._time_ratio = 1.0
        self.any_promised = False  # no item has had a deadline so far

    def batch(self, budget: Budget, mean_length: int) -> tuple[float, float]:
        """Return how many items a batch holds while more wait, and the seconds that it takes."""
        padded = budget.padded_length(mean_length)
        most, _ = budget.most_items(padded)
        return max(1.0, most * self._items_ratio), budget.time_s(most, padded) * self._time_ratio

    def wait_s(self, num_ahead: float, free_in_s: list[float], batch: tuple[float, float]) -> float:
        """Return how long an item waits behind others: it joins the first batch that they do not fill.

        Args:
            num_ahead: those that leave before it.
            free_in_s: seconds until each worker is free, rising.
            batch: items and seconds of the batches that leave one after another.
        """
        num_items, batch_s = batch
        rounds, worker = divmod(int(num_ahead // num_items), self._num_workers)
        return free_in_s[worker] + rounds * batch_s

    def ample_s(self, budget: Budget, longest: int) -> float:
        """Return a time within which whatever may wait and run is sure to be done, of items up to a length."""
        num_items, batch_s = self.batch(budget, longest)
        num_rounds = budget.policy.max_queue / num_items / self._num_workers
        return self.margin_s + _AMPLE * (num_rounds + 2) * batch_s

    def promise(self, item: Item, dispatched_at: float) -> None:
        """Take note of when an item that is accepted was predicted to leave."""
        item.promised_at = dispatched_at
        self.any_promised = True

    def left_behind(self, budget: Budget, mean_length: int, num_items: int, batch_s: float) -> None:
        """Take note of a batch that left while others had to stay, of a queue of a mean length."""
        padded = budget.padded_length(mean_length)
        most, _ = budget.most_items(padded)
        nominal_s = budget.time_s(most, padded)
        self._items_ratio += _SMOOTHING * (num_items / most - self._items_ratio)
        if nominal_s > 0.0:
            self._time_ratio += _SMOOTHING * (batch_s / nominal_s - self._time_ratio)

    def kept(self, items: Iterable[Item], now: float, batch_s: float) -> None:
        """Take note that items leave now, or never (infinite): the margin moves up for each that is later than it says.

        Up by 19 parts and down by 1, so that it rests where one in twenty is later.

        Source: a quantile by stochastic approximation, Robbins and Monro, Ann. Math. Statist. 22(3), 1951.
        """
        if not self.any_promised:
            return
        promised = [item.promised_at for item in items if item.promised_at < math.inf]
        num_late = sum([promised_at + self.margin_s < now for promised_at in promised])
        step = num_late - (1.0 - _QUANTILE) * len(promised)
        self.margin_s = max(0.0, self.margin_s + _STEP * batch_s * step)
