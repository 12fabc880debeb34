"""The binary tensor data extension, against Triton's own client: what it writes is read, what we write it reads."""

from __future__ import annotations

import json
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
import tritonclient.http as triton
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tritonclient.http._utils import _get_inference_request
from tritonclient.utils import np_to_triton_dtype

from carpool.errors import ModelError
from carpool.serve import oip
from carpool.serve.datatypes import BF16, BYTES, NUMPY, Array
from carpool.serve.faults import Fault
from carpool.serve.signature import Signature, describe
from tests.serve.fakes import tensor

FREE = Signature()
PAIRS = Signature(inputs=describe([np.zeros(2, np.float32)], name="input"))
IMAGES = Signature(inputs=describe([b"\0"], name="input"))
ROWS = hnp.array_shapes(min_dims=2, max_dims=3, max_side=4)
NUMBERS = [name for name in NUMPY if name not in (BF16, BYTES)]


def sent(*inputs: triton.InferInput, outputs: list[Any] | None = None) -> tuple[bytes, str]:
    """Return the body and the header as Triton's client sends them."""
    body, json_bytes = _get_inference_request(
        inputs=list(inputs), request_id="7", outputs=outputs, sequence_id=0, sequence_start=False, sequence_end=False,
        priority=0, timeout=None, custom_parameters=None,
    )  # fmt: skip
    return body if isinstance(body, bytes) else body.encode(), "" if json_bytes is None else str(json_bytes)


def as_input(array: Array, name: str = "input", datatype: str | None = None, *, binary: bool = True) -> Any:
    """Return an input of Triton's client."""
    given = triton.InferInput(name, list(array.shape), datatype or np_to_triton_dtype(array.dtype))
    return given.set_data_from_numpy(array, binary_data=binary)


def parse(body: bytes, json_bytes: str, signature: Signature = FREE) -> oip.Call:
    """Read a request."""
    return oip.parse_request(body, signature, max_rows=100, json_bytes=json_bytes)


def read_by_triton(results: list[Any], *outputs: Any, signature: Signature = FREE, name: str = "output") -> Array:
    """Write results, and return one output as Triton's client reads the answer."""
    call = parse(*sent(as_input(np.zeros((1, 1))), outputs=list(outputs) or None))
    written = oip.write_answer(call, results, model="m", version="1", output_name="output", signature=signature)
    answer = triton.InferResult.from_response_body(written.body, header_length=written.json_bytes)
    array: Array = answer.as_numpy(name)
    return array


# --------------------------------------------------------------------------------------------------------- requests


@given(array=st.sampled_from(NUMBERS).flatmap(lambda name: hnp.arrays(NUMPY[name], ROWS)))
def test_numbers_that_tritons_client_writes_are_read(array: Array) -> None:
    """Bit for bit, infinities and what is no number too."""
    rows = parse(*sent(as_input(array))).items
    assert (np.stack(rows).tobytes(), len(rows)) == (array.tobytes(), len(array))


@given(bits=hnp.arrays(np.uint16, ROWS))
def test_bfloat16_that_tritons_client_writes_is_read(bits: Array) -> None:
    """As float32, which holds each of its values."""
    array = bits.view(ml_dtypes.bfloat16)
    rows = np.stack(parse(*sent(as_input(array, datatype=BF16))).items)
    assert rows.dtype == np.float32
    assert np.array_equal(rows, array.astype(np.float32), equal_nan=True)


@given(array=hnp.arrays(object, ROWS, elements=st.text(max_size=4)))
def test_texts_that_tritons_client_writes_are_read(array: Array) -> None:
    """Whichever way it sends them."""
    for binary in (True, False):
        rows = parse(*sent(as_input(array, datatype=BYTES, binary=binary))).items
        assert np.array(rows).reshape(array.shape).tolist() == array.tolist()


def test_bytes_reach_a_model_that_takes_bytes_as_they_are() -> None:
    """Zeros and all."""
    images = np.array([[b"\xff\x00"], [b""]], object)
    assert parse(*sent(as_input(images, datatype=BYTES)), IMAGES).items == [b"\xff\x00", b""]


def test_inputs_with_and_without_bytes_come_together() -> None:
    """The bytes of each follow the JSON in the order of the inputs."""
    signature = Signature(inputs=describe([{"a": [1], "b": 0.5, "c": "x"}], name="input"))
    inputs = [
        as_input(np.array([["x"], ["yz"]], object), "c", BYTES),
        as_input(np.array([[1], [2]]), "a", binary=False),
        as_input(np.array([0.5, 1.5]), "b"),
    ]
    assert parse(*sent(*inputs), signature).items == [{"a": [1], "b": 0.5, "c": "x"}, {"a": [2], "b": 1.5, "c": "yz"}]


def test_what_is_not_finite_reaches_the_model_in_bytes() -> None:
    """A model may mean something by it, where JSON could not even say it."""
    (item,) = parse(*sent(as_input(np.array([[np.nan, -np.inf]]))), PAIRS).items
    assert (item.dtype, np.isnan(item[0]), item[1]) == (np.float32, True, -np.inf)


def in_bytes(size: Any, **more: Any) -> dict[str, Any]:
    """Write an input whose values follow the JSON."""
    given = {"name": "input", "shape": [1, 2], "datatype": "FP32", "parameters": {"binary_data_size": size}}
    return {**given, **more}


def wrong(*inputs: dict[str, Any], tail: bytes = bytes(8), json_bytes: str | None = None) -> str:
    """Send a request that must be refused, and return what is said."""
    head = json.dumps({"inputs": inputs}).encode()
    with pytest.raises(Fault) as caught:
        parse(head + tail, str(len(head)) if json_bytes is None else json_bytes)
    assert caught.value.status == 400
    return str(caught.value)


@pytest.mark.parametrize("json_bytes", ["-1", "1.5", "abc", "1e3", "٣", "999999", "9" * 5000, " 4", "+4", "0x10"])
def test_a_header_that_says_no_length_is_refused(json_bytes: str) -> None:
    """Negative, beyond the body, or no number at all."""
    said = wrong(in_bytes(8), json_bytes=json_bytes)
    assert "the header Inference-Header-Content-Length is " in said
    assert "bytes: give how many of them are JSON" in said


@pytest.mark.parametrize(("json_bytes", "said"), [("0", "0 bytes is not JSON"), ("5", "5 bytes is not JSON")])
def test_a_header_that_cuts_the_json_is_refused(json_bytes: str, said: str) -> None:
    """What is left of it is no whole JSON."""
    assert said in wrong(in_bytes(8), json_bytes=json_bytes)


@pytest.mark.parametrize(
    ("inputs", "tail", "said"),
    [
        ([in_bytes(8)], b"", "has binary_data_size 8, and 0 bytes are left for it"),
        ([in_bytes(9)], bytes(8), "has binary_data_size 9, and 8 bytes are left for it"),
        ([in_bytes(-1)], bytes(8), "has binary_data_size -1"),
        ([in_bytes(10**30)], bytes(8), "has binary_data_size beyond all measure"),
        ([in_bytes("8")], bytes(8), "Expected `int | null`"),
        ([in_bytes(8.5)], bytes(8), "Expected `int | null`"),
        ([in_bytes(True)], bytes(8), "Expected `int | null`"),
        ([in_bytes(4)], bytes(8), "has 4 bytes of FP32, and its shape means 8 bytes"),
        ([in_bytes(8)], bytes(9), "the body has 1 byte behind its JSON that are no input's"),
        ([tensor([1, 2], shape=[1, 2])], bytes(3), "the body has 3 bytes behind its JSON"),
        ([in_bytes(8, data=[1, 2])], bytes(8), "has both binary_data_size and data: leave one out"),
        ([in_bytes(8), in_bytes(8)], bytes(16), "this model takes one"),
        ([in_bytes(8, shape=[1, 1 << 40])], bytes(8), "its shape means 4,398,046,511,104 bytes"),
        ([in_bytes(8, shape=[1 << 40] * 8)], bytes(8), "values that a tensor can have"),
        ([in_bytes(0, shape=[0, 2])], b"", "has 0 rows, of 1 to 100"),
        ([in_bytes(0, shape=[1 << 40, 0])], b"", "has 1099511627776 rows, of 1 to 100"),
        ([in_bytes(8, datatype="BYTES", shape=[1])], b"\xff\xff\xff\x7fabcd", "2,147,483,647 bytes announced"),
        ([in_bytes(5, datatype="BYTES", shape=[1])], b"\1\0\0\0\xff", "which is not UTF-8: this model takes texts"),
        ([in_bytes(1, datatype="BOOL", shape=[1])], b"\2", "is BOOL, and byte 0 of its data is 2"),
    ],
)
def test_bytes_that_do_not_fit_what_is_said_of_them_are_refused(
    inputs: list[dict[str, Any]], tail: bytes, said: str
) -> None:
    """Nothing of it is the server's failure, and nothing is made room for first."""
    assert said in wrong(*inputs, tail=tail)


def test_bytes_that_no_header_announced_are_asked_for() -> None:
    """The whole body is JSON then."""
    said = wrong(in_bytes(8), tail=b"", json_bytes="")
    assert "say by the header Inference-Header-Content-Length how much of the body is JSON" in said


def test_an_infinity_is_let_through_and_a_number_that_becomes_one_is_not() -> None:
    """Where a model takes narrower floats than were sent."""
    with pytest.raises(Fault, match="holds 1e\\+300"):
        parse(*sent(as_input(np.array([[1e300, np.inf]]))), PAIRS)


# ---------------------------------------------------------------------------------------------------------- answers


@given(array=st.sampled_from(NUMBERS).flatmap(lambda name: hnp.arrays(NUMPY[name], ROWS)))
def test_tritons_client_reads_numbers_bit_for_bit(array: Array) -> None:
    """What JSON can't say too."""
    again = read_by_triton(list(array), triton.InferRequestedOutput("output", binary_data=True))
    assert (again.dtype, again.shape, again.tobytes()) == (array.dtype, array.shape, array.tobytes())


@given(array=hnp.arrays(object, ROWS, elements=st.binary(min_size=1, max_size=4)))
def test_tritons_client_reads_bytes(array: Array) -> None:
    """Of any value."""
    again = read_by_triton(array.tolist(), triton.InferRequestedOutput("output", binary_data=True))
    assert again.tolist() == array.tolist()


@given(array=hnp.arrays(np.float32, ROWS, elements=st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_tritons_client_reads_json_as_well(array: Array) -> None:
    """The digits bring every number back."""
    again = read_by_triton(list(array), triton.InferRequestedOutput("output", binary_data=False))
    assert np.array_equal(again, array)


def test_tritons_client_reads_bfloat16() -> None:
    """Where results are of PyTorch's own type."""
    rows = list(torch.tensor([[1.5, -2.0], [3.0, 1e38]], dtype=torch.bfloat16))
    declared = Signature(outputs=describe(rows, name="output"))
    again = read_by_triton(rows, triton.InferRequestedOutput("output"), signature=declared)
    assert again.dtype == ml_dtypes.bfloat16
    assert again.astype(np.float32).tolist() == [row.tolist() for row in rows]


def test_all_outputs_are_bytes_where_the_request_says_so() -> None:
    """Unless one of them says otherwise for itself."""
    request = {
        "inputs": [tensor([1], shape=[1])],
        "parameters": {"binary_data_output": True},
        "outputs": [{"name": "a"}, {"name": "b", "parameters": {"binary_data": False}}],
    }
    call = parse(json.dumps(request).encode(), "")
    results = [{"a": 1.0, "b": 2.0}]
    written = oip.write_answer(call, results, model="m", version="1", output_name="output", signature=FREE)
    head = json.loads(written.body[: written.json_bytes])
    assert head["outputs"][0]["parameters"] == {"binary_data_size": 8}
    assert head["outputs"][1]["data"] == [2.0]
    assert written.body[written.json_bytes :] == np.float64(1).tobytes()


def test_tritons_client_reads_classes() -> None:
    """The largest first, with their positions."""
    wanted = triton.InferRequestedOutput("output", class_count=2)
    again = read_by_triton([np.array([0.1, 0.7, 0.2], np.float32)], wanted)
    assert again.tolist() == [[b"0.700000:1", b"0.200000:2"]]


def test_classes_of_texts_are_refused() -> None:
    """There is nothing to order them by."""
    with pytest.raises(Fault, match="classes can be told of numbers only"):
        read_by_triton(["a"], triton.InferRequestedOutput("output", class_count=2))


def test_texts_that_are_no_unicode_are_the_models_fault() -> None:
    """Half a pair of surrogates can't be written, in bytes or in JSON."""
    for binary in (True, False):
        with pytest.raises(ModelError, match="which is no Unicode"):
            read_by_triton(["\ud800"], triton.InferRequestedOutput("output", binary_data=binary))
