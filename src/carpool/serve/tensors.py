"""Tensors, however they came: into the items that a model takes, and back from its results."""

from __future__ import annotations

import math
import reprlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from carpool.errors import ModelError
from carpool.models.blame import text_of
from carpool.serve.datatypes import BF16, BYTES, NUMPY, Array, datatype_of
from carpool.serve.faults import bad_request
from carpool.serve.shapes import check_rows
from carpool.serve.signature import Field, Shape, take_apart, to_array

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor with its name.

    Args:
        name: what clients call it.
        datatype: as the protocol names it.
        array: (rows, ...); for BYTES of Python `str` or `bytes`, for BF16 of float32.
    """

    name: str
    datatype: str
    array: Array


# ------------------------------------------------------------------------------------------------------ into items


def to_items(tensors: Sequence[Tensor], expected: Shape | None, *, max_rows: int) -> list[Any]:
    """Turn the tensors of a request into items.

    Args:
        tensors: as the client sent them, in any order.
        expected: what items are made of; None where the model has not said, and any one tensor is taken.
        max_rows: the most rows that one request may have.

    Returns:
        One item a row, as the model takes them.

    Raises:
        Fault: they are not what the model takes.
    """
    if not tensors:
        raise bad_request("the request has 0 inputs: give at least one")
    for tensor in tensors:
        check_rows(tensor.array.shape, name=tensor.name, max_rows=max_rows)
    if len({len(tensor.array) for tensor in tensors}) > 1:
        rows = ", ".join(f"{tensor.name[:60]!r} {len(tensor.array)}" for tensor in tensors)
        raise bad_request(f"the inputs have different numbers of rows ({rows}): their first size is the batch")
    return _unknown(tensors) if expected is None else _known(tensors, expected)


def _unknown(tensors: Sequence[Tensor]) -> list[Any]:
    """Make items for a model that has not said what it takes."""
    if len(tensors) > 1:
        raise bad_request(f"the request has {len(tensors)} inputs, and this model takes one: leave the others out")
    (tensor,) = tensors
    if tensor.datatype == BYTES:
        tensor = replace(tensor, array=_as_elements(tensor, as_bytes=False))
    return _to_rows(tensor.array, _guessed_form(tensor.array))


def _guessed_form(array: Array) -> str:
    row_size = math.prod(array.shape[1:])
    if array.ndim == 1 or (array.dtype.kind == "O" and row_size == 1):
        return "scalar"
    return "list" if array.dtype.kind == "O" else "array"


def _known(tensors: Sequence[Tensor], expected: Shape) -> list[Any]:
    by_name = {tensor.name: tensor for tensor in tensors}
    names = [field.name for field in expected.fields]
    if sorted(by_name) != sorted(names) or len(tensors) != len(names):
        given = ", ".join(repr(tensor.name[:60]) for tensor in tensors)
        raise bad_request(f"the inputs are {given}: this model takes {', '.join(map(repr, names))}, each once")
    columns = [_column(by_name[field.name], field) for field in expected.fields]
    if expected.container == "one":
        return columns[0]
    rows = zip(*columns, strict=True)
    return [dict(zip(names, row, strict=True)) for row in rows] if expected.container == "dict" else list(rows)


def _column(tensor: Tensor, field: Field) -> list[Any]:
    """Return what the model takes for each row of one tensor."""
    array = to_field(tensor, field)
    if field.form != "tensor":
        return _to_rows(array, field.form)
    import torch

    whole = torch.from_numpy(array if array.flags.writeable else array.copy())
    return list(whole.to(torch.bfloat16) if field.datatype == BF16 else whole)


def _to_rows(array: Array, form: str) -> list[Any]:
    if form in ("scalar", "list"):
        values: list[Any] = (array.reshape(-1) if form == "scalar" else array).tolist()
        return values
    return list(array)


def to_field(tensor: Tensor, field: Field) -> Array:
    """Make a tensor what the model takes, or say why it is not.

    Raises:
        Fault: its datatype or the shape of its rows is another.
    """
    array = tensor.array
    if not field.takes(array.shape[1:]):
        expected = f"{list(field.declared_shape)} is expected, -1 being any size"
        raise bad_request(f"{_input(tensor)} has the shape {reprlib.repr(list(array.shape))}: {expected}")
    if BYTES in (tensor.datatype, field.datatype):
        if tensor.datatype != field.datatype:
            raise _other_datatype(tensor, field)
        return _as_elements(tensor, as_bytes=field.as_bytes)
    wanted = NUMPY[field.datatype]
    if array.dtype == wanted:
        return array
    if wanted.kind == "f" and array.dtype.kind in "uif":
        return narrowed(array, wanted, name=tensor.name)
    if np.can_cast(array.dtype, wanted, "safe"):
        return array.astype(wanted)
    raise _other_datatype(tensor, field)


def _input(tensor: Tensor) -> str:
    return f"the input {tensor.name[:60]!r}"


def _other_datatype(tensor: Tensor, field: Field) -> Exception:
    return bad_request(f"{_input(tensor)} is {tensor.datatype}: {field.datatype} is expected")


def _as_elements(tensor: Tensor, *, as_bytes: bool) -> Array:
    """Turn the elements of BYTES into texts, or into bytes."""
    values: list[Any] = tensor.array.reshape(-1).tolist()
    for index, value in enumerate(values):
        if isinstance(value, str) == as_bytes:
            try:
                values[index] = value.encode() if as_bytes else value.decode()
            except UnicodeError:
                what = f"element {index} of {_input(tensor)} is {reprlib.repr(value)}, which is not UTF-8"
                raise bad_request(f"{what}: this model takes texts") from None
    array = np.empty(len(values), object)
    array[:] = values
    return array.reshape(tensor.array.shape)


def narrowed(array: Array, dtype: np.dtype[Any], *, name: str) -> Array:
    """Change numbers to another type of floats.

    Args:
        array: floats or whole numbers.
        dtype: of floats.
        name: the tensor's, for messages.

    Raises:
        Fault: a number would become infinite that was not.
    """
    with np.errstate(over="ignore"):
        narrow = array.astype(dtype)
    lost = np.isinf(narrow) & np.isfinite(array)
    if lost.any():
        worst = np.abs(array[lost].astype(np.float64)).max()
        limit = f"{dtype} goes up to {np.finfo(dtype).max:g}"
        raise bad_request(f"the input {name[:60]!r} holds {worst:g}: {limit}; scale it")
    return narrow


# --------------------------------------------------------------------------------------------------- out of results


def to_tensors(results: Sequence[Any], *, name: str, declared: Shape | None) -> list[Tensor]:
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
            given, first = reprlib.repr(list(part)), reprlib.repr(names)
            raise ModelError(f"row {row} gave {given} and row 0 {first}: send them one by one")
    datatypes = {field.name: field.datatype for field in declared.fields} if declared else {}
    return [_to_tensor([part[key] for part in parts], key, datatypes.get(key)) for key in names]


def _to_tensor(values: list[Any], name: str, datatype: str | None) -> Tensor:
    arrays = [to_array(value) for value in values]
    known = [array for array in arrays if array is not None]
    if len(known) < len(arrays):
        return Tensor(name, BYTES, _as_documents(values, name))
    odd = next((row for row, array in enumerate(known) if array.shape != known[0].shape), None)
    if odd is not None:
        raise ModelError(
            f"the output {name!r} of row {odd} has the shape {list(known[odd].shape)} and that of row 0 "
            f"{list(known[0].shape)}, which make no tensor: send such rows one by one"
        )
    stacked = np.stack(known)
    if stacked.dtype.kind == "U":
        _check_unicode(stacked, name)
    if datatype and NUMPY[datatype].kind == "f" and stacked.dtype.kind in "uif":
        stacked = _as_declared(stacked, datatype)
    found = datatype if datatype == BF16 else datatype_of(stacked)
    if found is None:
        raise ModelError(f"the output {name!r} is made of {stacked.dtype}, which the protocol can't say: cast it")
    return Tensor(name, found, stacked if stacked.ndim > 1 else stacked[:, None])


def _check_unicode(array: Array, name: str) -> None:
    try:
        "".join(array.reshape(-1).tolist()).encode()
    except UnicodeEncodeError:
        for row, texts in enumerate(array):
            _check_row(texts, name, row)


def _check_row(texts: Array, name: str, row: int) -> None:
    try:
        "".join(texts.reshape(-1).tolist()).encode()
    except UnicodeEncodeError as error:
        raise unsent(f"the output {name!r} of row {row}", error) from None


def _as_declared(array: Array, datatype: str) -> Array:
    """Write whole numbers as the floats that were declared, and leave wider floats as they are."""
    declared = NUMPY[datatype]
    return array.astype(declared) if array.dtype.kind in "ui" or datatype == BF16 else array


def _as_documents(values: list[Any], name: str) -> Array:
    """Write results that are no tensors as JSON documents in strings."""
    documents = []
    for row, value in enumerate(values):
        try:
            documents.append(msgspec.json.encode(value).decode())
        except (TypeError, ValueError, RecursionError) as error:
            raise unsent(f"the output {name!r} of row {row}", error) from None
    return np.array(documents, object)[:, None]


def unsent(what: str, error: Exception) -> ModelError:
    """Return the error of a result that can't be written.

    Args:
        what: the result, such as `the result of row 3`.
        error: what writing it raised.
    """
    why, remedy = text_of(error), "return numbers, texts, arrays, lists or dicts"
    if isinstance(error, UnicodeEncodeError):
        why, remedy = f"it holds {error.object[error.start]!r}, which is no Unicode", "mend the model"
    elif isinstance(error, RecursionError):
        why = "it is nested too deeply, or holds itself"
    return ModelError(f"{what} can't be sent ({why}): {remedy}")


def classified(tensor: Tensor, num_classes: int) -> Tensor:
    """Keep the largest values of each row, as texts of the value and its position: `0.900000:2`.

    Args:
        tensor: of numbers.
        num_classes: how many to keep, at least 1; all where there are fewer.

    Returns:
        A tensor of BYTES (rows, classes), the largest first.

    Raises:
        Fault: it holds texts.

    Source: the classification extension of NVIDIA Triton (docs/protocol/extension_classification.md)

    >>> classified(Tensor("p", "FP32", np.array([[0.1, 0.9, 0.5]])), 2).array.tolist()
    [['0.900000:1', '0.500000:2']]
    """
    if tensor.datatype == BYTES:
        raise bad_request(f"the output {tensor.name[:60]!r} is BYTES: classes can be told of numbers only")
    rows = tensor.array.reshape(len(tensor.array), -1)
    best = np.argsort(-rows.astype(np.float64), axis=1, kind="stable")[:, :num_classes]
    texts = [[f"{row[index]:f}:{index}" for index in chosen] for row, chosen in zip(rows, best, strict=True)]
    return Tensor(tensor.name, BYTES, np.array(texts, object).reshape(len(rows), best.shape[1]))
