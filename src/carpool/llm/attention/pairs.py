"""Which blocks the single tokens of a step look at, as the index arrays of a few large operations.

A pair is a token and a block that it looks at. Products with keys and values are batched matrix products over pairs; in
between, the scores of a token's pairs are laid side by side for the softmax. The blocks of a sequence need not lie side
by side for that, and no sequence is padded to another's length where it costs: in what reads the cache.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """The pairs of R tokens and the blocks that they look at, W at most.

    Args:
        blocks: (N,) int64; the block of each pair, in the order of the pairs.
        tokens: (N,) int64; which of the R tokens.
        places: (R, W) int64; the pair in which a token meets its first, second ... block. Where it has none left, any.
        counts: (R,) int64; blocks of each token.
        hidden: (R, W * block size) bool; the places in those blocks that the token does not look at.
    """

    blocks: NDArray[np.int64]
    tokens: NDArray[np.int64]
    places: NDArray[np.int64]
    counts: NDArray[np.int64]
    hidden: NDArray[np.bool_]

    def in_place(self, num_blocks: int) -> tuple[Pairs, int]:
        """Put the pairs of the first blocks first, in the order of the blocks, if there is one for each of them.

        Args:
            num_blocks: how many.

        Returns:
            The pairs, and how many come first so: `num_blocks` or none.
        """
        found, first = np.unique(self.blocks, return_index=True)
        if num_blocks == 0 or len(found) < num_blocks or found[num_blocks - 1] != num_blocks - 1:
            return self, 0
        first = first[:num_blocks]
        is_rest = np.ones(len(self.blocks), bool)
        is_rest[first] = False
        order = np.concatenate((first, np.flatnonzero(is_rest)))
        new = np.empty_like(order)
        new[order] = np.arange(len(order))
        return replace(self, blocks=self.blocks[order], tokens=self.tokens[order], places=new[self.places]), num_blocks

    @property
    def used(self) -> NDArray[np.bool_]:
        """Which of `places` mean something, (R, W)."""
        return np.arange(self.places.shape[1]) < self.counts[:, None]

    def spread(self, num_heads: int) -> NDArray[np.int64]:
        """Where a token's rows of scores come from, head by head: (R * H * W,) rows of (N * H, block size).

        Args:
            num_heads: H, of the query.
        """
        return (self.places[:, None, :] * num_heads + np.arange(num_heads)[:, None]).ravel()

    def gather(self, num_heads: int) -> NDArray[np.int64]:
        """The way back: for each pair and head, the row of (R * H * W, block size); (N * H,).

        Args:
            num_heads: H, of the query.
        """
        num_tokens, width = self.places.shape
        rows = np.zeros((len(self.blocks), num_heads), np.int64)
        source = np.arange(num_tokens * num_heads * width).reshape(num_tokens, num_heads, width)
        used = self.used
        rows[self.places[used]] = source.transpose(0, 2, 1)[used]
        return rows.ravel()

    def sums(self, num_heads: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Which rows of (N * H, value size) add up to each token's and head's: rows end to end, and where each begins.

        Args:
            num_heads: H, of the query.
        """
        num_tokens, width = self.places.shape
        used = np.broadcast_to(self.used[:, None, :], (num_tokens, num_heads, width))
        rows = self.spread(num_heads)[used.ravel()]
        ends = np.cumsum(np.repeat(self.counts, num_heads))
        return rows, np.concatenate(([0], ends[:-1]))


def pair_up(
    tables: NDArray[np.int64], contexts: NDArray[np.int64], block_size: int, window: int | None = None
) -> Pairs:
    """Pair each token with the blocks that it looks at.

    Args:
        tables: (R, any) int64; each token's blocks by position.
        contexts: (R,) int64; tokens up to it, itself included.
        block_size: tokens in a block.
        window: it looks at so many, itself included; None for all.

    >>> pair_up(np.array([[7, 4], [2, 0]]), np.array([3, 2]), block_size=2).blocks.tolist()
    [7, 4, 2]
    """
    seen_from = np.zeros_like(contexts) if window is None else np.maximum(contexts - window, 0)
    first = seen_from // block_size
    counts = -(-contexts // block_size) - first
    columns = np.arange(int(counts.max(initial=0)))
    used = columns < counts[:, None]
    tokens, column = np.nonzero(used)
    places = np.minimum(columns, counts[:, None] - 1) + (np.cumsum(counts) - counts)[:, None]
    positions = first[:, None] * block_size + np.arange(len(columns) * block_size)
    return Pairs(
        blocks=tables[tokens, first[tokens] + column],
        tokens=tokens,
        places=places,
        counts=counts,
        hidden=(positions >= contexts[:, None]) | (positions < seen_from[:, None]),
    )
