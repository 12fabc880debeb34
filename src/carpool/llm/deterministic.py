"""Steps whose results are bitwise the same for a sequence alone and in any company, however it is cut into chunks.

What makes results vary is that operators choose their way by the shape that they are given: a product of one row is
added up in another order than one of sixty-four. So the model is only ever given one shape: tiles of so many rows,
filled up where there are fewer, one tile after another. Within a tile every token is attended to as if it were alone,
over blocks that begin at fixed positions. That operators treat all rows of a tile alike is tried when the model is
loaded.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from carpool.errors import ConfigError
from carpool.llm.model_check import sample_tokens
from carpool.llm.runner import StepBatch
from carpool.llm.transformers_runner import TransformersRunner

if TYPE_CHECKING:
    from collections.abc import Iterator

    from carpool.llm.runner import Runner

TILE = 32
"""Rows of every call of the model: more waste time on few sequences, fewer read the weights more often for many."""


class DeterministicRunner(TransformersRunner):
    """Runs steps tile by tile."""

    def run(self, batch: StepBatch) -> torch.Tensor:
        """Compute a step."""
        return torch.cat([super(DeterministicRunner, self).run(tile) for tile in tiles(batch)])

    def _filled_up(self, num_rows: int) -> int:
        return TILE if num_rows else 0


def tiles(batch: StepBatch) -> Iterator[StepBatch]:
    """Cut a step into tiles, each token a sequence of its own whose context ends with it.

    A token sees those before it in the same tile too: their keys and values are kept before any is attended to.

    Args:
        batch: the step.
    """
    owners = np.repeat(np.arange(batch.num_sequences), np.diff(batch.starts))
    for begin in range(0, batch.num_tokens, TILE):
        part = slice(begin, begin + TILE)
        positions = batch.positions[part]
        first, end = np.searchsorted(batch.rows, (begin, begin + TILE))
        yield replace(
            batch,
            token_ids=batch.token_ids[part],
            positions=positions,
            starts=np.arange(len(positions) + 1, dtype=np.int32),
            contexts=(positions + 1).astype(np.int32),
            block_tables=batch.block_tables[owners[part]],
            rows=batch.rows[first:end] - begin,
        )


def check_rows_alike(runner: Runner, name: str) -> None:
    """See that the same tokens give bitwise the same results in other rows of a tile, with others, and alone.

    Args:
        runner: whose blocks hold nothing yet.
        name: of the model.

    Raises:
        ConfigError: they do not.
    """
    num_tried = min(TILE, runner.num_blocks)
    tokens = sample_tokens(num_tried, runner.vocabulary_size).numpy()
    together = runner.run(_first_tokens(tokens))
    turned = runner.run(_first_tokens(np.roll(tokens, num_tried // 3)[::-1]))
    turned = turned.flip(0).roll(-(num_tried // 3), 0)
    alone = torch.cat([runner.run(_first_tokens(tokens[place : place + 1])) for place in (0, num_tried - 1)])
    if not (torch.equal(together, turned) and torch.equal(together[[0, -1]], alone)):
        raise ConfigError(
            f"{name} can't be run deterministically here: an operator's results depend on the row; try "
            "num_threads = 1, or another dtype"
        )


def _first_tokens(tokens: np.ndarray) -> StepBatch:
    """A step of sequences with one token each."""
    num = len(tokens)
    return StepBatch(
        token_ids=tokens.astype(np.int64),
        positions=np.zeros(num, np.int64),
        starts=np.arange(num + 1, dtype=np.int32),
        contexts=np.ones(num, np.int32),
        block_tables=np.arange(num, dtype=np.int32)[:, None],
        rows=np.arange(num, dtype=np.int64),
    )
