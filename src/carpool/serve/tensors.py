"""Tensors in JSON: into the rows that become items, and back from the results."""

from __future__ import annotations

import math
import reprlib
from itertools import chain
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from carpool.errors import ModelError
from carpool.serve.datatypes import BYTES, NUMPY, Array, datatype_of, shortened
from carpool.serve.faults import bad_request
from carpool.serve.signature import Field, Shape, take_apart, to_array
from carpool.units import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_DIMENSIONS = 32
MAX_SIZE = 1 << 40
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


class JsonTensor(msgspec.Struct, omit_defaults=True):
    """A tensor as it stands in JSON; `data` is flat in row-major order, or nested as `shape` says."""

    name: str
    shape: list[int]
    datatype: str
    data: Any
    parameters: dict[str, Any] = {}


def read_tensor(tensor: JsonTensor, *, max_rows: int) -> Array:
    """Read a tensor out of JSON.

    Args:
        tensor: as the client sent it.
        max_rows: the most rows that one request may have.

    Returns:
        An array of the tensor's shape; of Python strings for BYTES.

    Raises:
        Fault: datatype, shape and data do not fit together.
    """
    dtype = NUMPY.get(tensor.datatype)
    if dtype is None:
        raise bad_request(f"{_name(tensor)} has the datatype {tensor.datatype!r}: use one of {', '.join(NUMPY)}")
    shape = _checked_shape(tensor, max_rows)
    values = _flat(tensor, shape)
    _check_types(tensor, values, dtype)
    if dtype.kind in "ui":
        _check_range(tensor, values, dtype)
    return _as_array(tensor, values, dtype).reshape(shape)


def _name(tensor: JsonTensor) -> str:
    return f"the input {_short(tensor.name)}"


def _short(value: Any) -> str:
    """Show a value of any size and depth in a few characters."""
    return reprlib.repr(value)


def _checked_shape(tensor: JsonTensor, max_rows: int) -> tuple[int, ...]:
    shape = tensor.shape
    if not 1 <= len(shape) <= MAX_DIMENSIONS or min(shape) < 0 or max(shape) > MAX_SIZE:
        limits = f"1 to {MAX_DIMENSIONS} sizes from 0 to {MAX_SIZE:,}"
        raise bad_request(f"{_name(tensor)} has the shape {_short(shape)}: give {limits}, the batch first")
    if not 1 <= shape[0] <= max_rows:
        raise bad_request(
            f"{_name(tensor)} has {_short(shape[0])} rows, of 1 to {max_rows:,} that one request may have: split it"
        )
    return tuple(shape)


def _flat(tensor: JsonTensor, shape: tuple[int, ...]) -> list[Any]:
    """Return the values in row-major order, having checked that they are as many as the shape says."""
    if not isinstance(tensor.data, list):
        raise bad_request(f"{_name(tensor)} has {_short(tensor.data)} for data: give a list")
    values: list[Any] = tensor.data
    if values and type(values[0]) is list:
        for size in shape[1:]:
            if not all(type(value) is list and len(value) == size for value in values):
                shown = _short(tensor.shape)
                raise bad_request(f"{_name(tensor)} is not nested as its shape {shown} says: make them agree")
            values = list(chain.from_iterable(values))
    if len(values) != math.prod(shape):
        raise bad_request(
            f"{_name(tensor)} has {counted(len(values), 'value')}, and its shape {_short(tensor.shape)} means "
            f"{_short(math.prod(shape))}: make them agree"
        )
    return values


def _check_types(tensor: JsonTensor, values: list[Any], dtype: np.dtype[Any]) -> None:
    allowed, called = _JSON_TYPES[dtype.kind]
    if not set(map(type, values)) <= allowed:
        index, value = next((i, v) for i, v in enumerate(values) if type(v) not in allowed)
        found = f"value {index} of its data is {_short(value)}"
        raise bad_request(f"{_name(tensor)} is {tensor.datatype}, and {found}: give {called}")


def _check_range(tensor: JsonTensor, values: list[int], dtype: np.dtype[Any]) -> None:
    limits = np.iinfo(dtype)
    if values and (min(values) < limits.min or max(values) > limits.max):
        value = min(values) if min(values) < limits.min else max(values)
        span = f"{tensor.datatype} goes from {limits.min} to {limits.max}"
        raise bad_request(f"{_name(tensor)} holds {_short(value)}: {span}")


def _as_array(tensor: JsonTensor, values: list[Any], dtype: np.dtype[Any]) -> Array:
    if dtype.kind != "f":
        return np.array(values, dtype=dtype)
    try:
        array = np.array(values, dtype=np.float64)
    except OverflowError:
        raise bad_request(f"{_name(tensor)} holds a number beyond what {tensor.datatype} can be: scale it") from None
    return _narrowed(tensor, array, dtype)


def _narrowed(tensor: JsonTensor, array: Array, dtype: np.dtype[Any]) -> Array:
    """Change the type of floats; what would become infinite is refused."""
    with np.errstate(over="ignore"):
        narrow = array.astype(dtype)
    if not np.isfinite(narrow).all():
        worst = np.abs(array).max()
        raise bad_request(f"{_name(tensor)} holds {worst:g}: {dtype} goes up to {np.finfo(dtype).max:g}; scale it")
    return narrow


def to_field(tensor: JsonTensor, array: Array, field: Field) -> Array:
    """Make a tensor what the model takes, or say why it is not.

    Raises:
        Fault: its datatype or the shape of its rows is another.
    """
    if not field.takes(array.shape[1:]):
        expected = f"{list(field.declared_shape)} is expected, -1 being any size"
        raise bad_request(f"{_name(tensor)} has the shape {_short(list(array.shape))}: {expected}")
    wanted = NUMPY[field.datatype]
    if array.dtype == wanted:
        return array
    both_floats = array.dtype.kind == wanted.kind == "f"
    whole_to_float = array.dtype.kind in "ui" and wanted.kind == "f"
    if both_floats or whole_to_float:
        return _narrowed(tensor, array, wanted)
    if BYTES not in (tensor.datatype, field.datatype) and np.can_cast(array.dtype, wanted, "safe"):
        return array.astype(wanted)
    raise bad_request(f"{_name(tensor)} is {tensor.datatype}: {field.datatype} is expected")


def to_rows(array: Array, field: Field | None) -> list[Any]:
    """Split a tensor into what the model takes for each row.

    Args:
        array: (rows, ...).
        field: what the model takes; None where that is not known, and a row of one text is a text.
    """
    form = field.form if field else _guessed_form(array)
    if form in ("scalar", "list"):
        values: list[Any] = (array.reshape(-1) if form == "scalar" else array).tolist()
        return values
    if form == "tensor":
        import torch

        return list(torch.from_numpy(array))
    return list(array)


def _guessed_form(array: Array) -> str:
    row_size = math.prod(array.shape[1:])
    if array.ndim == 1 or (array.dtype.kind == "O" and row_size == 1):
        return "scalar"
    return "list" if array.dtype.kind == "O" else "array"


def write_results(results: Sequence[Any], *, name: str, declared: Shape | None) -> list[JsonTensor]:
    """Turn results into tensors.

    Args:
        results: one a row, at least one.
        name: what to call the tensor where there is but one.
        declared: what clients were told to expect; whole numbers among floats are written as floats.

    Raises:
        ModelError: the results do not make a tensor together.
    """
    parts = [take_apart(result, name)[1] for result in results]
    names = list(parts[0])
    for row, part in enumerate(parts):
        if list(part) != names:
            raise ModelError(f"row {row} gave {_short(list(part))} and row 0 {_short(names)}: send them one by one")
    datatypes = {field.name: field.datatype for field in declared.fields} if declared else {}
    return [_write_one([part[key] for part in parts], key, datatypes.get(key)) for key in names]


def _write_one(values: list[Any], name: str, datatype: str | None) -> JsonTensor:
    arrays = [to_array(value) for value in values]
    known = [array for array in arrays if array is not None]
    if len(known) < len(arrays):
        return _as_documents(values, name)
    odd = next((row for row, array in enumerate(known) if array.shape != known[0].shape), None)
    if odd is not None:
        raise ModelError(
            f"the output {name!r} of row {odd} has the shape {list(known[odd].shape)} and that of row 0 "
            f"{list(known[0].shape)}, which make no tensor: send such rows one by one"
        )
    stacked = np.stack(known)
    if datatype and NUMPY[datatype].kind == "f" and stacked.dtype.kind in "ui":
        stacked = stacked.astype(NUMPY[datatype])
    return _to_json(stacked if stacked.ndim > 1 else stacked[:, None], name)


def _to_json(array: Array, name: str) -> JsonTensor:
    datatype = datatype_of(array)
    assert datatype is not None, "to_array lets only such arrays through"
    if array.dtype.kind == "f":
        _check_finite(array, name)
        array = shortened(array)
    return JsonTensor(name=name, shape=list(array.shape), datatype=datatype, data=array.reshape(-1).tolist())


def _check_finite(array: Array, name: str) -> None:
    finite = np.isfinite(array).reshape(len(array), -1).all(axis=1)
    if not finite.all():
        row = int(np.argmin(finite))
        what = f"the output {name!r} of row {row}"
        raise ModelError(f"{what} is not finite, which JSON can't say: mend the model or its input")


def _as_documents(values: list[Any], name: str) -> JsonTensor:
    """Write results that are no tensors as JSON documents in strings."""
    try:
        documents = [msgspec.json.encode(value).decode() for value in values]
    except (TypeError, ValueError, RecursionError) as error:
        remedy = "return numbers, texts, arrays, lists or dicts"
        raise ModelError(f"the output {name!r} can't be sent ({error}): {remedy}") from None
    return JsonTensor(name=name, shape=[len(values), 1], datatype=BYTES, data=documents)
