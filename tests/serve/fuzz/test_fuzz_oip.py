"""Whatever is sent in the Open Inference Protocol, it is read or refused: nothing but a 400 ever comes of it."""

from __future__ import annotations

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from carpool.serve import oip
from carpool.serve.datatypes import NUMPY
from carpool.serve.faults import Fault
from carpool.serve.raw_tensors import read_raw, write_raw
from carpool.serve.signature import Signature, describe
from tests.serve.fuzz.cases import REQUESTS, damaged, fuzzed

SIGNATURES = [
    Signature(),
    Signature(inputs=describe([np.zeros(2, np.float32)], name="input")),
    Signature(inputs=describe(["a"], name="text"), outputs=describe([np.zeros(3, np.float32)], name="embedding")),
    Signature(inputs=describe([b"a"], name="input")),
    Signature(inputs=describe([{"ids": [1, 2], "scale": 0.5}], name="input")),
]
MAX_ROWS = 10


def outcome(body: bytes, signature: Signature, json_bytes: str = "") -> oip.Call | Fault:
    """Read a request; return what came of it."""
    try:
        return oip.parse_request(body, signature, max_rows=MAX_ROWS, json_bytes=json_bytes)
    except Fault as fault:
        return fault


def check(found: oip.Call | Fault) -> None:
    """Hold what came of it against what may."""
    if isinstance(found, Fault):
        assert (found.status, json.loads(oip.write_error(found))["error"]) == (400, str(found))
        assert len(str(found)) < 1000
    else:
        assert 1 <= len(found.items) <= MAX_ROWS
        assert found.timeout_s is None or found.timeout_s > 0


@given(body=st.binary(max_size=80) | damaged(REQUESTS), signature=st.sampled_from(SIGNATURES))
@fuzzed
def test_any_json_is_read_or_refused(body: bytes, signature: Signature) -> None:
    """Bytes at random, requests, and requests with damage."""
    check(outcome(body, signature))


@given(
    body=damaged(REQUESTS),
    tail=st.binary(max_size=40),
    json_bytes=st.none() | st.integers(-1, 200).map(str) | st.text(max_size=4),
    signature=st.sampled_from(SIGNATURES),
)
@fuzzed
def test_any_bytes_behind_json_are_read_or_refused(
    body: bytes, tail: bytes, json_bytes: str | None, signature: Signature
) -> None:
    """The header says the truth, or anything else."""
    check(outcome(body + tail, signature, str(len(body)) if json_bytes is None else json_bytes))


@st.composite
def binary_requests(draw: st.DrawFn) -> tuple[bytes, str]:
    """Draw a request of one tensor in bytes, right but for a few bytes of the whole."""
    datatype = draw(st.sampled_from([name for name in NUMPY if name != "BYTES"]))
    array = draw(hnp.arrays(NUMPY[datatype], hnp.array_shapes(min_dims=2, max_dims=2, max_side=3)))
    raw = write_raw(array, datatype)
    given_size = len(raw) + draw(st.sampled_from([0, 0, 0, 1, -1]))
    tensor = {"name": "input", "shape": array.shape, "datatype": datatype}
    document = {"inputs": [{**tensor, "parameters": {"binary_data_size": given_size}}]}
    head = json.dumps(document).encode()
    body = bytearray(head + raw)
    for _ in range(draw(st.integers(0, 2))):
        body[draw(st.integers(0, len(body) - 1))] = draw(st.integers(0, 255))
    return bytes(body), str(len(head) + draw(st.sampled_from([0, 0, 0, 1, -1])))


@given(request=binary_requests(), signature=st.sampled_from(SIGNATURES))
@fuzzed
def test_binary_requests_with_damage_are_read_or_refused(request: tuple[bytes, str], signature: Signature) -> None:
    """A length off by one, a byte changed."""
    check(outcome(request[0], signature, request[1]))


@given(
    datatype=st.sampled_from([*NUMPY, "", "FP8"]),
    shape=st.lists(st.integers(0, 3) | st.integers(), max_size=4),
    data=st.binary(max_size=40),
)
@fuzzed
def test_any_raw_tensor_is_read_or_refused(datatype: str, shape: list[int], data: bytes) -> None:
    """As gRPC sends them too."""
    found = None
    try:
        array = read_raw(datatype, shape, data, name="x")
    except Fault as fault:
        found = fault.status
    else:
        assert array.shape == tuple(shape)
    assert found in (None, 400)
