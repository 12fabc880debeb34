"""Whatever is sent over gRPC, it is read or refused: nothing but `INVALID_ARGUMENT` ever comes of it."""

from __future__ import annotations

import asyncio

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from carpool.serve.datatypes import NUMPY
from carpool.serve.faults import Fault
from carpool.serve.grpc.infer import InferCall, read_request
from carpool.serve.grpc.messages import InferParameter, InferTensorContents, ModelInferRequest
from carpool.serve.grpc.rpc import parse
from carpool.serve.signature import Signature, describe
from tests.serve.fuzz.cases import fuzzed

SIGNATURES = [
    Signature(),
    Signature(
        inputs=describe([np.zeros(2, np.float32)], name="input"),
        outputs=describe([np.zeros(2, np.float32)], name="output"),
    ),
    Signature(inputs=describe(["a"], name="text"), outputs=describe([np.zeros(3, np.float32)], name="vector")),
    Signature(inputs=describe([{"input": [1, 2], "text": "a"}], name="input")),
]
MAX_ROWS = 10

parameter = st.one_of(
    st.builds(InferParameter),
    st.builds(InferParameter, int64_param=st.integers(-(2**63), 2**63 - 1)),
    st.builds(InferParameter, uint64_param=st.integers(0, 2**64 - 1)),
    st.builds(InferParameter, bool_param=st.booleans()),
    st.builds(InferParameter, string_param=st.text(max_size=5)),
    st.builds(InferParameter, double_param=st.floats()),
)
parameters = st.dictionaries(
    st.sampled_from(["priority", "timeout", "sequence_id", "binary_data_output", "classification", "other"])
    | st.just("shared_memory_region"),
    parameter,
    max_size=2,
)
contents = st.builds(
    InferTensorContents,
    fp32_contents=st.lists(st.floats(width=32), max_size=4),
    int_contents=st.lists(st.integers(-(2**31), 2**31 - 1), max_size=2),
    bytes_contents=st.lists(st.binary(max_size=4), max_size=2),
)
tensor = st.builds(
    ModelInferRequest.InferInputTensor,
    name=st.sampled_from(["input", "text", "", "x" * 100]),
    datatype=st.sampled_from([*NUMPY, "", "FP31"]),
    shape=st.lists(st.sampled_from([-1, 0, 1, 2, 3, 2**40, 2**63 - 1]), max_size=4),
    parameters=parameters,
    contents=st.none() | contents,
)
requests = st.builds(
    ModelInferRequest,
    model_name=st.just("m"),
    id=st.text(max_size=5),
    parameters=parameters,
    inputs=st.lists(tensor, max_size=2),
    outputs=st.lists(
        st.builds(
            ModelInferRequest.InferRequestedOutputTensor,
            name=st.sampled_from(["output", "vector", ""]),
            parameters=parameters,
        ),
        max_size=2,
    ),
    raw_input_contents=st.lists(st.binary(max_size=16), max_size=2),
)
whole = requests.map(lambda request: request.SerializeToString())


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Draw a request with some of its bytes cut out, put in or changed."""
    data = bytearray(draw(whole))
    for _ in range(draw(st.integers(1, 5))):
        start = draw(st.integers(0, len(data)))
        data[start : start + draw(st.integers(0, 4))] = draw(st.binary(max_size=4))
    return bytes(data)


def outcome(data: bytes, signature: Signature) -> InferCall | Fault:
    """Read a message as a call of ModelInfer does, and what its parameters mean; return what came of it."""
    try:
        call = read_request(asyncio.run(parse(ModelInferRequest, data)), signature, max_rows=MAX_ROWS)
        _ = call.parameters.item_priority, call.parameters.timeout_s
    except Fault as fault:
        return fault
    return call


@given(data=st.binary(max_size=80) | whole | damaged(), signature=st.sampled_from(SIGNATURES))
@fuzzed
def test_any_message_is_read_or_refused(data: bytes, signature: Signature) -> None:
    """Bytes at random, requests, and requests with damage; a refusal is short enough to be sent."""
    found = outcome(data, signature)
    if isinstance(found, Fault):
        assert found.status == 400
        assert 0 < len(str(found)) < 1500
    else:
        assert 1 <= len(found.items) <= MAX_ROWS
