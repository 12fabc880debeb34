"""Inference requests over gRPC, read from messages of every kind: a call or a clear refusal, never anything else."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from carpool.errors import CarpoolError
from carpool.serve.faults import Fault
from carpool.serve.grpc.calls import Inference
from carpool.serve.grpc.infer import InferCall, read_request, write_answer
from carpool.serve.grpc.messages import InferParameter, InferTensorContents, ModelInferRequest
from carpool.serve.signature import Signature, describe

PAIRS = Signature(
    inputs=describe([np.zeros(2, np.float32)], name="input"), outputs=describe([np.zeros(2, np.float32)], name="output")
)


def read_or_refused(request: ModelInferRequest, signature: Signature = PAIRS) -> InferCall | Fault:
    """Read a request and what its parameters mean; give the refusal in its place where it can't be."""
    try:
        call = read_request(request, signature, max_rows=8)
        _ = call.parameters.item_priority, call.parameters.timeout_s
    except Fault as refused:
        return refused
    return call


def test_a_stream_says_what_was_wrong_even_where_that_was_a_fault_of_ours(caplog: pytest.LogCaptureFixture) -> None:
    """The client is told that the log says more, and the log does."""
    broken = SimpleNamespace(named=lambda *_: 1 / 0)
    inference = Inference(cast("Any", broken), cast("Any", None))
    answer = asyncio.run(inference._answer_one(raw_request(bytes(8)).SerializeToString(), cast("Any", None)))
    assert answer.error_message == "the server failed unexpectedly: its log says how"
    assert "ZeroDivisionError" in caplog.text


# ------------------------------------------------------------------------------------------------- what is refused


def raw_request(content: bytes, *, datatype: str = "FP32", shape: tuple[int, ...] = (1, 2)) -> ModelInferRequest:
    """Write a request of one input."""
    request = ModelInferRequest(model_name="m", raw_input_contents=[content])
    request.inputs.add(name="input", datatype=datatype, shape=shape)
    return request


def with_both() -> ModelInferRequest:
    """Write an input in both ways."""
    request = raw_request(bytes(8))
    request.inputs[0].contents.fp32_contents.extend([1, 2])
    return request


def with_region() -> ModelInferRequest:
    """Write an input that lies in shared memory."""
    request = raw_request(bytes(8))
    request.inputs[0].parameters["shared_memory_region"].string_param = "mine"
    return request


def with_parameter(name: str, **value: Any) -> ModelInferRequest:
    """Write a request with a parameter."""
    request = raw_request(bytes(8))
    request.parameters[name].CopyFrom(InferParameter(**value))
    return request


def with_output(name: str, **parameters: InferParameter) -> ModelInferRequest:
    """Write a request that asks for an output."""
    request = raw_request(bytes(8))
    request.outputs.add(name=name, parameters=parameters)
    return request


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (raw_request(bytes(7)), "has 7 bytes of FP32, and its shape means 8 bytes"),
        (raw_request(b"\x05\0\0\0ab", datatype="BYTES", shape=(1, 1)), "has the shape [1, 1]|5 bytes announced"),
        (raw_request(bytes(8), datatype="FP31"), "has the datatype 'FP31': use one of BOOL"),
        (raw_request(bytes(16), datatype="INT64"), "ok"),
        (raw_request(bytes(2), datatype="BOOL"), "ok"),
        (raw_request(b"", shape=(0, 2)), "has 0 rows"),
        (raw_request(bytes(8 * 9), shape=(9, 2)), "has 9 rows, of 1 to 8"),
        (with_both(), "contents of its own beside raw_input_contents"),
        (with_region(), "shared memory, which this server never opens"),
        (ModelInferRequest(model_name="m"), "the request has 0 inputs"),
        (ModelInferRequest(raw_input_contents=[b"a"]), "the request has 0 inputs"),
        (with_parameter("priority", string_param="high"), "parameters are not what this request takes"),
        (with_parameter("priority", int64_param=10**7), "the priority must be from -1,000,000"),
        (with_parameter("priority", uint64_param=2**63), "the priority must be from"),
        (with_parameter("timeout", int64_param=-1), "the timeout is -1 us"),
        (with_parameter("sequence_id", int64_param=7), "no state is kept"),
        (with_output("other"), "the output 'other' was asked for: this model gives output"),
        (with_output("output", classification=InferParameter(string_param="x")), "are not what it takes"),
        (with_output("output", shared_memory_region=InferParameter(string_param="mine")), "shared memory"),
    ],
)
def test_a_request_that_can_t_be_is_refused_in_words(request_: ModelInferRequest, message: str) -> None:
    """The value, the limit and the remedy; what can be made to fit is taken."""
    read = read_or_refused(request_)
    if isinstance(read, Fault):
        assert read.status == 400
        assert any(part in str(read) for part in message.split("|"))
    else:
        assert message == "ok"


# ------------------------------------------------------------------------------------------------------- what goes out


def answered(request: ModelInferRequest, results: list[Any], signature: Signature = PAIRS) -> Any:
    """Answer a request with results."""
    call = read_request(request, signature, max_rows=8)
    return write_answer(call, results, model="m", version="3", output_name="output", signature=signature)


def test_classes_are_told_where_they_are_asked_for() -> None:
    """As texts of the value and its position, the largest first."""
    request = with_output("output", classification=InferParameter(int64_param=1))
    answer = answered(request, [np.array([0.25, 0.5], np.float32)])
    assert (answer.outputs[0].datatype, list(answer.outputs[0].shape)) == ("BYTES", [1, 1])
    assert answer.raw_output_contents[0] == b"\x0a\0\0\x000.500000:1"


def test_what_has_no_typed_contents_goes_raw_even_to_who_sent_typed() -> None:
    """FP16 has no field of its own."""
    request = ModelInferRequest(model_name="m")
    request.inputs.add(name="input", datatype="FP32", shape=[1, 2], contents=InferTensorContents(fp32_contents=[1, 2]))
    answer = answered(request, [np.array([1, 2], np.float16)], Signature(inputs=PAIRS.inputs))
    assert (answer.outputs[0].datatype, answer.raw_output_contents[0]) == ("FP16", bytes.fromhex("003c0040"))


def test_results_that_make_no_tensor_fail_the_request() -> None:
    """With the model's error."""
    with pytest.raises(CarpoolError, match="make no tensor"):
        answered(raw_request(bytes(16), shape=(2, 2)), [np.zeros(1), np.zeros(2)], Signature(inputs=PAIRS.inputs))
