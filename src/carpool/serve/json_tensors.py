"""Tensors in JSON: read into arrays, and written from them."""

from __future__ import annotations

import math
import reprlib
from itertools import chain
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from carpool.errors import ModelError
from carpool.serve.datatypes import BYTES, NUMPY, Array, shortened
from carpool.serve.faults import bad_request
from carpool.serve.shapes import check_shape
from carpool.serve.tensors import Tensor, narrowed
from carpool.units import counted

if TYPE_CHECKING:
    from collections.abc import Mapping

# What values of each kind of datatype may be in JSON, and what they are called in messages.
_JSON_TYPES: Mapping[str, tuple[frozenset[type], str]] = MappingProxyType(
    {
        "b": (frozenset({bool}), "true or false"),
        "u": (frozenset({int}), "whole numbers"),
        "i": (frozenset({int}), "whole numbers"),
        "f": (frozenset({int, float}), "numbers"),
        "O": (frozenset({str}), "strings"),
    }
)


def read_json(datatype: str, shape: list[int], data: Any, *, name: str) -> Array:
    """Read a tensor out of what JSON said.

    Args:
        datatype: as the protocol names it.
        shape: sizes, the batch first.
        data: its values, flat in row-major order, or nested as `shape` says.
        name: the tensor's, for messages.

    Returns:
        An array of the shape; of Python strings for BYTES, of float32 for BF16.

    Raises:
        Fault: datatype, shape and data do not fit together.
    """
    dtype = NUMPY.get(datatype)
    if dtype is None:
        raise bad_request(f"{_input(name)} has the datatype {datatype[:20]!r}: use one of {', '.join(NUMPY)}")
    check_shape(shape, name=name)
    values = _allowed(_flat(shape, data, name), datatype, name)
    if dtype.kind in "ui":
        _check_range(values, datatype, name)
    return _as_array(values, datatype, name).reshape(shape)


def _input(name: str) -> str:
    return f"the input {name[:60]!r}"


def _short(value: Any) -> str:
    """Show a value of any size and depth in a few characters."""
    return reprlib.repr(value)


def _flat(shape: list[int], data: Any, name: str) -> list[Any]:
    """Return the values in row-major order, having checked that they are as many as the shape says."""
    if not isinstance(data, list):
        raise bad_request(f"{_input(name)} has {_short(data)} for data: give a list")
    values: list[Any] = data
    if values and type(values[0]) is list:
        for size in shape[1:]:
            if not all(type(value) is list and len(value) == size for value in values):
                raise bad_request(f"{_input(name)} is not nested as its shape {_short(shape)} says: make them agree")
            values = list(chain.from_iterable(values))
    if len(values) != math.prod(shape):
        raise bad_request(
            f"{_input(name)} has {counted(len(values), 'value')}, and its shape {_short(shape)} means "
            f"{_short(math.prod(shape))}: make them agree"
        )
    return values


def _allowed(values: list[Any], datatype: str, name: str) -> list[Any]:
    """Return the values, all of the types that the datatype may be in JSON."""
    kind = NUMPY[datatype].kind
    allowed, called = _JSON_TYPES[kind]
    if set(map(type, values)) <= allowed:
        return values
    meant = [_as_meant(value, kind) for value in values]
    odd = next((index for index, value in enumerate(meant) if type(value) not in allowed), None)
    if odd is not None:
        found = f"value {odd} of its data is {_short(values[odd])}"
        raise bad_request(f"{_input(name)} is {datatype}, and {found}: give {called}")
    return meant


def _as_meant(value: Any, kind: str) -> Any:
    """Return what a number stands for where a client writes every number as a float, as some do: 2.0 is 2.

    Args:
        value: as JSON had it.
        kind: numpy's letter for what is wanted.
    """
    if kind in "ui" and type(value) is float and value.is_integer():
        return int(value)
    if kind == "b" and type(value) in (int, float) and value in (0, 1):
        return bool(value)
    return value


def _check_range(values: list[int], datatype: str, name: str) -> None:
    limits = np.iinfo(NUMPY[datatype])
    if values and (min(values) < limits.min or max(values) > limits.max):
        value = min(values) if min(values) < limits.min else max(values)
        span = f"{datatype} goes from {limits.min} to {limits.max}"
        raise bad_request(f"{_input(name)} holds {_short(value)}: {span}")


def _as_array(values: list[Any], datatype: str, name: str) -> Array:
    dtype = NUMPY[datatype]
    if dtype.kind != "f":
        return np.array(values, dtype=dtype)
    try:
        array = np.array(values, dtype=np.float64)
    except OverflowError:
        raise bad_request(f"{_input(name)} holds a number beyond what {datatype} can be: scale it") from None
    return narrowed(array, dtype, name=name)


def write_json(tensor: Tensor) -> list[Any]:
    """Write the values of a tensor as JSON can say them, flat in row-major order.

    Raises:
        ModelError: a number is not finite, or bytes are not UTF-8, which JSON can't say.
    """
    array = tensor.array
    if tensor.datatype == BYTES:
        return _texts(tensor)
    if array.dtype.kind == "f":
        _check_finite(array, tensor.name)
        array = shortened(array)
    values: list[Any] = array.reshape(-1).tolist()
    return values


def _texts(tensor: Tensor) -> list[str]:
    values = tensor.array.reshape(-1).tolist()
    try:
        return [value.decode() if isinstance(value, bytes) else value for value in values]
    except UnicodeDecodeError:
        what = f"the output {tensor.name!r} holds bytes that are not UTF-8"
        raise ModelError(f"{what}, which JSON can't say: ask for it with binary_data") from None


def _check_finite(array: Array, name: str) -> None:
    finite = np.isfinite(array).reshape(len(array), -1).all(axis=1)
    if not finite.all():
        row = int(np.argmin(finite))
        what = f"the output {name!r} of row {row}"
        raise ModelError(
            f"{what} is not finite, which JSON can't say: mend the model or its input, or ask with binary_data"
        )


class JsonTensor(msgspec.Struct, omit_defaults=True):
    """A tensor of an answer, as it stands in JSON; without `data` where its bytes follow the JSON."""

    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Any] = {}
    data: list[Any] | msgspec.UnsetType = msgspec.UNSET
