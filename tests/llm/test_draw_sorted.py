"""Tokens drawn from sorted rows, held against transformers' warpers."""

from __future__ import annotations

import pytest
import torch

from carpool.llm.draw_sorted import draw_sorted
from carpool.llm.sampling_params import SamplingParams
from tests.llm.test_filters import FILTERS, expected_probabilities


@pytest.mark.parametrize("params", FILTERS, ids=range(len(FILTERS)))
def test_tokens_are_drawn_as_often_as_transformers_would(params: SamplingParams) -> None:
    """Random numbers that lie evenly give each token its probability to within the distance of two of them."""
    num, width = 3000, 150
    logits = 2 * torch.randn(width, generator=torch.Generator().manual_seed(5))
    expected = expected_probabilities(logits, params)
    uniforms = [(row + 0.5) / num for row in range(num)]
    tokens = draw_sorted(logits.expand(num, -1), [params] * num, uniforms)
    shares = torch.bincount(torch.tensor(tokens), minlength=width) / num
    torch.testing.assert_close(shares.double(), expected, atol=2 / num, rtol=0)
    assert not shares[expected == 0].any()


def test_rows_have_filters_of_their_own_and_need_numbers() -> None:
    """Each row is drawn by its own request; one without numbers has no token."""
    logits = torch.randn(5, 90, generator=torch.Generator().manual_seed(6))
    logits[1, 3], logits[2], logits[3, 0] = torch.nan, -torch.inf, torch.inf
    params = [SamplingParams(top_k=1), *FILTERS[:3], SamplingParams(top_p=1e-6)]
    tokens = draw_sorted(logits, params, [0.999] * 5)
    assert tokens == [int(logits[0].argmax()), None, None, None, int(logits[4].argmax())]


@pytest.mark.parametrize("uniform", [0.0, 1 - 2.0**-53])
def test_impossible_tokens_are_never_drawn(uniform: float) -> None:
    """Not by the least nor by the greatest of random numbers."""
    logits = torch.full((1, 200), -torch.inf)
    logits[0, 17] = 0.5
    for params in FILTERS:
        assert draw_sorted(logits, [params], [uniform]) == [17]
