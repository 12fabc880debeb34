"""Tensors as raw bytes: little-endian, row-major, nothing between the elements.

The binary tensor data extension of REST and the raw contents of gRPC both carry tensors so.

Source: the binary tensor data extension of NVIDIA Triton (docs/protocol/extension_binary_data.md)
"""

from __future__ import annotations

import math
import struct
import sys
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from carpool.serve.datatypes import BF16, BYTES, NUMPY, Array
from carpool.serve.faults import Fault, bad_request
from carpool.serve.shapes import check_shape
from carpool.units import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

Buffer: TypeAlias = bytes | bytearray | memoryview

_NUM_LENGTH_BYTES = 4
_length = struct.Struct("<I")
_BIG_ENDIAN_MACHINE = sys.byteorder == "big"


def read_raw(datatype: str, shape: Sequence[int], data: Buffer, *, name: str) -> Array:
    """Read a tensor out of raw bytes.

    Numbers are a view of `data`, which can't be written to, wherever `data` begins at a multiple of their size; else
    they are copied. Not a number and infinity are let through: a model may mean something by them.

    Args:
        datatype: as the protocol names it; BF16 becomes float32, which holds each of its values.
        shape: as the client gave it, the batch first.
        data: exactly the tensor.
        name: the tensor's, for messages.

    Returns:
        An array of the shape; for BYTES of Python `bytes`.

    Raises:
        Fault: there is no such datatype or no such shape, or the bytes are not as many as they mean.

    >>> read_raw("FP32", [1, 2], bytes.fromhex("0000803f00000040"), name="input").tolist()
    [[1.0, 2.0]]
    >>> read_raw("BYTES", [2], bytes.fromhex("01000000 61 02000000 6263"), name="input").tolist()
    [b'a', b'bc']
    """
    dtype = NUMPY.get(datatype)
    if dtype is None:
        raise bad_request(f"the input {name[:60]!r} has the datatype {datatype[:20]!r}: use one of {', '.join(NUMPY)}")
    check_shape(shape, name=name)
    num_values = math.prod(shape)
    if datatype == BYTES:
        return _read_strings(data, num_values, name).reshape(shape)
    stored = np.dtype("<u2") if datatype == BF16 else dtype.newbyteorder("<")
    if len(data) != num_values * stored.itemsize:
        raise bad_request(
            f"the input {name[:60]!r} has {counted(len(data), 'byte')} of {datatype}, and its shape means "
            f"{counted(num_values * stored.itemsize, 'byte')}: make them agree"
        )
    array = np.frombuffer(data, stored)
    if datatype == "BOOL":
        _check_booleans(array, name)
    return (_widened(array) if datatype == BF16 else _usable(array)).reshape(shape)


def _check_booleans(array: Array, name: str) -> None:
    odd = array.view(np.uint8) > 1
    if odd.any():
        index = int(np.argmax(odd))
        value = int(array.view(np.uint8)[index])
        raise bad_request(f"the input {name[:60]!r} is BOOL, and byte {index} of its data is {value}: give 0 or 1")


def _usable(array: Array) -> Array:
    """Return the array itself where the machine reads it at full speed, else a copy that it does."""
    native = array.astype(array.dtype.newbyteorder("=")) if _BIG_ENDIAN_MACHINE else array
    return np.require(native, requirements="A")


def _widened(bits: Array) -> Array:
    """Turn the bits of bfloat16 into float32, of which they are the upper half."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _read_strings(data: Buffer, num_values: int, name: str) -> Array:
    """Read elements that each follow their length in four bytes."""
    if num_values * _NUM_LENGTH_BYTES > len(data):  # before so many are made room for
        raise _wrong_strings(f"{counted(len(data), 'byte')}, too few for its shape", name)
    values = np.empty(num_values, object)
    whole, at = bytes(data), 0
    for index in range(num_values):
        start = at + _NUM_LENGTH_BYTES
        if start > len(whole):
            raise _wrong_strings(f"{counted(index, 'element')} in {len(whole):,} bytes, fewer than its shape", name)
        (size,) = _length.unpack_from(whole, at)
        at = start + size
        if at > len(whole):
            left = len(whole) - start
            raise _wrong_strings(f"{size:,} bytes announced for element {index}, and {left:,} left", name)
        values[index] = whole[start:at]
    if at != len(whole):
        raise _wrong_strings(f"{counted(len(whole) - at, 'byte')} left over after its last element", name)
    return values


def _wrong_strings(what: str, name: str) -> Fault:
    remedy = "put the length of each element before it as 4 bytes, little-endian"
    return bad_request(f"the input {name[:60]!r} is BYTES and has {what}: {remedy}")


def write_raw(array: Array, datatype: str) -> bytes:
    """Write a tensor as raw bytes.

    Args:
        array: any shape; for BYTES of Python `str`, written as UTF-8, or `bytes`; for BF16 of floats, rounded to the
            nearest.
        datatype: as the protocol names it.

    >>> write_raw(np.array([1.0, 2.0], np.float32), "BF16").hex()
    '803f0040'
    >>> write_raw(np.array(["a", "bc"]), "BYTES").hex(" ", 1)
    '01 00 00 00 61 02 00 00 00 62 63'
    """
    if datatype == BYTES:
        return _write_strings(array)
    if datatype == BF16:
        return _narrowed(array.astype(np.float32)).astype("<u2").tobytes()
    return array.astype(NUMPY[datatype].newbyteorder("<"), copy=False).tobytes()


def _narrowed(array: Array) -> Array:
    """Turn float32 into the bits of the nearest bfloat16, ties to even.

    Adding just under half of what is cut off, and one more where the last bit kept is odd, carries into the part kept
    exactly where rounding goes up. Not a number stays one: a bit that is kept is set in it.
    """
    bits = np.ascontiguousarray(array).view(np.uint32)
    rounded = (bits + (0x7FFF + ((bits >> 16) & 1))) >> 16
    return np.where(np.isnan(array), (bits >> 16) | 0x40, rounded).astype(np.uint16)


def _write_strings(array: Array) -> bytes:
    parts: list[bytes] = []
    for value in array.reshape(-1).tolist():
        element = value if type(value) is bytes else str(value).encode()
        parts += (_length.pack(len(element)), element)
    return b"".join(parts)
