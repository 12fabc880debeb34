"""Whatever is sent as plain JSON or in OpenAI's API, it is read or refused: nothing but a 400 ever comes of it."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from carpool.serve import openai
from carpool.serve.faults import Fault
from carpool.serve.predict import PlainCodec
from carpool.serve.signature import Signature, describe
from tests.serve.fuzz.cases import ANYTHING, almost, damaged, fuzzed

MAX_ROWS = 3
CODECS = [
    PlainCodec(Signature()),
    *(
        PlainCodec(Signature(inputs=describe(examples, name="input")), takes_token_ids=isinstance(examples[0], str))
        for examples in (
            ["a text"],
            [b"bytes"],
            [1],
            [np.zeros(2, np.float16)],
            [np.zeros(2, np.int8), np.zeros(3, np.int8)],
            [np.zeros((1, 2)), np.zeros((2, 1))],
            [{"ids": [1, 2], "scale": 0.5, "mask": np.zeros(2, np.bool_)}],
            [([1.0], "a")],
        )
    ),
]
NUMBERS = st.integers(-300, 300) | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.booleans()
ROWS = st.lists(NUMBERS, max_size=3)
ITEMS = almost(
    ROWS
    | st.lists(ROWS, max_size=3)
    | st.text(max_size=4)
    | NUMBERS
    | st.fixed_dictionaries({"ids": ROWS, "scale": NUMBERS, "mask": ROWS})
)
PLAIN = almost(
    st.fixed_dictionaries({"input": ITEMS}) | st.fixed_dictionaries({"inputs": almost(st.lists(ITEMS, max_size=4))})
)
EMBEDDINGS = st.fixed_dictionaries(
    {
        "model": almost(st.just("m")),
        "input": almost(st.text(max_size=3) | st.lists(st.text(max_size=3) | ROWS, max_size=4)),
    },
    optional={
        "encoding_format": almost(st.sampled_from(["float", "base64"])),
        "dimensions": almost(st.integers()),
        "user": ANYTHING,
    },
)


def check(fault: Fault | None, items: list[Any]) -> None:
    """Hold what came of a body against what may."""
    if fault is None:
        assert 1 <= len(items) <= MAX_ROWS
    else:
        assert fault.status == 400
        assert len(str(fault)) < 1000


@given(body=st.binary(max_size=60) | damaged(PLAIN), codec=st.sampled_from(CODECS))
@fuzzed
def test_any_plain_body_is_read_or_refused(body: bytes, codec: PlainCodec) -> None:
    """Bytes at random, requests, and requests with damage."""
    fault = None
    items: list[Any] = []
    try:
        items, _ = codec.read(body, max_rows=MAX_ROWS)
    except Fault as raised:
        fault = raised
    check(fault, items)


@given(body=st.binary(max_size=60) | damaged(EMBEDDINGS))
@fuzzed
def test_any_embeddings_body_is_read_or_refused(body: bytes) -> None:
    """Bytes at random, requests, and requests with damage."""
    fault = None
    items: list[Any] = []
    try:
        items = openai.read_call(openai.decode(body), max_rows=MAX_ROWS).items
    except Fault as raised:
        fault = raised
    check(fault, items)
