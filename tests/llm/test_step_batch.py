"""A plan's chunks as plain arrays."""

import numpy as np

from carpool.core.sequence import Sequence
from carpool.core.step import Chunk, StepPlan, StepWork
from carpool.llm.step_batch import block_tables, num_results, step_batch


def _plan(*chunks: Chunk) -> StepPlan:
    total = sum(chunk.num_tokens for chunk in chunks)
    return StepPlan(chunks, (), StepWork(total, len(chunks), len(chunks), 0, 0.0))


def _sequence(tokens: list[int], blocks: list[int], *, wants_prompt_logits: bool = False) -> Sequence:
    sequence = Sequence(tokens=tokens, max_new_tokens=4, wants_prompt_logits=wants_prompt_logits)
    sequence.blocks = blocks
    return sequence


def test_chunks_lie_end_to_end_with_their_positions_and_blocks() -> None:
    """Decode tokens and a prompt's piece become one row of tokens that know their places."""
    decode, prefill = _sequence([5, 6, 7], [4]), _sequence(list(range(10, 20)), [7, 2])
    batch = step_batch(_plan(Chunk(decode, 2, 1, samples=True), Chunk(prefill, 4, 3, samples=False)), want="tokens")
    assert batch.token_ids.tolist() == [7, 14, 15, 16]
    assert batch.positions.tolist() == [2, 4, 5, 6]
    assert batch.starts.tolist() == [0, 1, 4]
    assert batch.contexts.tolist() == [3, 7]
    assert batch.block_tables.tolist() == [[4, 0], [7, 2]]
    assert batch.rows.tolist() == [0]
    assert batch.want == "tokens"


def test_prompt_logits_are_wanted_of_every_token_of_the_prompt() -> None:
    """A chunk that begins within the prompt is answered whole; one after it only at its end."""
    asking = _sequence(list(range(6)), [0], wants_prompt_logits=True)
    first, last = Chunk(asking, 0, 4, samples=False), Chunk(asking, 4, 2, samples=True)
    assert step_batch(_plan(first)).rows.tolist() == [0, 1, 2, 3]
    assert step_batch(_plan(last)).rows.tolist() == [0, 1]
    asking.tokens.append(9)
    decode = Chunk(asking, 6, 1, samples=True)
    assert [num_results(chunk) for chunk in (first, last, decode)] == [4, 2, 1]


def test_a_plan_of_nothing_is_a_batch_of_nothing() -> None:
    """No chunk, no token, no table."""
    batch = step_batch(_plan())
    assert (batch.num_tokens, batch.num_sequences, batch.block_tables.shape) == (0, 0, (0, 0))


def test_tables_of_unequal_length_are_filled_up_with_zeros() -> None:
    """The longest sequence's table is as wide as all."""
    table = block_tables([[3, 1, 2], [], [9]])
    assert table.tolist() == [[3, 1, 2], [0, 0, 0], [9, 0, 0]]
    assert table.dtype == np.int32
