"""Names of payloads: equal ones agree, others never."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from carpool.serve.digest import digest

leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
payloads = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4)
)


def in_order(value: Any) -> Any:
    """Return a payload whose mappings are in the order of their keys."""
    if isinstance(value, dict):
        return {key: in_order(value[key]) for key in sorted(value)}
    return [in_order(part) for part in value] if isinstance(value, list) else value


@given(payloads, payloads)
def test_payloads_agree_exactly_where_they_are_equal(one: Any, other: Any) -> None:
    """Of whatever they are made; types included, where Python holds 1, 1.0 and True for the same."""
    assert (digest(one) == digest(other)) == (repr(in_order(one)) == repr(in_order(other)))


@given(payloads)
def test_a_copy_agrees(payload: Any) -> None:
    """Whatever it is a copy of."""
    assert digest(copy.deepcopy(payload)) == digest(payload) is not None


def test_an_array_is_its_numbers_its_dtype_and_its_shape() -> None:
    """Strides do not matter."""
    square = np.arange(4, dtype=np.float32).reshape(2, 2)
    assert digest(square) == digest(np.ascontiguousarray(square.T).T)
    others = [square.T, square.astype(np.float64), square.reshape(4), square.view(np.int32), square.tolist()]
    assert digest(square) not in {digest(other) for other in others}


def test_arrays_of_texts_are_told_apart() -> None:
    """Object arrays are what they hold."""
    one, other = np.array(["ab", "c"], object), np.array(["a", "bc"], object)
    assert digest(one) != digest(other)
    assert digest(one) == digest(np.array(["ab", "c"], object))


def test_tensors_of_every_dtype_are_known() -> None:
    """Those that numpy has no name for, too."""
    rows = torch.arange(6, dtype=torch.float32).reshape(2, 3)
    assert digest(rows) == digest(rows.clone())
    assert digest(rows.to(torch.bfloat16)) not in {digest(rows), digest(rows.to(torch.float16)), None}
    assert digest(rows.T) != digest(rows)


def test_mappings_are_equal_in_any_order() -> None:
    """As Python has it."""
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) != digest({"a": 2, "b": 1})


def test_what_can_not_be_compared_has_no_name() -> None:
    """Alone, or inside of something else."""
    assert [digest(object()), digest([1, object()]), digest({"a": {1, 2}})] == [None, None, None]
