"""Datatypes and the digits of floats."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from carpool.serve.datatypes import NUMPY, datatype_of, shortened


@given(hnp.arrays(np.float32, st.integers(0, 20), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_short_digits_bring_every_float32_back(array: np.ndarray) -> None:
    """What is printed and read again is the very same float32."""
    again = np.array(json.loads(json.dumps(shortened(array).tolist())), np.float32)
    assert np.array_equal(again, array)


@given(hnp.arrays(np.float16, st.integers(0, 20), elements=st.floats(width=16, allow_nan=False, allow_infinity=False)))
def test_short_digits_bring_every_float16_back(array: np.ndarray) -> None:
    """The same for half the bits."""
    assert np.array_equal(shortened(array).astype(np.float16), array)


def test_floats_print_short() -> None:
    """A usual embedding needs no more than nine digits a number."""
    vector = np.random.default_rng(0).standard_normal(384).astype(np.float32)
    longest = max(len(repr(number).lstrip("-0.").replace(".", "")) for number in shortened(vector).tolist())
    assert longest <= 9


def test_float64_is_left_alone() -> None:
    """It has no digits to spare."""
    assert shortened(np.array([0.1 + 0.2]))[0] == 0.1 + 0.2


@pytest.mark.parametrize("name", [name for name in NUMPY if name not in ("BF16", "BYTES")])
def test_every_datatype_is_known_both_ways(name: str) -> None:
    """From the name to numpy and back, in either byte order."""
    assert datatype_of(np.zeros(2, NUMPY[name])) == name
    assert datatype_of(np.zeros(2, NUMPY[name].newbyteorder(">"))) == name
