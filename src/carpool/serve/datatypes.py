"""The datatypes of the Open Inference Protocol, and what they are in numpy and in JSON."""

from __future__ import annotations

import struct
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Mapping

Array: TypeAlias = NDArray[Any]

BYTES = "BYTES"
BF16 = "BF16"
NUMPY: Mapping[str, np.dtype[Any]] = MappingProxyType(
    {
        "BOOL": np.dtype(np.bool_),
        **{f"UINT{bits}": np.dtype(f"uint{bits}") for bits in (8, 16, 32, 64)},
        **{f"INT{bits}": np.dtype(f"int{bits}") for bits in (8, 16, 32, 64)},
        **{f"FP{bits}": np.dtype(f"float{bits}") for bits in (16, 32, 64)},
        BF16: np.dtype(np.float32),  # numpy has none: float32 holds each of its values
        BYTES: np.dtype(object),
    }
)
_NAMES = MappingProxyType({dtype: name for name, dtype in NUMPY.items() if name != BF16})
# Significant decimal digits that bring a float back exactly.
_FEW_VALUES = 8
# Below it, a value that is rounded does not become infinite.
_FAR_FROM_OVERFLOW = MappingProxyType({np.dtype(np.float16): 6e4, np.dtype(np.float32): 1e38})
_STRUCTS = MappingProxyType({np.dtype(np.float16): struct.Struct("e"), np.dtype(np.float32): struct.Struct("f")})
_DIGITS = MappingProxyType({np.dtype(np.float16): 5, np.dtype(np.float32): 9})

# Orders of magnitude that have a scale of their own; what lies beyond is as good as at the end.
_ORDERS = 30


def _scales(digits: int) -> NDArray[np.float64]:
    """Return what numbers of each order are multiplied by, so that so many digits stand before the point.

    Powers of ten up to 22 are exact, so that one division gives the float64 nearest to the short decimal.
    """
    powers = np.clip(digits - 1 - np.arange(-_ORDERS, _ORDERS + 1), 0, 22)
    return np.power(10.0, powers, dtype=np.float64)


# What was written by hand has few digits.
_SCALES = MappingProxyType({digits: (_scales(digits), _scales(digits - 2)) for digits in _DIGITS.values()})


def datatype_of(array: Array) -> str | None:
    """Name the datatype of an array; None where the protocol has none for it.

    >>> datatype_of(np.zeros(3, np.float32)), datatype_of(np.array(["a"])), datatype_of(np.zeros(1, complex))
    ('FP32', 'BYTES', None)
    """
    if array.dtype.kind == "U":
        return BYTES
    return _NAMES.get(array.dtype.newbyteorder("="))


def shortened(array: Array) -> NDArray[np.float64]:
    """Widen floats so that each prints in the few digits that bring it back.

    A float32 as a float64 prints up to 17 digits, of which 9 say all there is to say.

    Args:
        array: floats of 16, 32 or 64 bits, any shape; what is not finite stays as it is.

    >>> shortened(np.array([0.1, 1e-7, 2.5], np.float32)).tolist()
    [0.1, 1e-07, 2.5]
    """
    wide = array.astype(np.float64)
    digits = _DIGITS.get(array.dtype)
    if digits is None:
        return wide
    if array.size <= _FEW_VALUES:
        return _shortened_one_by_one(wide, array.dtype, digits)
    magnitude = np.fmin(np.fmax(np.abs(wide), 10.0**-_ORDERS), 10.0**_ORDERS)  # of NaN and 0 too
    orders = np.floor(np.log10(magnitude)).astype(np.intp) + _ORDERS
    for scales in _SCALES[digits]:
        scale = scales.take(orders)
        rounded = np.rint(wide * scale) / scale
        np.copyto(wide, rounded, where=rounded.astype(array.dtype) == array)
    return wide


def _shortened_one_by_one(wide: NDArray[np.float64], dtype: np.dtype[Any], digits: int) -> NDArray[np.float64]:
    """Do as `shortened` does, quicker where there are few values."""
    values = wide.reshape(-1).tolist()
    packed, limit = _STRUCTS[dtype], _FAR_FROM_OVERFLOW[dtype]
    for index, value in enumerate(values):
        short = float(f"{value:.{digits - 2}g}")
        exact = abs(value) < limit and packed.unpack(packed.pack(short))[0] == value
        values[index] = short if exact else float(f"{value:.{digits}g}")
    return np.array(values, np.float64).reshape(wide.shape)
