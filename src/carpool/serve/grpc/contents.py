"""Tensors in typed contents: the values of a tensor in the repeated field of its datatype."""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from carpool.serve.datatypes import BYTES, NUMPY, Array
from carpool.serve.faults import bad_request
from carpool.serve.grpc.messages import InferTensorContents
from carpool.serve.shapes import check_shape
from carpool.units import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_FIELDS: Mapping[str, str] = MappingProxyType(
    {
        "BOOL": "bool_contents",
        "INT8": "int_contents",
        "INT16": "int_contents",
        "INT32": "int_contents",
        "INT64": "int64_contents",
        "UINT8": "uint_contents",
        "UINT16": "uint_contents",
        "UINT32": "uint_contents",
        "UINT64": "uint64_contents",
        "FP32": "fp32_contents",
        "FP64": "fp64_contents",
        BYTES: "bytes_contents",
    }
)
# What a field of several datatypes holds.
_WIDE: Mapping[str, np.dtype[Any]] = MappingProxyType(
    {"int_contents": np.dtype(np.int32), "uint_contents": np.dtype(np.uint32)}
)


def has_field(datatype: str) -> bool:
    """Tell whether tensors of a datatype can be sent in typed contents: floats of 16 bits can't."""
    return datatype in _FIELDS


def read_contents(datatype: str, shape: Sequence[int], contents: InferTensorContents, *, name: str) -> Array:
    """Read a tensor out of typed contents.

    Args:
        datatype: as the protocol names it.
        shape: as the client gave it, the batch first.
        contents: the values, in the field of the datatype, and no other.
        name: the tensor's, for messages.

    Returns:
        An array of the shape; for BYTES of Python `bytes`.

    Raises:
        Fault: the datatype has no such contents, or they are in another field, or not as many as the shape means.

    >>> read_contents("INT8", [1, 2], InferTensorContents(int_contents=[1, -2]), name="input")
    array([[ 1, -2]], dtype=int8)
    """
    field = _FIELDS.get(datatype)
    if field is None:
        known = f"{datatype} is sent in raw_input_contents" if datatype in NUMPY else f"use one of {', '.join(NUMPY)}"
        raise bad_request(f"the input {name[:60]!r} has typed contents and the datatype {datatype[:20]!r}: {known}")
    check_shape(shape, name=name)
    given = [descriptor.name for descriptor, _ in contents.ListFields()]
    if given not in ([], [field]):
        raise bad_request(f"the input {name[:60]!r} is {datatype} and has {' and '.join(given)}: use {field} alone")
    values = getattr(contents, field)
    if len(values) != math.prod(shape):
        raise bad_request(
            f"the input {name[:60]!r} has {counted(len(values), 'value')} in {field}, and its shape means "
            f"{math.prod(shape)}: make them agree"
        )
    return _as_array(values, datatype, field, name).reshape(shape)


def _as_array(values: Sequence[Any], datatype: str, field: str, name: str) -> Array:
    if datatype == BYTES:
        array = np.empty(len(values), object)
        array[:] = values
        return array
    dtype = NUMPY[datatype]
    wide = np.array(values, dtype=_WIDE.get(field, dtype))
    narrow = wide.astype(dtype)
    if dtype.kind in "ui" and (narrow != wide).any():
        limits = np.iinfo(dtype)
        value = wide[narrow != wide][0]
        raise bad_request(f"the input {name[:60]!r} holds {value}: {datatype} goes from {limits.min} to {limits.max}")
    return narrow


def write_contents(array: Array, datatype: str) -> InferTensorContents:
    """Write a tensor as typed contents.

    Args:
        array: any shape; for BYTES of Python `str`, written as UTF-8, or `bytes`.
        datatype: one that `has_field`.

    >>> list(write_contents(np.array([[1.5], [2.0]], np.float32), "FP32").fp32_contents)
    [1.5, 2.0]
    """
    values = array.reshape(-1).tolist()
    if datatype == BYTES:
        values = [value if type(value) is bytes else str(value).encode() for value in values]
    contents = InferTensorContents()
    getattr(contents, _FIELDS[datatype]).extend(values)
    return contents
