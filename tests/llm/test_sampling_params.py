"""What a request may ask of its tokens."""

from typing import Any

import pytest

from carpool.errors import InvalidItem
from carpool.llm.constraint import MAX_CONSTRAINT_CHARACTERS, Constraint
from carpool.llm.sampling_params import SamplingParams

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"temperature": -0.1}, "temperature is -0.1: it must be from 0 to 100"),
    ({"temperature": float("nan")}, "temperature is nan: it must be a finite number"),
    ({"temperature": "hot"}, "temperature is 'hot': it must be a finite number"),
    (
        {"top_p": 0},
        "top_p is 0: it must be above 0 and at most 1; for the most likely token alone set temperature to 0",
    ),
    ({"top_p": 1.5}, "top_p is 1.5: it must be above 0 and at most 1"),
    ({"top_k": -2}, "top_k is -2: it must be at least -1"),
    ({"top_k": 2.0}, "top_k is 2.0: it must be a whole number"),
    ({"min_p": 2}, "min_p is 2: it must be from 0 to 1"),
    ({"presence_penalty": 2.1}, "presence_penalty is 2.1: it must be from -2 to 2"),
    ({"frequency_penalty": -3}, "frequency_penalty is -3: it must be from -2 to 2"),
    ({"repetition_penalty": 1e-40}, "repetition_penalty is 1e-40: it must be from 0.01 to 100"),
    ({"max_tokens": 0}, "max_tokens is 0: it must be at least 1"),
    ({"max_tokens": True}, "max_tokens is True: it must be a whole number"),
    ({"min_tokens": 5, "max_tokens": 4}, "min_tokens is 5, and max_tokens 4: ask for no more than are allowed"),
    ({"n": 0}, "n is 0: it must be from 1 to 128"),
    ({"logprobs": 21}, "logprobs is 21: it must be from 0 to 20"),
    ({"prompt_logprobs": -1}, "prompt_logprobs is -1: it must be from 0 to 20"),
    ({"seed": 2**64}, f"seed is {2**64}: it must be from {-(2**63)} to {2**64 - 1}"),
    ({"seed": 1.5}, "seed is 1.5: it must be a whole number"),
    ({"logit_bias": [1]}, "logit_bias is [1]: it must map token ids to numbers"),
    ({"logit_bias": {"5": 1}}, "a token of logit_bias is '5': it must be a whole number"),
    ({"logit_bias": {-5: 1}}, "a token of logit_bias is -5: it must be at least 0"),
    ({"logit_bias": {5: 101}}, "the logit_bias of token 5 is 101: it must be from -100 to 100"),
    ({"stop": "end"}, "stop is 'end': it must be a tuple, such as ('end',)"),
    ({"stop": ("",)}, "stop has '': each must be a text of 1 to 1,000 characters"),
    ({"stop": ("x",) * 65}, "stop has 65 members: 64 are the most"),
    ({"stop_token_ids": (-1,)}, "a token of stop_token_ids is -1: it must be at least 0"),
    ({"stop_token_ids": 3}, "stop_token_ids is 3: it must be a tuple, such as (3,)"),
    (
        {"constraint": Constraint.regex("a+"), "min_tokens": 2},
        (
            "min_tokens is 2 beside a constraint, which alone says where the text may end: leave min_tokens out, and "
            "let the constraint ask for the length"
        ),
    ),
]


@pytest.mark.parametrize(("given", "message"), WRONG)
def test_what_is_out_of_range_is_refused_with_value_and_limit(given: dict[str, Any], message: str) -> None:
    """The message has the parameter's name, its value and what is allowed."""
    with pytest.raises(InvalidItem) as refused:
        SamplingParams(**given)
    assert str(refused.value) == message


def test_numbers_too_large_for_a_float_are_refused_too() -> None:
    """A whole number of any size is compared, not converted."""
    with pytest.raises(InvalidItem, match="it must be from 0 to 100"):
        SamplingParams(temperature=10**400)


def test_temperatures_next_to_zero_are_greedy() -> None:
    """Below a hundred-thousandth nothing but the most likely token would be drawn."""
    assert SamplingParams(temperature=0).greedy
    assert SamplingParams(temperature=1e-6).greedy
    assert not SamplingParams(temperature=0.01).greedy


def test_end_of_text_stops_unless_it_is_to_be_ignored() -> None:
    """Stop tokens of the request always stop."""
    eos = frozenset({2})
    assert SamplingParams(stop_token_ids=(7,)).stopping_ids(eos) == {2, 7}
    assert SamplingParams(stop_token_ids=(7,), ignore_eos=True).stopping_ids(eos) == {7}


@pytest.mark.parametrize("given", [{"logit_bias": {50: 1.0}}, {"stop_token_ids": (50,)}])
def test_tokens_that_the_model_does_not_have_are_refused(given: dict[str, Any]) -> None:
    """The message names the token and those that there are."""
    params = SamplingParams(**given)
    params.check_vocabulary(51)
    with pytest.raises(InvalidItem, match=r"names the token 50, and the model has those from 0 to 49"):
        params.check_vocabulary(50)


@pytest.mark.parametrize("choices", [[], [""], "yes", ["a", 1], None])
def test_choices_are_texts(choices: Any) -> None:
    """There is at least one, and none is empty."""
    with pytest.raises(InvalidItem, match="give a list of one text or more, none of them empty"):
        Constraint.choice(choices)


def test_constraints_have_a_size() -> None:
    """Nothing and too much are refused before anybody reads them."""
    with pytest.raises(InvalidItem, match="the regex constraint is empty"):
        Constraint.regex("")
    with pytest.raises(InvalidItem, match="the regex constraint has 1,000,001 characters: make it smaller"):
        Constraint.regex("a" * (MAX_CONSTRAINT_CHARACTERS + 1))


def test_a_schema_that_is_no_json_is_refused() -> None:
    """Python's sets have no JSON."""
    with pytest.raises(InvalidItem, match="the JSON schema can't be written as JSON"):
        Constraint.json_schema({"enum": {1, 2}})
