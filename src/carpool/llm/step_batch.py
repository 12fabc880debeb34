"""From a step's plan to the plain arrays that a runner takes."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from carpool.llm.runner import StepBatch, Want

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from carpool.core.step import Chunk, StepPlan


def step_batch(plan: StepPlan, *, want: Want = "logits") -> StepBatch:
    """Lay a step's tokens end to end, in the order of its chunks.

    Wanted are the last token of each chunk that samples and, where a sequence's prompt logits are asked for, every
    token of the chunks that begin within its prompt; `num_results` says how many of the results belong to each chunk.

    Args:
        plan: what to compute.
        want: what is asked of the wanted tokens.
    """
    chunks = plan.chunks
    firsts = np.array([chunk[1] for chunk in chunks], np.int32)
    lengths = np.array([chunk[2] for chunk in chunks], np.int32)
    starts = np.zeros(len(chunks) + 1, np.int32)
    np.cumsum(lengths, out=starts[1:])
    total = int(starts[-1])
    positions = np.arange(total, dtype=np.int64) + np.repeat(firsts - starts[:-1], lengths)
    return StepBatch(
        token_ids=np.fromiter(chain.from_iterable(map(_tokens, chunks)), np.int64, total),
        positions=positions,
        starts=starts,
        contexts=firsts + lengths,
        block_tables=block_tables([chunk[0].blocks for chunk in chunks]),
        rows=_wanted_rows(chunks, starts),
        want=want,
    )


def num_results(chunk: Chunk) -> int:
    """How many of its tokens' results a chunk is given: of its last ones, in the order of their positions.

    Args:
        chunk: of a plan.
    """
    sequence = chunk.sequence
    if sequence.wants_prompt_logits and chunk.start < sequence.num_prompt:
        return chunk.num_tokens
    return int(chunk.samples)


def block_tables(blocks: Sequence[Sequence[int]]) -> NDArray[np.int32]:
    """Lay lists of blocks below each other, (S, W) with the longest's W; the ends of shorter ones are zero.

    Args:
        blocks: each sequence's, in the order of its positions.
    """
    lengths = np.fromiter(map(len, blocks), np.int64, len(blocks))
    width = int(lengths.max(initial=0))
    table = np.zeros((len(blocks), width), np.int32)
    flat = np.fromiter(chain.from_iterable(blocks), np.int32, int(lengths.sum()))
    table[np.arange(width) < lengths[:, None]] = flat
    return table


def _tokens(chunk: Chunk) -> list[int]:
    sequence, start, num_tokens, _ = chunk
    return sequence.tokens[start : start + num_tokens]


def _wanted_rows(chunks: Sequence[Chunk], starts: NDArray[np.int32]) -> NDArray[np.int64]:
    ends = starts[1:]
    if True not in [chunk[0].wants_prompt_logits for chunk in chunks]:
        lasts: NDArray[np.int64] = ends[np.array([chunk[3] for chunk in chunks], bool)].astype(np.int64) - 1
        return lasts
    rows: list[int] = []
    for chunk, end in zip(chunks, ends.tolist(), strict=True):
        rows.extend(range(end - num_results(chunk), end))
    return np.array(rows, np.int64)
