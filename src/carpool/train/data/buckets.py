"""Windows and micro-batches of items that are about as long as each other, so that little is padded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from carpool.core.limits import check_whole
from carpool.train.data.lengths import Padding, read_lengths
from carpool.train.data.windows import WindowSampler

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike, NDArray

    from carpool.train.batch_plan import BatchPlan
    from carpool.train.data.windows import Items


class LengthBucketSampler(WindowSampler):
    """Gives windows of exactly the effective batch, of items of similar length.

    The items are shuffled; those of so many windows at a time are sorted, cut into windows, and the windows shuffled.
    With `pool_windows=1` a window is a random choice of items, and only its micro-batches are sorted: that changes
    nothing of what is learnt, and already helps where a window has many micro-batches. The more windows are sorted
    together, the less is padded; but each step then learns from items of about one length.

    The micro-batches of a window come the longest first: if memory is short, it shows at once.

    Args:
        lengths: tokens of each item, (num_items,).
        plan: what a window is made of.
        rank: whose micro-batches to give, from 0.
        pool_windows: windows whose items are sorted together.
        shuffle: in another order each epoch.
        seed: of the order, the same one on all ranks.

    Raises:
        ConfigError: a number is out of range.

    >>> from carpool.train import BatchPlan
    >>> sampler = LengthBucketSampler([9, 1, 8, 2], BatchPlan(effective_batch_size=4, micro_batch_size=2))
    >>> list(sampler), sampler.padding().waste
    ([[0, 2], [3, 1]], 0.09090909090909094)
    """

    def __init__(
        self,
        lengths: ArrayLike,
        plan: BatchPlan,
        *,
        rank: int = 0,
        pool_windows: int = 32,
        shuffle: bool = True,
        seed: int = 0,
    ) -> None:
        self._lengths = read_lengths(lengths)
        check_whole("pool_windows", pool_windows)
        self._pool_windows = pool_windows
        super().__init__(len(self._lengths), plan, rank=rank, shuffle=shuffle, seed=seed)

    def padding(self) -> Padding:
        """What is padded in the epoch that is under way or comes first, on all ranks."""
        return Padding.of(self._batch_lengths())

    def _batch_lengths(self) -> Iterator[NDArray[np.int64]]:
        for window in self._windows(self.epoch):
            yield from (self._lengths[items] for step in self._deal(window) for items in step)

    def _arrange(self, order: Items, chance: np.random.Generator) -> None:
        size = self._plan.effective_batch_size
        num_whole = len(order) // size * size
        for start in range(0, num_whole, size * self._pool_windows):
            pool = order[start : min(start + size * self._pool_windows, num_whole)]
            windows = self._longest_first(pool).reshape(-1, size)
            pool[:] = (chance.permutation(windows) if self._shuffle else windows).ravel()
        order[num_whole:] = self._longest_first(order[num_whole:])

    def _longest_first(self, items: Items) -> Items:
        """Sort items by their length; those of equal length stay in their order."""
        return items[np.argsort(-self._lengths[items], kind="stable")]
