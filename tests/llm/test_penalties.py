"""Penalties and bias, held against transformers' processors and OpenAI's formula."""

from __future__ import annotations

from collections import Counter

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import RepetitionPenaltyLogitsProcessor

from carpool.llm.penalties import Penalty, TokenCounts, add_bias, forbid, penalise
from carpool.llm.sampling_params import SamplingParams

V = 30
TOKENS = st.lists(st.integers(0, V - 1), max_size=200)
PENALTIES = st.floats(-2, 2, width=32)


def counts_of(prompt: list[int], generated: list[int]) -> TokenCounts:
    """What a sequence has said."""
    said = TokenCounts(prompt)
    for token in generated:
        said.add(token)
    return said


@given(TOKENS, TOKENS)
def test_each_token_is_counted_once_with_the_times_it_was_generated(prompt: list[int], generated: list[int]) -> None:
    """The prompt's tokens are there with no time."""
    said = counts_of(prompt, generated)
    expected = {**dict.fromkeys(prompt, 0), **Counter(generated)}
    assert dict(zip(said.ids.tolist(), said.counts.tolist(), strict=True)) == expected


def test_counts_have_room_for_all_tokens() -> None:
    """A long text with more tokens than its prompt had goes on being counted."""
    said = counts_of([1], list(range(1000)) * 2)
    assert sorted(said.ids.tolist()) == list(range(1000))
    assert (said.counts == 2).all()


@given(TOKENS, TOKENS, st.floats(0.5, 3, width=32))
def test_repetition_penalty_is_that_of_transformers(prompt: list[int], generated: list[int], penalty: float) -> None:
    """It goes over prompt and generated tokens, once each; negative logits are multiplied."""
    logits = torch.randn(1, V, generator=torch.Generator().manual_seed(0))
    said = torch.tensor([[*prompt, *generated]], dtype=torch.long)
    expected = RepetitionPenaltyLogitsProcessor(float(penalty))(said, logits.clone())
    penalise(logits, [Penalty(0, counts_of(prompt, generated), SamplingParams(repetition_penalty=penalty))])
    torch.testing.assert_close(logits, expected)


@given(TOKENS, TOKENS, PENALTIES, PENALTIES)
def test_frequency_and_presence_penalties_are_as_openai_says(
    prompt: list[int], generated: list[int], frequency: float, presence: float
) -> None:
    """`logit[j] -= count[j] x frequency + (count[j] > 0) x presence`, where the prompt does not count."""
    logits = torch.randn(1, V, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    counts = Counter(generated)
    expected = logits.clone()
    for token in range(V):
        expected[0, token] -= counts[token] * frequency + (counts[token] > 0) * presence
    params = SamplingParams(frequency_penalty=frequency, presence_penalty=presence)
    penalise(logits, [Penalty(0, counts_of(prompt, generated), params)])
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)


def test_rows_are_penalised_each_for_itself() -> None:
    """What several rows at once come to is what each comes to alone, and rows without a penalty stay as they are."""
    logits = torch.randn(4, V, generator=torch.Generator().manual_seed(0))
    params = SamplingParams(repetition_penalty=1.5, presence_penalty=0.5, frequency_penalty=-0.25)
    penalties = [Penalty(row, counts_of([row, 5], [5, row, 7]), params) for row in (0, 2, 3)]
    alone = logits.clone()
    for penalty in penalties:
        penalise(alone[penalty.row : penalty.row + 1], [Penalty(0, penalty.said, params)])
    together = logits.clone()
    penalise(together, penalties)
    assert torch.equal(together, alone)
    assert torch.equal(together[1], logits[1])


def test_bias_is_added_and_forbidden_tokens_become_impossible() -> None:
    """Each in its own row."""
    logits = torch.zeros(2, 4)
    add_bias(logits, [(1, np.array([0, 3]), np.array([2.5, -1.0]))])
    forbid(logits, [(0, np.array([1, 2, 4, 7]))])  # of which the model has two
    assert logits.tolist() == [[0, -np.inf, -np.inf, 0], [2.5, 0, 0, -1]]
