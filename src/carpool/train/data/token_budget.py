"""Micro-batches of as many items as a budget of tokens holds: many short ones, or few long ones."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from carpool.core.limits import check_whole
from carpool.errors import ConfigError
from carpool.train.data.buckets import LengthBucketSampler
from carpool.train.data.lengths import Padding

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from carpool.train.batch_plan import BatchPlan
    from carpool.train.data.windows import Items, Steps


class TokenBudgetSampler(LengthBucketSampler):
    """Gives windows of exactly the effective batch, in as few micro-batches as a budget of padded tokens allows.

    A window's items are sorted by length, and cut where the rows of a micro-batch times its longest item would pass the
    budget. All ranks have as many micro-batches of a window, but for those that are left without an item; how many
    differs from window to window: `windows` tells. The micro-batches of a window are as even as that number allows.

    Args:
        lengths: tokens of each item, (num_items,).
        plan: its effective batch is what a window has, and its micro-batch the most items of one pass of a rank; the
            number of accumulation steps follows from the lengths instead.
        token_budget: most padded tokens of a micro-batch.
        rank: whose micro-batches to give, from 0.
        multiple_of: to which the length of a micro-batch is rounded up when it is padded.
        pool_windows: windows whose items are sorted together; with 1 a window is a random choice of items.
        shuffle: in another order each epoch.
        seed: of the order, the same one on all ranks.

    Raises:
        ConfigError: a number is out of range, or an item is longer than the budget.

    >>> from carpool.train import BatchPlan
    >>> plan = BatchPlan(effective_batch_size=4, micro_batch_size=4)
    >>> list(TokenBudgetSampler([2, 9, 3, 4], plan, token_budget=12))
    [[1], [3, 2, 0]]
    """

    def __init__(
        self,
        lengths: ArrayLike,
        plan: BatchPlan,
        *,
        token_budget: int,
        rank: int = 0,
        multiple_of: int = 1,
        pool_windows: int = 1,
        shuffle: bool = True,
        seed: int = 0,
    ) -> None:
        check_whole("token_budget", token_budget)
        check_whole("multiple_of", multiple_of)
        super().__init__(lengths, plan, rank=rank, pool_windows=pool_windows, shuffle=shuffle, seed=seed)
        self._multiple_of, self._token_budget = multiple_of, token_budget
        self._padded = -(-self._lengths // multiple_of) * multiple_of
        longest = int(self._padded.argmax())
        if self._padded[longest] > token_budget:
            raise ConfigError(
                f"item {longest} has {self._lengths[longest]} tokens, padded to {self._padded[longest]}, more than "
                f"token_budget {token_budget}: shorten the item or raise the budget"
            )

    def __len__(self) -> int:
        """Return the micro-batches of this rank in a whole epoch: the one under way, or that comes first."""
        return sum(1 for window in self._windows(self.epoch) for step in self._deal(window) if len(step[self._rank]))

    def padding(self) -> Padding:
        """What is padded in the epoch that is under way or comes first, on all ranks."""
        return Padding.of(self._batch_lengths(), multiple_of=self._multiple_of)

    def _deal(self, window: Items) -> Steps:
        ranks = self._plan.num_ranks
        starts = even_cuts(self._padded[window], self._token_budget, self._plan.micro_batch_size, ranks)
        pieces = np.split(window, starts[1:])
        pieces += [window[:0]] * (-len(pieces) % ranks)
        return [pieces[first : first + ranks] for first in range(0, len(pieces), ranks)]


def cuts(lengths: NDArray[np.int64], token_budget: int, most_items: int) -> list[int]:
    """Cut items in order of length into as few batches as can be.

    Args:
        lengths: padded ones, the longest first; none above the budget.
        token_budget: most padded tokens of a batch.
        most_items: of a batch.

    Returns:
        Where each batch begins.

    >>> cuts(np.array([9, 4, 4, 4, 1]), 12, 8)
    [0, 1, 4]
    """
    starts, start = [], 0
    while start < len(lengths):
        starts.append(start)
        start += min(most_items, token_budget // int(lengths[start]))
    return starts


def even_cuts(lengths: NDArray[np.int64], token_budget: int, most_items: int, multiple_of: int) -> list[int]:
    """Cut items in order of length into as few batches as can be, rounded up to a multiple, that take about as long.

    Args:
        lengths: padded ones, the longest first; none above the budget.
        token_budget: most padded tokens of a batch.
        most_items: of a batch.
        multiple_of: of the number of batches, which are fewer only where there are no more items.

    Returns:
        Where each batch begins.

    >>> even_cuts(np.array([4, 4, 4, 4]), 12, 8, 2)
    [0, 2]
    """
    fewest = len(cuts(lengths, token_budget, most_items))
    wanted = min(-(-fewest // multiple_of) * multiple_of, len(lengths))
    too_small, enough = int(lengths[0]) - 1, token_budget
    while enough - too_small > 1:
        middle = (too_small + enough) // 2
        if len(cuts(lengths, middle, most_items)) > wanted:
            too_small = middle
        else:
            enough = middle
    return _split_largest(lengths, cuts(lengths, enough, most_items), wanted)


def _split_largest(lengths: NDArray[np.int64], starts: list[int], wanted: int) -> list[int]:
    """Halve the batch with the most padded tokens until there are as many as wanted, at most one an item."""
    batches = [_batch(lengths, *ends) for ends in pairwise([*starts, len(lengths)])]
    heapify(batches)
    for _ in range(wanted - len(starts)):
        _, start, end = heappop(batches)
        middle = (start + end + 1) // 2
        heappush(batches, _batch(lengths, start, middle))
        heappush(batches, _batch(lengths, middle, end))
    return sorted(start for _, start, _ in batches)


def _batch(lengths: NDArray[np.int64], start: int, end: int) -> tuple[int, int, int]:
    """Return a batch's place in a heap that gives the one with the most padded tokens first, and single items last."""
    num_items = end - start
    return -num_items * int(lengths[start]) if num_items > 1 else 0, start, end
