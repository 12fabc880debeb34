"""What computes a step of an LLM: the seam between scheduling and arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

Want: TypeAlias = Literal["tokens", "logits", "hidden"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepBatch:
    """A step in plain arrays: T tokens of S sequences, laid end to end.

    Args:
        token_ids: (T,) int64.
        positions: (T,) int64; consecutive within a sequence.
        starts: (S + 1,) int32; the tokens of sequence s are `starts[s]` to `starts[s + 1]`.
        contexts: (S,) int32; tokens of each sequence in the cache once the step is done, those of the step included.
        block_tables: (S, W) int32; the blocks that hold positions 0.., the rest of a row is of no meaning.
        rows: (R,) int64, rising; the tokens whose results are wanted.
        want: the most likely next token of each row, its logits, or the last layer's vector.
    """

    token_ids: NDArray[np.int64]
    positions: NDArray[np.int64]
    starts: NDArray[np.int32]
    contexts: NDArray[np.int32]
    block_tables: NDArray[np.int32]
    rows: NDArray[np.int64]
    want: Want = "logits"

    @property
    def num_tokens(self) -> int:
        """T."""
        return len(self.token_ids)

    @property
    def num_sequences(self) -> int:
        """S."""
        return len(self.contexts)


class Runner(Protocol):
    """Computes steps, and keeps the keys and values of the tokens that it has seen in blocks.

    Lives on one thread: whoever calls `warm_up` first calls all the rest.

    Attributes:
        num_blocks: blocks in the cache.
        block_size: tokens in a block.
        max_length: the longest sequence that the model can take, in tokens.
        vocabulary_size: V.
        weights_bytes: memory of the weights.
        cache_bytes: memory of the cache.
    """

    num_blocks: int
    block_size: int
    max_length: int
    vocabulary_size: int
    weights_bytes: int
    cache_bytes: int

    def warm_up(self) -> None:
        """Run what is dear the first time, before anybody waits for it."""

    def run(self, batch: StepBatch) -> torch.Tensor:
        """Compute a step.

        Args:
            batch: the step; no block of one sequence is written by another.

        Returns:
            By what is wanted, for each of the R rows: (R,) int64 tokens, (R, V) logits in float32 (float64 where the
            model computes in it), or (R, D) vectors; on the runner's device.

        Raises:
            OutOfMemory: it does not fit; what the cache holds stays as it was before the step.
        """
        ...
