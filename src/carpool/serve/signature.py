"""What a model takes and gives, as tensors: read off example items and their results."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from carpool.serve.datatypes import BF16, BYTES, NUMPY, Array, datatype_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Form: TypeAlias = Literal["scalar", "list", "array", "tensor"]
"""What one row becomes for the model: a Python number or text, (nested) lists, numpy's array, or PyTorch's."""
Container: TypeAlias = Literal["one", "dict", "tuple"]
"""What an item or result is made of: one tensor, several by name, or several in order."""

_PLAIN: tuple[type, ...] = (bool, int, float, str, bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One tensor of an item or of a result.

    Args:
        name: what clients call it.
        datatype: as the protocol names it, such as `FP32`.
        shape: of one row, without the batch; -1 where rows differ; () for a single value.
        form: what the model takes it as.
        as_bytes: whether an element of BYTES is Python's bytes for the model, rather than a text.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    form: Form
    as_bytes: bool = False

    @property
    def declared_shape(self) -> tuple[int, ...]:
        """The shape that clients are told: the batch first, a single value as a row of one."""
        return (-1, *(self.shape or (1,)))

    def takes(self, shape: tuple[int, ...]) -> bool:
        """Tell whether a row may have this shape."""
        own = self.shape or (1,)
        shape = shape or (1,)
        return len(own) == len(shape) and all(size in (-1, given) for size, given in zip(own, shape, strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What items, or results, are made of.

    Args:
        container: one tensor or several.
        fields: the tensors, in order.
    """

    container: Container
    fields: tuple[Field, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """What a model takes and gives.

    Args:
        inputs: what items are made of; None where there were no examples to tell, and any one tensor is taken.
        outputs: what results are made of; None where that can't be told.
    """

    inputs: Shape | None = None
    outputs: Shape | None = None


def describe(values: Sequence[Any], *, name: str) -> Shape | None:
    """Tell what values are made of, from a few of them.

    Args:
        values: items or results, at least one.
        name: what to call the tensor where there is but one.

    Returns:
        None where they are not numbers, texts or arrays, or not all of one kind.

    >>> describe([{"label": "cat", "score": 0.5}], name="output").fields[1].declared_shape
    (-1, 1)
    """
    shapes = [_describe_one(value, name) for value in values]
    merged = shapes[0]
    for shape in shapes[1:]:
        merged = _merge(merged, shape)
    return merged


def _describe_one(value: Any, name: str) -> Shape | None:
    container, parts = take_apart(value, name)
    fields = [_field(part, part_name) for part_name, part in parts.items()]
    known = tuple(field for field in fields if field is not None)
    return Shape(container=container, fields=known) if known and len(known) == len(fields) else None


def take_apart(value: Any, name: str) -> tuple[Container, Mapping[str, Any]]:
    """Take an item or result apart into its tensors by name.

    A tuple of plain numbers is a row; a tuple that holds anything larger is several tensors.
    """
    if isinstance(value, dict) and value and all(isinstance(key, str) for key in value):
        return "dict", value
    if isinstance(value, tuple) and value and not all(isinstance(part, _PLAIN) for part in value):
        return "tuple", {f"{name}_{index}": part for index, part in enumerate(value)}
    return "one", {name: value}


def _field(value: Any, name: str) -> Field | None:
    array = to_array(value)
    datatype = None if array is None else datatype_of(array)
    if array is None or datatype is None:
        return None
    as_bytes = array.dtype.kind == "O"
    datatype = BF16 if _is_bfloat16(value) else datatype
    return Field(name=name, datatype=datatype, shape=array.shape, form=_form(value), as_bytes=as_bytes)


def to_array(value: Any) -> Array | None:
    """Turn a number, a text, bytes, (nested) lists of them, or an array into an array; None for anything else.

    Bytes become an array of objects, since numpy's own type for them loses zeros at their end; bfloat16 becomes
    float32, which holds each of its values.
    """
    if _is_tensor(value):
        value = (value.float() if _is_bfloat16(value) else value).detach().cpu().numpy()
    if not isinstance(value, np.ndarray | np.generic | list | tuple | bool | int | float | str | bytes):
        return None
    try:
        array = np.asarray(value)
        array = np.asarray(value, object) if array.dtype.kind == "S" else array
    except (ValueError, OverflowError):  # ragged, or beyond 64 bits
        return None
    if array.dtype.kind == "O":
        return _of_one_kind(array)
    mixed = array.dtype.kind == "U" and not _all_text(value)
    return None if mixed or array.dtype.kind not in "biufU" else array


def _of_one_kind(objects: Array) -> Array | None:
    kinds = set(map(type, objects.reshape(-1).tolist()))
    if kinds == {bytes}:
        return objects
    return objects.astype(np.str_) if kinds == {str} else None


def _all_text(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(_all_text(part) for part in value)
    return isinstance(value, str | np.ndarray)


def _is_bfloat16(value: Any) -> bool:
    return str(getattr(value, "dtype", "")) == "torch.bfloat16"


def _is_tensor(value: Any) -> bool:
    return type(value).__module__.partition(".")[0] == "torch" and hasattr(value, "numpy")


def _form(value: Any) -> Form:
    if _is_tensor(value):
        return "tensor"
    if isinstance(value, np.ndarray):
        return "array"
    return "list" if isinstance(value, list | tuple) else "scalar"


def _merge(one: Shape | None, other: Shape | None) -> Shape | None:
    """Describe both at once; None where they have too little in common."""
    if one is None or other is None or one.container != other.container or len(one.fields) != len(other.fields):
        return None
    merged = [_merge_fields(a, b) for a, b in zip(one.fields, other.fields, strict=True)]
    known = tuple(field for field in merged if field is not None)
    return replace(one, fields=known) if len(known) == len(merged) else None


def _merge_fields(one: Field, other: Field) -> Field | None:
    alike = (one.name, one.form, one.as_bytes) == (other.name, other.form, other.as_bytes)
    alike = alike and len(one.shape) == len(other.shape)
    if not alike or (BYTES in (one.datatype, other.datatype) and one.datatype != other.datatype):
        return None
    shape = tuple(a if a == b else -1 for a, b in zip(one.shape, other.shape, strict=True))
    return replace(one, shape=shape, datatype=_wider(one.datatype, other.datatype))


def _wider(one: str, other: str) -> str:
    if one == other:
        return one
    return datatype_of(np.empty(0, np.promote_types(NUMPY[one], NUMPY[other]))) or one
