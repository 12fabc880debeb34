"""Which tokens may be drawn, held against transformers' warpers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from carpool.llm.draw import Draw, draw
from carpool.llm.filters import nucleus
from carpool.llm.largest import at_least_kth, block_maxima, largest
from carpool.llm.sampling_params import SamplingParams

FILTERS = [
    SamplingParams(temperature=0.7, top_k=5),
    SamplingParams(temperature=1.3, top_k=100),
    SamplingParams(temperature=1.0, top_k=1),
    SamplingParams(temperature=0.7, top_p=0.9),
    SamplingParams(temperature=1.5, top_p=0.3),
    SamplingParams(temperature=1.0, top_p=1e-9),
    SamplingParams(temperature=0.9, min_p=0.05),
    SamplingParams(temperature=1.0, min_p=1.0),
    SamplingParams(temperature=0.8, top_k=20, top_p=0.8),
    SamplingParams(temperature=0.8, top_p=0.9, min_p=0.1),
    SamplingParams(temperature=2.0, top_k=40, top_p=0.95, min_p=0.02),
    SamplingParams(temperature=0.8, top_k=10_000, top_p=0.7),
]


def expected_probabilities(logits: torch.Tensor, params: SamplingParams) -> torch.Tensor:
    """(V,): what transformers draws from, in the order in which its `generate` applies the warpers."""
    warpers = LogitsProcessorList([TemperatureLogitsWarper(float(params.temperature))])
    if params.top_k > 0:
        warpers.append(TopKLogitsWarper(params.top_k))
    if params.top_p < 1:
        warpers.append(TopPLogitsWarper(params.top_p))
    if params.min_p > 0:
        warpers.append(MinPLogitsWarper(params.min_p))
    return torch.softmax(warpers(torch.LongTensor([[0]]), logits[None].double()), dim=-1)[0]


def drawn_shares(logits: torch.Tensor, params: SamplingParams, num: int) -> torch.Tensor:
    """(V,): how much of the numbers from 0 to 1, taken evenly, gives each token."""
    rows = logits.expand(num, -1)
    tokens = draw(rows, [Draw(row, params, (row + 0.5) / num) for row in range(num)])
    return torch.bincount(torch.tensor([tokens[row] for row in range(num)]), minlength=len(logits)) / num


@pytest.mark.parametrize("params", FILTERS, ids=range(len(FILTERS)))
@pytest.mark.parametrize("width", [37, 320])
def test_tokens_are_drawn_as_often_as_transformers_would(params: SamplingParams, width: int) -> None:
    """Random numbers that lie evenly give each token its probability to within the distance of two of them."""
    logits = 2 * torch.randn(width, generator=torch.Generator().manual_seed(width))
    expected = expected_probabilities(logits, params)
    shares = drawn_shares(logits, params, 1500)
    torch.testing.assert_close(shares.double(), expected, atol=2 / 1500, rtol=0)
    assert not shares[expected == 0].any()


@pytest.mark.parametrize("scale", [0.1, 2.0])
@pytest.mark.parametrize("params", [SamplingParams(), *FILTERS], ids=range(len(FILTERS) + 1))
def test_a_large_vocabulary_is_drawn_from_by_the_inverse_of_its_distribution(
    params: SamplingParams, scale: float
) -> None:
    """A random number gives the token where transformers' probabilities, added up by id, pass it."""
    width, num = 20_000, 60
    logits = scale * torch.randn(width, generator=torch.Generator().manual_seed(4))
    expected = expected_probabilities(logits, params)
    uniforms = (torch.arange(num) + 0.5) / num
    drawn = draw(logits.expand(num, -1), [Draw(row, params, float(uniforms[row])) for row in range(num)])
    tokens = torch.tensor([drawn[row] for row in range(num)])
    reached = expected.cumsum(0)
    assert (expected[tokens] > 0).all()
    assert (reached[tokens] > uniforms - 1e-4).all()
    assert (reached[tokens] - expected[tokens] < uniforms + 1e-4).all()


@pytest.mark.parametrize("scale", [0.01, 0.7, 4.0])
@pytest.mark.parametrize("top_p", [0.1, 0.9, 0.999])
def test_the_nucleus_of_a_large_vocabulary_is_transformers_own(scale: float, top_p: float) -> None:
    """Without a sort of all tokens the same ones are left, but for one where rounding decides."""
    logits = scale * torch.randn(20_000, generator=torch.Generator().manual_seed(3))
    expected = expected_probabilities(logits, SamplingParams(top_p=top_p)) > 0
    marked = torch.from_numpy(nucleus(torch.softmax(logits.double(), -1).numpy(), top_p))
    assert int((marked != expected).sum()) <= 1


@given(arrays.arrays(np.float32, st.integers(1, 3000), elements=st.floats(0, 1, width=32)), st.floats(0.01, 0.99))
def test_the_nucleus_is_the_fewest_that_have_the_mass(weights: np.ndarray, share: float) -> None:
    """With the least of them left out the mass is not reached, and no unmarked weight is above a marked one."""
    weights[0] = 1
    mass = share * float(weights.sum(dtype=np.float64))
    marked = nucleus(weights, mass)
    kept = weights[marked].astype(np.float64)
    assert kept.sum() >= mass * (1 - 1e-6)
    assert kept.sum() - kept.min() < mass * (1 + 1e-6)
    assert marked.all() or weights[~marked].max() <= kept.min()


def test_a_nucleus_of_many_weights_is_that_of_a_sort() -> None:
    """Bins give the same as sorting does, in both widths of floats, with weights of zero among them."""
    weights = np.random.default_rng(0).lognormal(0, 4, 5000)
    weights[::7] = 0
    for numbers in (weights, weights.astype(np.float32)):
        for share in (0.01, 0.5, 0.99, 0.999999):
            mass = share * float(numbers.sum(dtype=np.float64))
            order = np.argsort(-numbers, kind="stable")
            num_kept = int(np.searchsorted(np.cumsum(numbers[order], dtype=np.float64), mass)) + 1
            assert set(np.flatnonzero(nucleus(numbers, mass))) == set(order[:num_kept])


@given(
    arrays.arrays(np.float32, st.integers(1, 400), elements=st.sampled_from([-np.inf, -1.5, 0.0, 0.25, 2.0, 3.0])),
    st.integers(1, 420),
)
def test_the_largest_are_found_without_a_sort(row: np.ndarray, num: int) -> None:
    """Level ones go by their place, and those level with the last one count as found too."""
    maxima = block_maxima(torch.from_numpy(row)[None]).numpy()[0]
    order = np.argsort(-row, kind="stable")
    assert largest(row, maxima, num).tolist() == order[:num].tolist()
    kth = row[order[min(num, len(row)) - 1]]
    assert at_least_kth(row, maxima, num).tolist() == np.flatnonzero(row >= kth).tolist()
