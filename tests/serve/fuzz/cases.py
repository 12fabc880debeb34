"""How many cases each parser is fuzzed with, and the documents that the cases are made of."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from carpool.serve.datatypes import NUMPY

if TYPE_CHECKING:
    from collections.abc import Callable

FEW = 200
# The profile "long", which `make fuzz` chooses, has thousands.
fuzzed: Callable[[Any], Any] = settings(
    max_examples=max(FEW, settings().max_examples), suppress_health_check=[HealthCheck.too_slow]
)

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)


def almost(right: Any) -> st.SearchStrategy[Any]:
    """Draw what is usually right, and else anything."""
    return st.one_of(right, right, right, right, ANYTHING)


TENSORS = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["input", "text", "ids", "scale"]) | st.text(max_size=3),
        "shape": almost(st.lists(st.integers(-1, 4) | st.integers(), max_size=4)),
        "datatype": st.sampled_from([*NUMPY, "FP8"]),
        "data": almost(st.lists(ANYTHING, max_size=6)),
    },
    optional={
        "parameters": almost(
            st.fixed_dictionaries(
                {}, optional={"binary_data_size": almost(st.integers(-1, 40)), "shared_memory_region": ANYTHING}
            )
        )
    },
)
OUTPUTS = st.fixed_dictionaries(
    {"name": almost(st.sampled_from(["output", "embedding"]))},
    optional={
        "parameters": almost(
            st.fixed_dictionaries(
                {}, optional={"binary_data": almost(st.booleans()), "classification": almost(st.integers(-1, 5))}
            )
        )
    },
)
PARAMETERS = st.fixed_dictionaries(
    {},
    optional={
        "priority": almost(st.integers()),
        "timeout": almost(st.integers()),
        "sequence_id": almost(st.integers(0, 2)),
        "binary_data_output": almost(st.booleans()),
    },
)
REQUESTS = st.fixed_dictionaries(
    {"inputs": almost(st.lists(TENSORS, max_size=3))},
    optional={
        "id": almost(st.text(max_size=3)),
        "parameters": almost(PARAMETERS),
        "outputs": almost(st.lists(OUTPUTS, max_size=3)),
    },
)


@st.composite
def damaged(draw: st.DrawFn, documents: st.SearchStrategy[Any]) -> bytes:
    """Draw a document as JSON, whole or with some of its bytes cut out, put in or changed."""
    body = bytearray(json.dumps(draw(documents)).encode())
    for _ in range(draw(st.sampled_from([0, 0, 1, 2, 5]))):
        start = draw(st.integers(0, len(body)))
        stop = min(len(body), start + draw(st.integers(0, 4)))
        body[start:stop] = draw(st.binary(max_size=4) | st.sampled_from([b"[" * 2000, b'{"a":' * 2000, b"9" * 400]))
    return bytes(body)
