"""OpenAI's embeddings, without a network."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest

from carpool.errors import ModelError
from carpool.serve import openai
from carpool.serve.faults import Fault

VECTORS = np.array([[0.1, 0.2], [0.3, -0.4]], np.float32)


def parse(**fields: Any) -> openai.EmbeddingCall:
    """Parse a request of these fields."""
    return openai.read_call(openai.decode(json.dumps({"model": "m", **fields}).encode()), max_rows=4)


@pytest.mark.parametrize(
    ("given_input", "items"),
    [("a", ["a"]), (["a", "b"], ["a", "b"]), ([1, 2], [[1, 2]]), ([[1], [2, 3]], [[1], [2, 3]])],
)
def test_texts_and_token_ids_come_alone_or_many(given_input: Any, items: list[Any]) -> None:
    """All four ways that the API has."""
    assert parse(input=given_input).items == items


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "missing required field `input`"),
        ({"input": ""}, "input 0 is '': give texts that are not empty"),
        ({"input": []}, "0 texts, of 1 to 4 in one request: give one at least"),
        ({"input": ["a"] * 5}, "5 texts, of 1 to 4 in one request: split it"),
        ({"input": ["a", ""]}, "input 1 is ''"),
        ({"input": ["a", 1]}, "input 1 is 1"),
        ({"input": [[1], []]}, "input 1 is []"),
        ({"input": [[1, True]]}, "input 0 is [1, True]"),
        ({"input": [1, "a"]}, "input 0 is [1, 'a']"),
        ({"input": "a", "encoding_format": "hex"}, "Invalid enum value 'hex'"),
        ({"input": "a", "model": 1}, "Expected `str`, got `int`"),
    ],
)
def test_wrong_requests_are_refused(fields: dict[str, Any], said: str) -> None:
    """With the value and the remedy."""
    with pytest.raises(Fault) as caught:
        parse(**fields)
    assert caught.value.status == 400
    assert said in str(caught.value)


def test_vectors_are_numbers_or_base64_of_the_same() -> None:
    """Little-endian float32, as OpenAI's own clients read it."""
    numbers = json.loads(openai.write_answer(parse(input=["a", "b"]), list(VECTORS), model="m", num_tokens=7))
    call = parse(input=["a", "b"], encoding_format="base64")
    packed = json.loads(openai.write_answer(call, list(VECTORS), model="m", num_tokens=7))
    assert [one["embedding"] for one in numbers["data"]] == [[0.1, 0.2], [0.3, -0.4]]
    unpacked = [np.frombuffer(base64.b64decode(one["embedding"]), "<f4") for one in packed["data"]]
    assert np.array_equal(np.stack(unpacked), VECTORS)
    assert numbers["usage"] == {"prompt_tokens": 7, "total_tokens": 7}
    assert [one["index"] for one in numbers["data"]] == [0, 1]


def test_other_dimensions_than_the_models_own_are_refused() -> None:
    """A vector may only be cut if the model was trained for it, which nobody can tell."""
    assert parse(input="a", dimensions=2).check_dimensions(2) is None  # type: ignore[func-returns-value]
    with pytest.raises(Fault, match="dimensions is 1: this model's vectors have 2"):
        parse(input="a", dimensions=1).check_dimensions(2)


@pytest.mark.parametrize("result", [np.zeros((2, 2)), "text", np.array([float("nan")]), 1.0])
def test_what_is_no_finite_vector_is_the_models_fault(result: Any) -> None:
    """It is not sent."""
    with pytest.raises(ModelError, match="not a vector of finite numbers"):
        openai.write_answer(parse(input="a"), [result], model="m", num_tokens=1)


def test_errors_have_openais_shape() -> None:
    """So that its clients raise the right exception."""
    busy = Fault(429, "4,096 items wait", code="QueueFull", retry_after_s=0.2)
    assert busy.headers == [(b"retry-after", b"1"), (b"retry-after-ms", b"200")]
    assert json.loads(openai.write_error(busy).body)["error"] == {
        "message": "4,096 items wait",
        "type": "rate_limit_error",
        "param": None,
        "code": "rate_limit_exceeded",
    }
