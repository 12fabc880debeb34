"""Plain JSON: what a model takes is read straight into it, and everything else is refused."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from carpool.errors import ModelError
from carpool.serve.datatypes import NUMPY
from carpool.serve.faults import Fault
from carpool.serve.predict import PlainCodec, write_plain
from carpool.serve.signature import Signature, describe


def codec(*examples: Any, **more: Any) -> PlainCodec:
    """Return the codec of a model that takes items like these; without any, of one that has not said."""
    return PlainCodec(Signature(inputs=describe(examples, name="input") if examples else None), **more)


def read(document: Any, *examples: Any, **more: Any) -> list[Any]:
    """Read a request for a model that takes items like these."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return codec(*examples, **more).read(body, max_rows=4)[0]


def refusal(document: Any, *examples: Any) -> str:
    """Send a request that must be refused, and return what is said."""
    with pytest.raises(Fault) as caught:
        read(document, *examples)
    assert caught.value.status == 400
    return str(caught.value)


@pytest.mark.parametrize(
    "item",
    [
        "a text",
        1.5,
        7,
        True,
        [1.5, 2.5],
        [1, 2, 3],
        ["a", "b"],
        [[1, 2], [3, 4]],
        {"ids": [1, 2], "scale": 0.5, "label": "x"},
        {"in put": 1},
        ([1.0, 2.0], "x"),
    ],
)
def test_items_of_plain_python_come_as_they_were_sent(item: Any) -> None:
    """One, and several."""
    assert read({"input": item}, item) == [item]
    assert codec(item).read(json.dumps({"inputs": [item, item]}).encode(), max_rows=4) == ([item, item], True)


@pytest.mark.parametrize("datatype", [name for name in NUMPY if name not in ("BYTES", "BF16")])
@given(data=st.data())
def test_arrays_come_as_arrays_of_the_models_own_type(datatype: str, data: st.DataObject) -> None:
    """Every number of every datatype, of one dimension and of two."""
    dtype = NUMPY[datatype]
    finite = {"allow_nan": False, "allow_infinity": False} if dtype.kind == "f" else None
    array = data.draw(hnp.arrays(dtype, hnp.array_shapes(max_dims=2, max_side=3), elements=finite))
    (item,) = read({"input": array.tolist()}, array)
    assert (item.dtype, item.shape, item.tolist()) == (array.dtype, array.shape, array.tolist())
    assert item.flags.writeable


def test_rows_may_differ_where_the_examples_do() -> None:
    """Then no size is held against them."""
    examples = [np.zeros(2, np.float32), np.zeros(3, np.float32)]
    assert [item.tolist() for item in read({"inputs": [[1], [1, 2, 3, 4]]}, *examples)] == [[1], [1, 2, 3, 4]]


def test_tensors_come_as_tensors() -> None:
    """Of PyTorch's own type, where its examples were."""
    for example in (torch.zeros(2), torch.zeros(2, dtype=torch.bfloat16), torch.zeros(1, 2, dtype=torch.int32)):
        (item,) = read({"input": example.tolist()}, example)
        assert (item.dtype, item.shape) == (example.dtype, example.shape)


def test_arrays_inside_dicts_and_tuples_are_arrays() -> None:
    """Beside what is plain."""
    (item,) = read({"input": {"a": [1, 2], "b": "x"}}, {"a": np.zeros(2, np.int8), "b": "y"})
    assert (item["a"].dtype, item["a"].tolist(), item["b"]) == (np.int8, [1, 2], "x")
    (pair,) = read({"input": [[1, 2], 3]}, (np.zeros(2, np.int8), 1))
    assert (pair[0].dtype, pair[1]) == (np.int8, 3)


def test_bytes_come_as_base64() -> None:
    """The way of JSON to send an image."""
    assert read({"input": "/wA="}, b"\0") == [b"\xff\x00"]
    assert "base64" in refusal({"input": "%%%"}, b"\0")


def test_a_model_that_has_not_said_what_it_takes_gets_what_was_sent() -> None:
    """Any JSON."""
    for item in (None, {"a": [1, {"b": None}]}, "x", [1, "a"]):
        assert read({"input": item}) == [item]


def test_an_encoder_takes_token_ids_for_a_text() -> None:
    """As it does everywhere else."""
    assert read({"inputs": ["a", [5, 6]]}, "text", takes_token_ids=True) == ["a", [5, 6]]


VECTOR = np.zeros(2, np.float32)


@pytest.mark.parametrize(
    ("document", "example", "said"),
    [
        (b"", VECTOR, "the body of 0 bytes is not JSON"),
        (b'{"input": [1, NaN]}', VECTOR, "is not JSON"),
        (b'{"input": [1, 1e999]}', VECTOR, "out of range"),
        (b'{"input": ' + b"[" * 100_000, None, "nested too deep"),
        ([1, 2], VECTOR, "Expected `object`, got `array`"),
        ({}, VECTOR, 'must have either "input", one item, or "inputs", a list of items'),
        ({"input": [1, 2], "inputs": [[1, 2]]}, VECTOR, "must have either"),
        ({"items": [[1, 2]]}, VECTOR, "unknown field `items`"),
        ({"inputs": []}, VECTOR, "inputs has 0 items, of 1 to 4 in one request"),
        ({"inputs": []}, VECTOR, "inputs has 0 items, of 1 to 4 in one request: give one at least"),
        ({"inputs": [[1, 2]] * 5}, VECTOR, "inputs has 5 items, of 1 to 4 in one request: split it"),
        ({"input": [1]}, VECTOR, "Expected `array` of length >= 2 - at `$.input`"),
        ({"inputs": [[1, 2], [1, 2, 3]]}, VECTOR, "length <= 2 - at `$.inputs[1]`"),
        ({"input": [1, "2"]}, VECTOR, "Expected `float`, got `str` - at `$.input[1]`"),
        ({"input": [1, True]}, VECTOR, "Expected `float`, got `bool`"),
        ({"input": None}, VECTOR, "got `null`"),
        ({"input": [1, 1e300]}, VECTOR, "holds a number beyond what FP32 can be"),
        ({"inputs": [[1, 1], [1, 1e300]]}, VECTOR, "item 1 of 2: the input 'input' holds a number beyond"),
        ({"input": [1, 300]}, np.zeros(2, np.int8), "holds a number beyond what INT8 can be"),
        ({"input": [1, -1]}, np.zeros(2, np.uint64), "holds a number beyond what UINT64 can be"),
        ({"input": [[1, 300]]}, np.zeros((1, 2), np.int8), "holds a number beyond what INT8 can be"),
        ({"input": [[1.0, 1e300]]}, np.zeros((1, 2), np.float32), "holds 1e+300: float32 goes up to"),
        ({"input": [1.5, 2]}, np.zeros(2, np.int8), "Expected `int`, got `float`"),
        ({"input": 2**70}, 1, "Expected `int`"),
        ({"input": 5}, "text", "Expected `str`, got `int`"),
        ({"input": {"a": 1}}, {"a": 1, "b": 2}, "missing required field `b`"),
        ({"input": [[1.0]]}, ([1.0], "x"), "length 2"),
    ],
)
def test_what_the_model_does_not_take_is_refused(document: Any, example: Any, said: str) -> None:
    """The message says where and what is expected instead."""
    assert said in refusal(document, *(() if example is None else (example,)))


def test_ragged_lists_are_refused() -> None:
    """Where the sizes are open, they still must make an array."""
    examples = [np.zeros((1, 2)), np.zeros((2, 1))]
    assert "lists of different lengths: pad them" in refusal({"input": [[1], [1, 2]]}, *examples)


@pytest.mark.parametrize(
    ("result", "written"),
    [
        (np.array([0.5, 2], np.float32), [0.5, 2]),
        (np.float32(0.5), 0.5),
        (torch.tensor([[1, 2]]), [[1, 2]]),
        (torch.tensor([1.5], dtype=torch.bfloat16), [1.5]),
        ({"label": "cat", "score": np.float64(0.25)}, {"label": "cat", "score": 0.25}),
        ((1, "a"), [1, "a"]),
        (b"\xff\x00", "/wA="),
        ([float("nan"), np.inf], [None, None]),
        (None, None),
    ],
)
def test_results_are_written_as_json_says_them_best(result: Any, written: Any) -> None:
    """Alone, and in a list."""
    assert json.loads(write_plain([result], many=False)) == {"output": written}
    assert json.loads(write_plain([result, result], many=True)) == {"outputs": [written, written]}


@given(hnp.arrays(np.float32, 4, elements=st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_the_digits_bring_every_number_back(array: np.ndarray) -> None:
    """And to the very bits."""
    again = np.array(msgspec.json.decode(write_plain([array], many=False))["output"], np.float32)
    assert again.tobytes() == array.tobytes()


def test_a_number_of_few_bits_is_written_in_few_digits() -> None:
    """Wherever it stands; the other half of a float64's digits would say nothing."""
    few = np.array([-0.009782956913113594, 0.1, np.inf, 1e-7] * 3, np.float32)
    for result in (few, torch.from_numpy(few), list(few), {"a": few}):
        written = write_plain([result], many=False)
        assert b"[-0.009782957,0.1,null,1e-7,-0.009782957," in written
    assert write_plain([few[0], few[:2].astype(np.float16)], many=True) == b'{"outputs":[-0.009782957,[-0.00978,0.1]]}'


def test_a_result_that_json_has_no_word_for_is_the_models_fault() -> None:
    """The message says what it was."""
    for result in (object(), np.array([1j]), [{1: object()}]):
        with pytest.raises(ModelError, match="the result can't be sent"):
            write_plain([result], many=False)


@pytest.mark.parametrize(
    ("result", "said"),
    [
        ({(1, 2): 3}, "a dict with (1, 2) for a key"),
        ({None: 3}, "a dict with None for a key"),
        ([{True: 3}], "a dict with True for a key"),
        ({np.bool_(True): 3}, "a dict with True for a key"),
        ("\ud83d", "it holds '\\ud83d', which is no Unicode"),
        (object(), "an object"),
    ],
)
def test_what_json_has_no_word_for_is_named(result: Any, said: str) -> None:
    """With its row, where there are several."""
    with pytest.raises(ModelError) as alone:
        write_plain([result], many=False)
    assert str(alone.value).startswith(f"the result can't be sent ({said})")
    with pytest.raises(ModelError) as second:
        write_plain([1, result], many=True)
    assert str(second.value).startswith(f"the result of row 1 can't be sent ({said})")


def test_a_result_that_holds_itself_is_named() -> None:
    """As it can't be written to its end."""
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(ModelError, match="nested too deeply, or holds itself"):
        write_plain([endless], many=False)
