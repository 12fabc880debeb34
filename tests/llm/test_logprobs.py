"""What is told of how likely tokens are."""

from __future__ import annotations

import pytest
import torch

from carpool.llm.logprobs import prompt_logprobs, tops, tops_by_sorting


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_prompts_are_told_as_a_softmax_over_all_of_them_says(dtype: torch.dtype) -> None:
    """Chosen and most likely tokens have the log probabilities of the model's own distribution."""
    logits = 3 * torch.randn(50, 700, dtype=dtype, generator=torch.Generator().manual_seed(1))
    tokens = torch.randint(700, (50,), generator=torch.Generator().manual_seed(2)).tolist()
    expected = torch.log_softmax(logits.double(), -1)
    best = expected.topk(5, -1)
    records = prompt_logprobs(logits, tokens, 5)
    assert [record.token for record in records] == tokens
    for row, record in enumerate(records):
        assert record.logprob == pytest.approx(float(expected[row, record.token]), abs=1e-5)
        assert [token for token, _ in record.top] == best.indices[row].tolist()
        assert [logprob for _, logprob in record.top] == pytest.approx(best.values[row].tolist(), abs=1e-5)


def test_level_tokens_are_told_by_their_ids() -> None:
    """So that the same model says the same, however its answer was worked out."""
    (record,) = prompt_logprobs(torch.zeros(1, 300), [7], 3)
    assert [token for token, _ in record.top] == [0, 1, 2]


def test_a_sort_finds_the_same_tokens() -> None:
    """Level ones among them, and of each row as many as were asked for."""
    logprobs = torch.randint(-9, 0, (6, 300), generator=torch.Generator().manual_seed(3)).float()
    asked = [0, 1, 2, 5, 20, 3]
    found = tops(logprobs, asked)
    assert found == tops_by_sorting(logprobs, asked)
    assert [len(likely) for likely in found] == asked


def test_the_chosen_token_is_told_alone_where_no_others_were_asked_for() -> None:
    """Its log probability is there, and no list."""
    (record,) = prompt_logprobs(torch.zeros(1, 4), [2])
    assert record.top == ()
    assert record.logprob == pytest.approx(-1.3862944)


def test_impossible_tokens_are_told_as_such() -> None:
    """A logit of -inf is a log probability of -inf, and no error."""
    (record,) = prompt_logprobs(torch.tensor([[0.0, -torch.inf]]), [1], 2)
    assert record.logprob == -torch.inf
    assert record.top == ((0, 0.0), (1, -torch.inf))
