"""Plain JSON: `{"input": ITEM}` is answered `{"output": RESULT}`, and `{"inputs": [...]}` `{"outputs": [...]}`.

The shortest way to a model, for clients and for the server: what a model takes is compiled once into a decoder of just
that. Everything here is a pure function of bytes and values.
"""

from __future__ import annotations

import reprlib
import struct
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import msgspec
import numpy as np
from msgspec import Meta

from carpool.serve.datatypes import BF16, BYTES, NUMPY, Array, shortened
from carpool.serve.faults import Fault, bad_request
from carpool.serve.oip import decode_json
from carpool.serve.signature import to_array
from carpool.serve.tensors import narrowed, unsent
from carpool.units import with_article

if TYPE_CHECKING:
    from carpool.serve.signature import Field, Shape, Signature

_Convert = Callable[[Any], Any]
_ELEMENTS: Mapping[str, type] = MappingProxyType({"b": bool, "u": int, "i": int, "f": float})
_DOUBLE = 8  # bytes of a number that JSON says in full anyway
_INT64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
# How `struct` calls the datatypes, of which it refuses numbers beyond their range by itself.
_PACKED: Mapping[str, str] = MappingProxyType(
    {
        "BOOL": "?",
        "INT8": "b",
        "INT16": "h",
        "INT32": "i",
        "INT64": "q",
        "UINT8": "B",
        "UINT16": "H",
        "UINT32": "I",
        "UINT64": "Q",
        "FP16": "e",
        "FP32": "f",
        "FP64": "d",
    }
)


class PlainCodec:
    """Reads plain requests for one model.

    Args:
        signature: what the model takes.
        takes_token_ids: whether it takes lists of token ids for texts.

    >>> from carpool.serve.signature import Signature, describe
    >>> codec = PlainCodec(Signature(inputs=describe([np.zeros(2, np.float32)], name="input")))
    >>> codec.read(b'{"input": [1, 2.5]}', max_rows=8)
    ([array([1. , 2.5], dtype=float32)], False)
    """

    def __init__(self, signature: Signature, *, takes_token_ids: bool = False) -> None:
        inputs = signature.inputs
        kind = Any if inputs is None else _type_of(inputs)
        kind = kind | list[int] if takes_token_ids else kind
        self._convert = None if inputs is None else _converter(inputs)
        fields = [
            ("input", kind | msgspec.UnsetType, msgspec.UNSET),
            ("inputs", list[kind] | msgspec.UnsetType, msgspec.UNSET),  # type: ignore[valid-type]
        ]
        body = msgspec.defstruct("PlainRequest", fields, forbid_unknown_fields=True)
        self._decode = msgspec.json.Decoder(body).decode

    def read(self, body: bytes, *, max_rows: int) -> tuple[list[Any], bool]:
        """Read a request.

        Args:
            body: as it came.
            max_rows: the most rows that one request may have.

        Returns:
            The items, and whether the client sent a list of them rather than one.

        Raises:
            Fault: it is not a request that this model can answer; the message says why.
        """
        document = decode_json(self._decode, body)
        one, many = document.input, document.inputs
        if (one is msgspec.UNSET) is (many is msgspec.UNSET):
            raise bad_request('the body must have either "input", one item, or "inputs", a list of items')
        if many is msgspec.UNSET:
            return [one if self._convert is None else self._convert(one)], False
        if not 1 <= len(many) <= max_rows:
            remedy = "split it" if many else "give one at least"
            raise bad_request(f"inputs has {len(many):,} items, of 1 to {max_rows:,} in one request: {remedy}")
        return (many if self._convert is None else self._all(many)), True

    def _all(self, many: list[Any]) -> list[Any]:
        assert self._convert is not None, "asked for only then"
        items = []
        for index, value in enumerate(many):
            try:
                items.append(self._convert(value))
            except Fault as fault:
                raise bad_request(f"item {index} of {len(many)}: {fault}") from None
        return items


# ------------------------------------------------------------------------------------------- what items are in JSON


def _type_of(shape: Shape) -> Any:
    """Return the type that decodes an item."""
    types = {field.name: _type_of_field(field) for field in shape.fields}
    if shape.container == "one":
        return types[shape.fields[0].name]
    if shape.container == "dict":
        return TypedDict("Item", types)  # type: ignore[operator]
    return tuple[tuple(types.values())]  # type: ignore[misc]


def _type_of_field(field: Field) -> Any:
    if field.datatype == BYTES:
        kind: Any = bytes if field.as_bytes else str  # bytes stand in JSON as base64
    else:
        kind = _ELEMENTS[NUMPY[field.datatype].kind]
        kind = _INT64 if field.datatype == "INT64" else kind
    for size in reversed(field.shape):
        kind = list[kind] if size < 0 else Annotated[list[kind], Meta(min_length=size, max_length=size)]
    return kind


def _converter(shape: Shape) -> _Convert | None:
    """Return what makes of a decoded item what the model takes; None where it is that already."""
    converts = {field.name: convert for field in shape.fields if (convert := _field_converter(field)) is not None}
    if not converts:
        return None
    if shape.container == "one":
        return converts[shape.fields[0].name]
    if shape.container == "tuple":
        by_position = [converts.get(field.name) for field in shape.fields]
        return lambda item: tuple(
            value if convert is None else convert(value) for value, convert in zip(item, by_position, strict=True)
        )
    return lambda item: {**item, **{name: convert(item[name]) for name, convert in converts.items()}}


def _field_converter(field: Field) -> _Convert | None:
    if field.form in ("scalar", "list"):
        return None
    to_one = _packer(field) if len(field.shape) == 1 and field.shape[0] >= 0 else _stacker(field)
    to_one = to_one or _stacker(field)
    return to_one if field.form == "array" else _to_torch(field, to_one)


def _packer(field: Field) -> Callable[[Any], Array] | None:
    """Return what makes an array of so many numbers, in half the time that numpy takes for it."""
    code = _PACKED.get(field.datatype)
    if code is None:
        return None
    packed, dtype, name = struct.Struct(f"={field.shape[0]}{code}"), NUMPY[field.datatype], field.name
    size, pack_into, from_buffer = packed.size, packed.pack_into, np.frombuffer

    def pack(values: Sequence[Any]) -> Array:
        buffer = bytearray(size)
        try:
            pack_into(buffer, 0, *values)
        except (OverflowError, struct.error) as error:
            raise _beyond(name, field.datatype, error) from None
        return from_buffer(buffer, dtype)

    return pack


def _stacker(field: Field) -> Callable[[Any], Array]:
    """Return what makes an array of nested lists."""
    dtype, name, num_dimensions = NUMPY[field.datatype], field.name, len(field.shape)

    def stack(values: Any) -> Array:
        try:
            array = np.array(values, np.float64 if dtype.kind == "f" else dtype, ndmin=num_dimensions)
        except OverflowError as error:
            raise _beyond(name, field.datatype, error) from None
        except ValueError:
            raise bad_request(f"the input {name[:60]!r} is a list of lists of different lengths: pad them") from None
        return narrowed(array, dtype, name=name) if dtype.kind == "f" else array

    return stack


def _beyond(name: str, datatype: str, error: Exception) -> Fault:
    return bad_request(f"the input {name[:60]!r} holds a number beyond what {datatype} can be ({error}): scale it")


def _to_torch(field: Field, to_one: Callable[[Any], Array]) -> _Convert:
    def convert(values: Any) -> Any:
        import torch

        tensor = torch.from_numpy(to_one(values))
        return tensor.to(torch.bfloat16) if field.datatype == BF16 else tensor

    return convert


# ------------------------------------------------------------------------------------------------------------ answers


def _plain(value: Any) -> Any:
    """Turn what JSON has no word for into what it has: arrays and tensors into lists."""
    if value is None or isinstance(value, bool | tuple | list):  # which JSON has, and not for keys
        raise NotImplementedError(f"a dict with {reprlib.repr(value)} for a key")
    if isinstance(value, np.generic):
        return float(str(value)) if _is_narrow(value.dtype) else value.item()
    array = value if isinstance(value, np.ndarray) else to_array(value)
    if array is None:
        raise NotImplementedError(with_article(type(value).__name__))
    return (shortened(array) if _is_narrow(array.dtype) else array).tolist()


def _is_narrow(dtype: np.dtype[Any]) -> bool:
    """Tell whether floats have fewer digits than the float64 that JSON would print of them."""
    return dtype.kind == "f" and dtype.itemsize < _DOUBLE


_encode = msgspec.json.Encoder(enc_hook=_plain).encode


def write_plain(results: list[Any], *, many: bool) -> bytes:
    """Write results, each as JSON says it best: arrays as lists, bytes as base64, what is not finite as null.

    Args:
        results: one a row, in order.
        many: whether the client sent a list of items.

    Raises:
        ModelError: a result is nothing that JSON can say.

    >>> write_plain([np.array([0.5, 2], np.float32)], many=False)
    b'{"output":[0.5,2.0]}'
    """
    try:
        return _encode({"outputs": results} if many else {"output": results[0]})
    except (TypeError, ValueError, RecursionError, NotImplementedError) as error:
        raise unsent(f"the result{_of_row(results)}", error) from None


def _of_row(results: list[Any]) -> str:
    """Name the first of several results that can't be written."""
    if len(results) == 1:
        return ""
    for row, result in enumerate(results):
        try:
            _encode(result)
        except (TypeError, ValueError, RecursionError, NotImplementedError):
            return f" of row {row}"
    return ""
