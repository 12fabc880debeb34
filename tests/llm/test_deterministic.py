"""Bitwise the same, alone and in any company, however a sequence is cut into chunks."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
import pytest
import torch

from carpool.errors import ConfigError
from carpool.llm.deterministic import TILE, check_rows_alike, tiles
from carpool.llm.load import load_lm
from carpool.llm.make_runner import make_runner
from carpool.llm.runner import StepBatch
from tests.llm.steps import Fed, feed, feed_all, loaded, sequences
from tests.llm.tiny import VOCABULARY, tiny_model

if TYPE_CHECKING:
    from carpool.llm.runner import Runner


def _runner(kind: str, dtype: torch.dtype) -> Runner:
    model = tiny_model(kind).to(dtype)
    return make_runner(loaded(model), block_size=16, most_tokens=2048, deterministic=True)


def _real() -> Runner:
    return make_runner(load_lm("demo:smollm2", dtype="bfloat16"), most_tokens=1024, deterministic=True)


def _alone(runner: Runner, fed: Fed) -> torch.Tensor:
    """What the runner says of a sequence by itself, in other blocks and in one piece."""
    num_blocks = len(fed.blocks)
    again = Fed(fed.tokens, list(range(runner.num_blocks - num_blocks, runner.num_blocks)))
    feed(runner, [(again, len(again.tokens))])
    return again.results


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("kind", ["llama", "qwen3", "mistral", "gemma2", "phi3"])
def test_logits_are_bitwise_those_of_the_sequence_alone(kind: str, dtype: torch.dtype) -> None:
    """In any mixture of chunks and single tokens, with sequences much longer than itself."""
    runner, rng = _runner(kind, dtype), np.random.default_rng(2)
    feds = sequences(runner, [1, 5, 40, 120, 17, 63], rng, vocabulary_size=VOCABULARY)
    feed_all(runner, feds, rng, most_tokens=45)
    for fed in feds:
        assert torch.equal(fed.results, _alone(runner, fed))


def test_a_prefix_found_in_the_cache_changes_nothing() -> None:
    """A sequence that goes on from another's blocks says what it says when it computes them itself."""
    runner, rng = _runner("llama", torch.bfloat16), np.random.default_rng(3)
    (first,) = sequences(runner, [48], rng, vocabulary_size=VOCABULARY)
    feed_all(runner, [first], rng)
    tokens = first.tokens[:32] + rng.integers(VOCABULARY, size=9).tolist()
    spare = [block for block in range(runner.num_blocks) if block not in first.blocks]
    hit = Fed(tokens, [*first.blocks[:2], spare[0]], done=32)
    feed(runner, [(hit, 4)])
    feed(runner, [(hit, 5)])
    whole = Fed(tokens, spare[1:4])
    feed(runner, [(whole, 41)])
    assert torch.equal(hit.results, whole.results[32:])


def test_a_real_model_says_the_same_bits_in_any_company() -> None:
    """SmolLM2 in bfloat16, its layers made fast, prompts in chunks beside each other and alone."""
    runner, rng = _real(), np.random.default_rng(4)
    feds = sequences(runner, [7, 40, 66], rng, vocabulary_size=49152)
    feed_all(runner, feds, rng, most_tokens=50)
    for fed in feds:
        assert torch.equal(fed.results, _alone(runner, fed))


def test_tiles_hold_every_token_once_with_what_it_sees() -> None:
    """Each token knows its position, its sequence's blocks, and whether it is wanted."""
    rng = np.random.default_rng(0)
    batch = StepBatch(
        token_ids=rng.integers(9, size=75),
        positions=np.concatenate((np.arange(5, 75), np.arange(5))),
        starts=np.array([0, 70, 75], np.int32),
        contexts=np.array([75, 5], np.int32),
        block_tables=np.array([[3, 4], [7, 0]], np.int32),
        rows=np.array([31, 32, 69, 74]),
    )
    found = list(tiles(batch))
    assert [tile.num_tokens for tile in found] == [TILE, TILE, 75 - 2 * TILE]
    assert np.concatenate([tile.token_ids for tile in found]).tolist() == batch.token_ids.tolist()
    assert [tile.rows.tolist() for tile in found] == [[31], [0], [5, 10]]
    assert all((tile.contexts == tile.positions + 1).all() for tile in found)
    assert found[-1].block_tables[:, 0].tolist() == [3] * 6 + [7] * 5


class _RowMinded:
    """A runner whose results depend on the row."""

    num_blocks, vocabulary_size = 64, 10

    def run(self, batch: StepBatch) -> torch.Tensor:
        """Say which row each is."""
        return torch.arange(len(batch.rows)).double()[:, None]


def test_a_model_whose_operators_mind_the_row_is_refused() -> None:
    """Bitwise equality that can't be had is not promised."""
    with pytest.raises(ConfigError, match=r"tiny can't be run deterministically here: .* num_threads = 1"):
        check_rows_alike(cast("Runner", _RowMinded()), "tiny")
