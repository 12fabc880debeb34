"""The Open Inference Protocol with JSON alone, without a network: every way to get it wrong, and the round trip."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from carpool.errors import ModelError
from carpool.serve import oip
from carpool.serve.datatypes import NUMPY
from carpool.serve.faults import Fault
from carpool.serve.json_tensors import read_json, write_json
from carpool.serve.signature import Signature, describe
from carpool.serve.tensors import Tensor, to_items, to_tensors
from tests.serve.fakes import request, tensor

FREE = Signature()
PAIRS = Signature(inputs=describe([np.zeros(2, np.float32)], name="input"))
TEXTS = Signature(inputs=describe(["a"], name="text"), outputs=describe([np.zeros(3, np.float32)], name="embedding"))
MANY = Signature(inputs=describe([{"ids": [1, 2], "scale": 0.5}], name="input"))


def parse(document: Any, signature: Signature = FREE, max_rows: int = 100) -> oip.Call:
    """Parse a request given as bytes or as plain data."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return oip.parse_request(body, signature, max_rows=max_rows)


def refusal(document: Any, signature: Signature = FREE) -> str:
    """Parse a request that must be refused, and return what is said."""
    with pytest.raises(Fault) as caught:
        parse(document, signature)
    assert caught.value.status == 400
    return str(caught.value)


def test_flat_and_nested_data_are_the_same() -> None:
    """Both are row-major."""
    flat = parse(request([1, 2, 3, 4], shape=[2, 2]), PAIRS).items
    nested = parse(request([[1, 2], [3, 4]], shape=[2, 2]), PAIRS).items
    assert [item.tolist() for item in flat] == [item.tolist() for item in nested] == [[1, 2], [3, 4]]
    assert flat[0].dtype == np.float32


def test_texts_come_as_strings_whichever_shape() -> None:
    """A column of one and a flat list both mean one text a row."""
    for shape in ([2], [2, 1]):
        document = {"inputs": [tensor(["a", "b"], shape=shape, datatype="BYTES", name="text")]}
        assert parse(document, TEXTS).items == ["a", "b"]


def test_several_inputs_become_dicts() -> None:
    """By name, in any order."""
    ids = tensor([1, 2, 3, 4], shape=[2, 2], datatype="INT64", name="ids")
    scale = tensor([0.5, 1], shape=[2, 1], datatype="FP64", name="scale")
    assert parse({"inputs": [scale, ids]}, MANY).items == [
        {"ids": [1, 2], "scale": 0.5},
        {"ids": [3, 4], "scale": 1.0},
    ]


def test_what_the_client_asks_for_is_read() -> None:
    """Its name for the request, priority, time and outputs; what means nothing here is let pass."""
    call = parse(
        request(
            [1, 2], shape=[1, 2], id="7", parameters={"priority": 3, "timeout": 5000, "x": [1]}, outputs=[{"name": "o"}]
        )
    )
    assert (call.id, call.priority, call.timeout_s, call.binary) == ("7", -1, 0.005, False)
    assert [output.name for output in call.wanted] == ["o"]


@pytest.mark.parametrize(
    ("data", "datatype", "meant"),
    [([1.0, -2], "INT64", [1, -2]), ([2.0, 3], "UINT8", [2, 3]), ([1.0, 0], "BOOL", [True, False])],
)
def test_clients_that_write_every_number_as_a_float_are_understood(
    data: list[float], datatype: str, meant: list[int]
) -> None:
    """PyPI's open-inference-openapi is one."""
    (row,) = parse(request(data, shape=[1, 2], datatype=datatype)).items
    assert row.tolist() == meant


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (b"", "the body of 0 bytes is not JSON"),
        (b'{"inputs": [', "is not JSON (Input data was truncated)"),
        (b'{"inputs": NaN}', "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b'{"inputs":[{"name":"\xff"}]}', "is not JSON"),
        (b'{"inputs":[{"name":"a","shape":[1],"datatype":"FP32","data":' + b"[" * 100_000, "nested too deep"),
        (b"[" * 100_000, "is JSON, but not this request"),
        ([], "is JSON, but not this request"),
        ({}, "missing required field `inputs`"),
        ({"inputs": []}, "0 inputs"),
        ({"inputs": [{"name": "a"}]}, "missing required field"),
        (request([1], shape=[]), "the shape []: give 1 to 32 sizes"),
        (request([1], shape=[1] * 33), "give 1 to 32 sizes"),
        (request([1], shape=[-1]), "the shape [-1]"),
        (b'{"inputs":[{"name":"a","shape":[1.5],"datatype":"FP32","data":[1]}]}', "Expected `int`, got `float`"),
        (request([1], shape=[10**4000]), "sizes from 0 to"),
        (request([], shape=[10**12, 0]), "rows, of 1 to 100 that one request may have: split it"),
        (request([], shape=[0]), "0 rows"),
        (request([1, 2], shape=[1, 10**12]), "2 values, and its shape [1, 1000000000000] means 1000000000000"),
        (request([1, 2, 3], shape=[2, 2]), "has 3 values, and its shape [2, 2] means 4: make them agree"),
        (request([[1, 2], [3]], shape=[2, 2]), "not nested as its shape [2, 2] says"),
        (request([[1, 2], 3], shape=[2, 2]), "not nested as its shape"),
        (request([[[1, 2]]], shape=[1, 2]), "not nested as its shape"),
        (request("abc", shape=[3]), "has 'abc' for data: give a list"),
        (request([1], shape=[1], datatype="FP8"), "the datatype 'FP8': use one of BOOL"),
        (request([True], shape=[1]), "value 0 of its data is True: give numbers"),
        (request([1, "2"], shape=[2]), "value 1 of its data is '2'"),
        (request([1.5], shape=[1], datatype="INT8"), "give whole numbers"),
        (request([2], shape=[1], datatype="BOOL"), "give true or false"),
        (request([None], shape=[1], datatype="BYTES"), "give strings"),
        (request([1, 200], shape=[2], datatype="INT8"), "holds 200: INT8 goes from -128 to 127"),
        (request([-1], shape=[1], datatype="UINT64"), "holds -1: UINT64 goes from 0"),
        (request([10**400], shape=[1], datatype="INT64"), "INT64 goes from"),
        (request([10**400], shape=[1]), "beyond what FP32 can be"),
        (request([1e300], shape=[1]), "holds 1e+300: float32 goes up to 3.40282e+38"),
        (request([1], shape=[1], parameters={"timeout": -1}), "the timeout is -1 us: give microseconds above 0"),
        (request([1], shape=[1], parameters={"timeout": "1"}), "Expected `int`, got `str`"),
        (
            request([1], shape=[1], parameters={"priority": 10**300}),
            "must be from -1,000,000 to 1,000,000",
        ),
        (request([1], shape=[1], parameters={"priority": -1000001}), "1 goes before the usual 2"),
        (request([1], shape=[1], parameters={"sequence_id": 7}), "no state is kept from one request to the next"),
        (request([1], shape=[1], parameters={"sequence_id": "a"}), "no state is kept"),
        (request([1], shape=[1], outputs=[{"name": "o"}] * 2), "'o' was asked for twice"),
        (request([1], shape=[1], outputs=[{"name": "o", "parameters": {"classification": -1}}]), "is below 0"),
        (
            request([1], shape=[1], outputs=[{"name": "o", "parameters": {"shared_memory_region": "r"}}]),
            "the output 'o' is to go through shared memory, which this server never opens",
        ),
        (
            {"inputs": [{**tensor([1], shape=[1]), "parameters": {"shared_memory_region": "r"}}]},
            "the input 'input' is to go through shared memory",
        ),
        ({"inputs": [{"name": "a", "shape": [1], "datatype": "FP32"}]}, "the input 'a' has None for data"),
        (request([1], shape=[1, 1 << 40, 1 << 40, 0]), "more than the 576,460,752,303,423,488 values"),
        (b'{"inputs":[{"name":"a","shape":[1],"datatype":"FP32","data":[NaN]}]}', "is not JSON"),
        (b'{"inputs":[{"name":"a","shape":[1],"datatype":"FP32","data":[Infinity]}]}', "is not JSON"),
        (b'{"inputs":[{"name":"a","shape":[1],"datatype":"FP64","data":[1e999]}]}', "Number out of range"),
        ({"inputs": [tensor([1], shape=[1]), tensor([1, 2], shape=[2], name="b")]}, "different numbers of rows"),
        ({"inputs": [tensor([1], shape=[1]), tensor([1], shape=[1], name="b")]}, "this model takes one"),
    ],
)
def test_wrong_requests_are_refused_with_the_value_and_the_remedy(document: Any, said: str) -> None:
    """Nothing that a client sends is the server's failure."""
    assert said in refusal(document)


@pytest.mark.parametrize(
    ("document", "signature", "said"),
    [
        (request([1, 2, 3], shape=[1, 3]), PAIRS, "the shape [1, 3]: [-1, 2] is expected"),
        (request([1, 2], shape=[2]), PAIRS, "[-1, 2] is expected"),
        (request(["a", "b"], shape=[1, 2], datatype="BYTES"), PAIRS, "is BYTES: FP32 is expected"),
        (request([1e300, 1], shape=[1, 2], datatype="FP64"), PAIRS, "holds 1e+300"),
        ({"inputs": [tensor([1, 2], shape=[1, 2], name="x")]}, PAIRS, "the inputs are 'x': this model takes 'input'"),
        ({"inputs": [tensor([1, 2], shape=[1, 2])] * 2}, PAIRS, "this model takes 'input'"),
        ({"inputs": [tensor([1], shape=[1], datatype="INT64", name="ids")]}, MANY, "takes 'ids', 'scale'"),
        (
            {"inputs": [tensor(["a"], shape=[1], datatype="BYTES", name="text")], "outputs": [{"name": "x"}]},
            TEXTS,
            "the output 'x' was asked for: this model gives embedding",
        ),
    ],
)
def test_what_the_model_does_not_take_is_refused(document: Any, signature: Signature, said: str) -> None:
    """The message says what is expected instead."""
    assert said in refusal(document, signature)


def test_numbers_are_widened_to_what_the_model_takes() -> None:
    """Whole numbers are fine where floats are meant."""
    (item,) = parse(request([1, 2], shape=[1, 2], datatype="INT8"), PAIRS).items
    assert item.dtype == np.float32


@pytest.mark.parametrize("datatype", [name for name in NUMPY if name not in ("BF16", "BYTES")])
@given(data=st.data())
@settings(max_examples=20)
def test_a_tensor_written_and_read_is_the_same(datatype: str, data: st.DataObject) -> None:
    """Every number of every datatype survives JSON both ways."""
    dtype = NUMPY[datatype]
    finite = {"allow_nan": False, "allow_infinity": False} if dtype.kind == "f" else None
    shape = data.draw(hnp.array_shapes(min_dims=2, max_dims=3, max_side=4))
    array = data.draw(hnp.arrays(dtype, shape, elements=finite))
    (written,) = to_tensors(list(array), name="x", declared=None)
    assert written.datatype == datatype
    values = json.loads(json.dumps(write_json(written)))
    again = Tensor("x", datatype, read_json(datatype, list(shape), values, name="x"))
    assert np.array_equal(np.stack(to_items([again], None, max_rows=10)), array)


def answer(results: list[Any], signature: Signature = FREE, wanted: tuple[str, ...] = ()) -> Any:
    """Write an answer and read it back."""
    call = parse(request([1], shape=[1], id="7", outputs=[{"name": name} for name in wanted]))
    written = oip.write_answer(call, results, model="m", version="3", output_name="output", signature=signature)
    assert written.json_bytes is None
    return json.loads(written.body)


def test_an_answer_names_model_request_and_outputs() -> None:
    """As the protocol says."""
    assert answer([1, 2]) == {
        "model_name": "m",
        "model_version": "3",
        "id": "7",
        "outputs": [{"name": "output", "shape": [2, 1], "datatype": "INT64", "data": [1, 2]}],
    }


def test_results_by_name_are_outputs_of_which_a_client_may_choose() -> None:
    """In the order asked for."""
    results = [{"label": "cat", "score": 0.5}, {"label": "dog", "score": 1.0}]
    outputs = answer(results, wanted=("score",))["outputs"]
    assert outputs == [{"name": "score", "shape": [2, 1], "datatype": "FP64", "data": [0.5, 1.0]}]


def test_results_that_are_no_tensors_are_documents() -> None:
    """Lists of findings of any number come as JSON in strings."""
    (output,) = answer([[{"from": 1}], []])["outputs"]
    assert (output["datatype"], output["shape"]) == ("BYTES", [2, 1])
    assert [json.loads(text) for text in output["data"]] == [[{"from": 1}], []]


def test_the_datatype_is_the_one_declared() -> None:
    """A whole number among floats does not change what clients were told."""
    signature = Signature(outputs=describe([0.5], name="output"))
    assert answer([1], signature)["outputs"][0]["datatype"] == "FP64"


def test_bytes_are_texts_where_json_can_say_them() -> None:
    """A model may give either."""
    assert answer([b"a", b"\xc3\xa9"])["outputs"][0]["data"] == ["a", "é"]
    assert answer([np.array(["a", "b"], object)])["outputs"][0]["data"] == ["a", "b"]


def test_a_model_that_takes_bytes_gets_bytes() -> None:
    """The texts of JSON as UTF-8."""
    signature = Signature(inputs=describe([b"\xff", b""], name="image"))
    document = {"inputs": [tensor(["é"], shape=[1, 1], datatype="BYTES", name="image")]}
    assert parse(document, signature).items == ["é".encode()]


def test_an_input_in_bfloat16_is_what_the_model_takes_it_as() -> None:
    """As PyTorch's own type where its examples were of it."""
    signature = Signature(inputs=describe([torch.zeros(2, dtype=torch.bfloat16)], name="input"))
    assert signature.inputs is not None
    assert signature.inputs.fields[0].datatype == "BF16"
    (item,) = parse(request([1.5, 2], shape=[1, 2], datatype="FP32"), signature).items
    assert item.dtype == torch.bfloat16
    declared = describe([item], name="output")
    (written,) = answer([2 * item], Signature(outputs=declared))["outputs"]
    assert (written["datatype"], written["data"]) == ("BF16", [3, 4])


def test_the_largest_values_are_told_with_their_positions() -> None:
    """As many as asked for, or as there are."""
    call = parse(request([1], shape=[1], outputs=[{"name": "output", "parameters": {"classification": 2}}]))
    results = [np.array([0.1, 0.7, 0.2], np.float32), np.array([3, 1, 2], np.float32)]
    written = oip.write_answer(call, results, model="m", version="1", output_name="output", signature=FREE)
    (output,) = json.loads(written.body)["outputs"]
    assert (output["datatype"], output["shape"]) == ("BYTES", [2, 2])
    assert output["data"] == ["0.700000:1", "0.200000:2", "3.000000:0", "2.000000:2"]


@pytest.mark.parametrize(
    ("results", "said"),
    [
        ([np.zeros(2), np.zeros(3)], "row 1 has the shape [3] and that of row 0 [2]"),
        ([1.0, float("nan")], "'output' of row 1 is not finite"),
        ([{"a": 1}, {"b": 1}], "row 1 gave ['b'] and row 0 ['a']"),
        ([object()], "can't be sent"),
        ([b"\xff"], "'output' holds bytes that are not UTF-8, which JSON can't say: ask for it with binary_data"),
    ],
)
def test_results_that_make_no_answer_are_the_models_fault(results: list[Any], said: str) -> None:
    """Nothing invalid is sent in their place."""
    with pytest.raises(ModelError) as caught:
        answer(results)
    assert said in str(caught.value)
