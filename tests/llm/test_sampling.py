"""Choosing the next tokens of a step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from carpool.errors import ModelError
from carpool.llm.sampled import Sampled
from carpool.llm.sampling import SamplerState, sample
from carpool.llm.sampling_params import SamplingParams

V, EOS = 400, frozenset({2, 9})
PARAMS: list[dict[str, Any]] = [
    {"temperature": 0},
    {"temperature": 0, "logprobs": 2},
    {"temperature": 0.9, "seed": 1},
    {"temperature": 0.9, "seed": 2, "top_k": 7, "logprobs": 0},
    {"temperature": 1.2, "seed": 3, "top_p": 0.8, "repetition_penalty": 1.3},
    {"temperature": 0.7, "seed": 4, "min_p": 0.1, "frequency_penalty": 1.0, "min_tokens": 3},
    {"temperature": 0, "presence_penalty": 0.5, "logit_bias": {5: 3.0}},
]


def state_of(**params: Any) -> SamplerState:
    """A sequence's state, with a prompt."""
    return SamplerState(SamplingParams(**params), [3, 4, 3], eos_ids=EOS)


def logits_at(step: int, which: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """(V,) what a model might say at a step of a sequence."""
    return 3 * torch.randn(V, dtype=dtype, generator=torch.Generator().manual_seed(1000 * which + step))


def generate_alone(which: int, num: int) -> list[Any]:
    """What a sequence is given where it is alone in every step."""
    state = state_of(**PARAMS[which])
    return [sample(logits_at(step, which)[None], [state])[0] for step in range(num)]


@given(st.lists(st.lists(st.integers(0, len(PARAMS) - 1), unique=True, min_size=1), min_size=4, max_size=8))
def test_a_sequence_has_the_same_tokens_whatever_else_is_in_its_batch(batches: list[list[int]]) -> None:
    """Steps with any others, in any order, and pauses between its steps, change no token and no log probability."""
    states = [state_of(**params) for params in PARAMS]
    outcomes: list[list[Any]] = [[] for _ in PARAMS]
    for batch in batches:
        logits = torch.stack([logits_at(len(outcomes[which]), which) for which in batch])
        for which, outcome in zip(batch, sample(logits, [states[which] for which in batch]), strict=True):
            outcomes[which].append(outcome)
    for which, found in enumerate(outcomes):
        assert found == generate_alone(which, len(found))


def test_generations_of_one_prompt_draw_different_numbers() -> None:
    """Those of one seed differ by their index, and each is the same again."""
    params = SamplingParams(seed=5)
    logits = torch.zeros(8, V)
    first = sample(logits.clone(), [SamplerState(params, index=index) for index in range(8)])
    again = sample(logits.clone(), [SamplerState(params, index=index) for index in range(8)])
    assert first == again
    assert len({outcome.token for outcome in first if isinstance(outcome, Sampled)}) > 4


def test_sequences_without_a_seed_differ_and_can_share_one_that_was_drawn() -> None:
    """Where no seed was asked for, chance decides; the engine may decide once for a request."""
    states = [SamplerState(SamplingParams()) for _ in range(8)]
    tokens = {outcome.token for outcome in sample(torch.zeros(8, V), states) if isinstance(outcome, Sampled)}
    assert len(tokens) > 2
    assert SamplerState(SamplingParams(), seed=6).uniform() == SamplerState(SamplingParams(seed=6)).uniform()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_greedy_takes_the_first_of_the_most_likely_tokens(dtype: torch.dtype) -> None:
    """As PyTorch's own argmax does for each row."""
    logits = torch.stack([logits_at(0, which, dtype) for which in range(20)])
    logits[3, [7, 300]] = 99.0
    outcomes = sample(logits.clone(), [state_of(temperature=0) for _ in range(20)])
    assert outcomes == [Sampled(token) for token in logits.argmax(-1).tolist()]
    assert outcomes[3] == Sampled(7)


def test_logprobs_are_of_the_model_whatever_is_asked_of_the_choice() -> None:
    """Temperature, filters, penalties and bias choose another token, and leave what is told of it as the model says."""
    logits = logits_at(0, 0)[None]
    expected = torch.log_softmax(logits[0], -1)
    asked = state_of(temperature=2.0, top_k=1, logit_bias={5: 100.0}, repetition_penalty=2.0, logprobs=3, seed=1)
    (outcome,) = sample(logits, [asked])
    assert isinstance(outcome, Sampled)
    assert outcome.token == 5
    assert outcome.logprob == pytest.approx(float(expected[5]), abs=1e-5)
    assert [token for token, _ in outcome.top] == expected.topk(3).indices.tolist()


def test_nothing_ends_the_text_before_its_least_length() -> None:
    """Until then neither the model's end nor a stop token is chosen, however likely."""
    state = state_of(temperature=0, min_tokens=2, stop_token_ids=(7,))
    likely = torch.zeros(1, V)
    likely[0, [2, 7, 9]] = torch.tensor([50.0, 60.0, 40.0])
    likely[0, 100] = 1.0
    assert [sample(likely.clone(), [state])[0] for _ in range(3)] == [Sampled(100), Sampled(100), Sampled(7)]


def test_an_end_that_is_ignored_may_come_at_any_time() -> None:
    """It ends nothing, so that it need not wait."""
    state = state_of(temperature=0, min_tokens=2, ignore_eos=True)
    likely = torch.zeros(1, V)
    likely[0, 2] = 50.0
    assert sample(likely, [state]) == [Sampled(2)]


def test_penalties_count_what_was_generated_as_it_comes() -> None:
    """A frequency penalty takes a token's place away once it has been said often enough."""
    state = state_of(temperature=0, frequency_penalty=1.0)
    logits = torch.zeros(1, V)
    logits[0, [10, 20]] = torch.tensor([2.5, 1.0])
    outcomes = [sample(logits.clone(), [state])[0] for _ in range(4)]
    assert outcomes == [Sampled(10), Sampled(10), Sampled(20), Sampled(10)]


def test_a_row_that_is_no_number_fails_alone() -> None:
    """The error says what is wrong with the logits; the other rows have their tokens."""
    logits = torch.zeros(5, V)
    logits[:, 8] = 1.0
    logits[1, 3] = torch.nan
    logits[2, 3] = torch.inf
    logits[3] = -torch.inf
    states = [
        state_of(temperature=0),
        state_of(temperature=0),
        state_of(seed=1),
        state_of(top_p=0.5),
        state_of(top_k=1),
    ]
    outcomes = sample(logits, states)
    assert outcomes[0] == outcomes[4] == Sampled(8)
    assert [str(outcome) for outcome in outcomes[1:4]] == [
        "the largest logit is nan: the model's arithmetic overflowed; try a wider dtype",
        "the largest logit is inf: the model's arithmetic overflowed; try a wider dtype",
        "no token is possible next: all logits are -inf; look at the model's weights and its dtype",
    ]
    assert all(isinstance(outcome, ModelError) for outcome in outcomes[1:4])
    assert [state.num_generated for state in states] == [1, 0, 0, 0, 1]


@pytest.mark.parametrize(
    ("params", "suffices"),
    [
        ({"temperature": 0}, True),
        ({"temperature": 0, "top_k": 5, "top_p": 0.5, "n": 2, "stop": ("x",), "prompt_logprobs": 1}, True),
        ({"temperature": 1}, False),
        ({"temperature": 0, "logprobs": 0}, False),
        ({"temperature": 0, "repetition_penalty": 1.1}, False),
        ({"temperature": 0, "logit_bias": {1: 1.0}}, False),
        ({"temperature": 0, "min_tokens": 2}, False),
    ],
)
def test_the_most_likely_tokens_suffice_where_nothing_else_is_asked(params: dict[str, Any], *, suffices: bool) -> None:
    """Then the model need not hand out logits."""
    assert state_of(**params).only_argmax is suffices


def test_most_likely_token_suffices_once_the_least_length_is_reached() -> None:
    """Until then the tokens that end the text must not come."""
    state = state_of(temperature=0, min_tokens=1)
    assert not state.only_argmax
    sample(torch.zeros(1, V), [state])
    assert state.only_argmax


def test_logits_of_inference_mode_are_taken() -> None:
    """As a model computes them, though they are changed in place."""
    with torch.inference_mode():
        logits = torch.zeros(1, V)
    (outcome,) = sample(logits, [state_of(temperature=0, logit_bias={5: 1.0})])
    assert outcome == Sampled(5)
