"""Tensors as raw bytes: held against Triton's own client library, and every way to get the bytes wrong."""

from __future__ import annotations

import struct

import ml_dtypes
import numpy as np
import pytest
import tritonclient.utils as triton
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from carpool.serve.datatypes import BF16, BYTES, NUMPY, Array
from carpool.serve.faults import Fault
from carpool.serve.raw_tensors import read_raw, write_raw

NUMBERS = [name for name in NUMPY if name not in (BF16, BYTES)]
SHAPES = hnp.array_shapes(max_dims=3, max_side=4, min_side=0)


def refusal(datatype: str, shape: list[int], data: bytes) -> str:
    """Read what must be refused, and return what is said."""
    with pytest.raises(Fault) as caught:
        read_raw(datatype, shape, data, name="x")
    assert caught.value.status == 400
    return str(caught.value)


@given(array=st.sampled_from(NUMBERS).flatmap(lambda name: hnp.arrays(NUMPY[name], SHAPES)))
def test_numbers_come_back_bit_for_bit(array: Array) -> None:
    """Infinities and what is not a number too."""
    datatype = triton.np_to_triton_dtype(array.dtype)
    raw = write_raw(array, datatype)
    assert raw == array.tobytes()
    again = read_raw(datatype, array.shape, raw, name="x")
    assert (again.dtype, again.shape, again.tobytes()) == (array.dtype, array.shape, raw)


@given(hnp.arrays(object, SHAPES, elements=st.binary(max_size=5)))
def test_byte_strings_are_written_as_tritons_client_writes_them(array: Array) -> None:
    """And what it wrote is read."""
    raw = triton.serialize_byte_tensor(array).item() if array.size else b""
    assert write_raw(array, BYTES) == raw
    assert read_raw(BYTES, array.shape, raw, name="x").tolist() == array.tolist()


@given(hnp.arrays(object, st.integers(1, 4), elements=st.text(max_size=5)))
def test_texts_are_written_as_utf8(array: Array) -> None:
    """As by Triton's client."""
    assert write_raw(array, BYTES) == triton.serialize_byte_tensor(array).item()


@given(hnp.arrays(np.float32, st.integers(1, 20), elements=st.floats(width=32)))
def test_bfloat16_is_rounded_to_the_nearest(array: Array) -> None:
    """As a library that knows the type does it."""
    with np.errstate(over="ignore", invalid="ignore"):
        expected = array.astype(ml_dtypes.bfloat16)
    again = read_raw(BF16, array.shape, write_raw(array, BF16), name="x")
    assert np.array_equal(again, expected.astype(np.float32), equal_nan=True)


@given(hnp.arrays(np.uint16, st.integers(1, 20)))
def test_every_bfloat16_comes_back_bit_for_bit(bits: Array) -> None:
    """Those that are not a number at least as one."""
    again = np.frombuffer(write_raw(read_raw(BF16, bits.shape, bits.tobytes(), name="x"), BF16), "<u2")
    nans = np.isnan(bits.view(ml_dtypes.bfloat16).astype(np.float32))
    assert np.array_equal(again[~nans], bits[~nans])
    assert np.isnan(again[nans].view(ml_dtypes.bfloat16).astype(np.float32)).all()


def test_numbers_are_not_copied_where_the_bytes_lie_straight() -> None:
    """A view keeps the body alive; bytes that lie askew are put straight."""
    body = bytes(64)
    assert np.shares_memory(read_raw("FP32", [2], body[:8], name="x"), np.frombuffer(body, np.uint8)) is False
    straight = read_raw("FP32", [2], memoryview(body)[8:16], name="x")
    assert np.shares_memory(straight, np.frombuffer(body, np.uint8))
    assert not straight.flags.writeable
    askew = read_raw("FP32", [2], memoryview(body)[9:17], name="x")
    assert askew.flags.aligned
    assert not np.shares_memory(askew, np.frombuffer(body, np.uint8))


@pytest.mark.parametrize(
    ("datatype", "shape", "data", "said"),
    [
        ("FP8", [1], b"\0", "the datatype 'FP8': use one of BOOL"),
        ("FP32", [2], bytes(7), "has 7 bytes of FP32, and its shape means 8 bytes: make them agree"),
        ("FP32", [2], bytes(9), "has 9 bytes of FP32, and its shape means 8"),
        ("FP32", [2, 0], bytes(1), "has 1 byte of FP32, and its shape means 0 bytes"),
        ("BF16", [2], bytes(8), "its shape means 4 bytes"),
        ("FP64", [1 << 40, 1 << 18], bytes(8), "its shape means 2,305,843,009,213,693,952 bytes"),
        ("FP64", [1 << 40, 1 << 40], bytes(8), "more than the 576,460,752,303,423,488 values that a tensor can have"),
        ("FP64", [0, 1 << 40, 1 << 40], b"", "values that a tensor can have"),
        ("INT8", [1 << 40] * 32, bytes(8), "values that a tensor can have"),
        ("INT8", [], b"\0", "the shape []: give 1 to 32 sizes"),
        ("INT8", [1] * 33, b"\0", "give 1 to 32 sizes"),
        ("INT8", [-1], b"", "sizes from 0 to"),
        ("INT8", [10**4000], b"", "sizes from 0 to"),
        ("BOOL", [3], b"\0\1\2", "is BOOL, and byte 2 of its data is 2: give 0 or 1"),
        ("BYTES", [1 << 40], bytes(8), "8 bytes, too few for its shape"),
        ("BYTES", [1], b"", "0 bytes, too few for its shape"),
        ("BYTES", [1], struct.pack("<I", 5) + b"abcd", "5 bytes announced for element 0, and 4 left"),
        ("BYTES", [1], b"\xff\xff\xff\xff", "4,294,967,295 bytes announced for element 0, and 0 left"),
        ("BYTES", [2], struct.pack("<I", 4) + b"abcd", "1 element in 8 bytes, fewer than its shape"),
        ("BYTES", [1], struct.pack("<I", 1) + b"abc", "2 bytes left over after its last element"),
        ("BYTES", [0], b"abc", "3 bytes left over"),
    ],
)
def test_bytes_that_do_not_fit_are_refused(datatype: str, shape: list[int], data: bytes, said: str) -> None:
    """The message has what was found and what was expected, and nothing is made room for first."""
    assert said in refusal(datatype, shape, data)
