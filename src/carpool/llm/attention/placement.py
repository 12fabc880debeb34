"""Where blocks lie: side by side, those that a step's single tokens look at, so that they need no copying to be read.

A block's number is the scheduler's; its page is where the cache holds it, and only the cache knows. What a step needs
that lies elsewhere changes places with what it does not need.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Moves(NamedTuple):
    """What a cache has to do before a step: copy all pages of `sources` at once, then clear.

    Args:
        sources: (M,) int64; pages to copy.
        targets: (M,) int64; where to.
        cleared: (C,) int64; pages to fill with zeros: they hold what is left of others, and may hold what is no number.
    """

    sources: NDArray[np.int64]
    targets: NDArray[np.int64]
    cleared: NDArray[np.int64]


class Placement:
    """Which page each block lies in.

    Args:
        num_blocks: blocks, and pages.
    """

    def __init__(self, num_blocks: int) -> None:
        self._pages = np.arange(num_blocks)  # of each block
        self._blocks = np.arange(num_blocks)  # in each page
        self._is_used = np.zeros(num_blocks, bool)  # pages that hold what somebody may read
        self._is_dirty = np.zeros(num_blocks, bool)  # pages that hold anything, if only what is left of others

    def pages(self, blocks: NDArray[np.integer]) -> NDArray[np.int64]:
        """The pages of blocks, any shape.

        Args:
            blocks: their numbers.
        """
        pages: NDArray[np.int64] = self._pages[blocks]
        return pages

    def arrange(self, needed: NDArray[np.int64], begun: NDArray[np.int64], written: NDArray[np.int64]) -> Moves:
        """Bring blocks to the front: they lie in the first pages then, in any order.

        Args:
            needed: the blocks, each once.
            begun: blocks of which nothing is kept, since the step writes to their beginning.
            written: blocks that the step writes to, those begun among them.

        >>> placement = Placement(4)
        >>> placement.arrange(np.array([3, 1]), begun=np.array([3]), written=np.array([1, 3])).sources.tolist()
        []
        >>> placement.pages(np.array([3, 1])).tolist()
        [0, 1]
        """
        self._is_used[self._pages[begun]] = False
        sources, targets = self._swap(needed)
        self._is_dirty[targets] = True
        fresh = self._pages[begun]
        cleared = fresh[self._is_dirty[fresh]]
        self._is_used[self._pages[written]] = self._is_dirty[self._pages[written]] = True
        return Moves(sources, targets, cleared)

    def _swap(self, needed: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Let needed blocks beyond the first pages change places with what is not needed there."""
        pages = self._pages[needed]
        outside = pages[pages >= len(needed)]
        is_hole = np.ones(len(needed), bool)
        is_hole[pages[pages < len(needed)]] = False
        sources = np.concatenate((outside, np.flatnonzero(is_hole)))
        targets = np.roll(sources, len(outside))
        blocks, is_used = self._blocks[sources], self._is_used[sources]
        self._blocks[targets], self._pages[blocks], self._is_used[targets] = blocks, targets, is_used
        return sources[is_used], targets[is_used]
