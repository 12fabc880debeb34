"""Tokens drawn from logits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from carpool.llm.draw import Draw, draw
from carpool.llm.random_stream import RandomStream
from carpool.llm.sampling_params import SamplingParams

KINDS = [
    SamplingParams(temperature=0.8),
    SamplingParams(temperature=1.7, top_k=30),
    SamplingParams(temperature=0.8, top_p=0.9),
    SamplingParams(temperature=1.0, min_p=0.02),
    SamplingParams(temperature=1.2, top_k=100, top_p=0.95, min_p=0.001),
]


def random_logits(num_rows: int, width: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """(num_rows, width) as spread as a model's."""
    return 3 * torch.randn(num_rows, width, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("width", [1, 63, 64, 65, 1000])
@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_frequencies_are_those_of_the_distribution(width: int, temperature: float) -> None:
    """A seed's numbers draw each token about as often as its probability says (chi-squared test)."""
    num = 4000
    logits = random_logits(1, width, seed=width)
    stream, params = RandomStream(11), SamplingParams(temperature=temperature)
    tokens = draw(logits.expand(num, -1), [Draw(row, params, stream.uniform(row)) for row in range(num)])
    counts = np.bincount(list(tokens.values()), minlength=width)
    expected = torch.softmax(logits[0].double() / temperature, -1).numpy() * num
    rare = expected < 5
    if rare.any():
        counts = np.append(counts[~rare], counts[rare].sum())
        expected = np.append(expected[~rare], expected[rare].sum())
    if len(counts) > 1:
        assert stats.chisquare(counts, expected).pvalue > 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(order=st.permutations(range(12)), uniforms=st.lists(st.floats(0, 1, exclude_max=True), min_size=12, max_size=12))
def test_a_row_is_drawn_alike_alone_and_in_any_batch(
    dtype: torch.dtype, order: list[int], uniforms: list[float]
) -> None:
    """Whatever the other rows are, how many, and in which order they come."""
    logits = random_logits(12, 3000, dtype=dtype)
    one_of = [Draw(0, KINDS[row % len(KINDS)], uniforms[row]) for row in range(12)]
    alone = [draw(logits[row : row + 1], [one_of[row]])[0] for row in range(12)]
    mixed = draw(logits[order], [Draw(at, one_of[row].params, uniforms[row]) for at, row in enumerate(order)])
    assert [mixed[at] for at in range(12)] == [alone[row] for row in order]


@given(
    st.integers(0, 2**32),
    st.sampled_from([0.0, 2.0**-53, 0.5, 1 - 2.0**-53]),
    st.sampled_from([*KINDS, SamplingParams(temperature=1e-5), SamplingParams(temperature=100, top_p=0.999999)]),
)
def test_impossible_tokens_are_never_drawn(seed: int, uniform: float, params: SamplingParams) -> None:
    """Not even by the least and the greatest of random numbers, where almost all is impossible."""
    logits = random_logits(1, 500, seed)
    possible = torch.randperm(500, generator=torch.Generator().manual_seed(seed))[:3]
    masked = torch.full_like(logits, -torch.inf)
    masked[0, possible] = logits[0, possible]
    assert draw(masked, [Draw(0, params, uniform)])[0] in possible.tolist()


@pytest.mark.parametrize("params", KINDS, ids=range(len(KINDS)))
def test_rows_without_numbers_are_left_out(params: SamplingParams) -> None:
    """NaN, infinity and nothing possible spoil their own row alone."""
    logits = random_logits(5, 300)
    logits[1, 200] = torch.nan
    logits[2] = -torch.inf
    logits[3, 7] = torch.inf
    tokens = draw(logits, [Draw(row, params, 0.3) for row in range(5)])
    assert sorted(tokens) == [0, 4]
    assert tokens == draw(logits, [Draw(row, params, 0.3) for row in (0, 4)])
