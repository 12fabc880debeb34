"""What crosses between processes: rows packed into one array where they can be, and errors that always arrive."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from carpool.errors import CarpoolError, InvalidItem, ModelError, OutOfMemory, WrongResultCount
from carpool.models.blame import text_of
from carpool.runtime.failures import RaisedThere, raised_there

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_STACKED_TO_BYTES = 64 * 1024  # a larger row costs more to copy once more than to send apart
_PLAIN = "biufc"


@dataclass(frozen=True, slots=True)
class Stacked:
    """Rows of one shape and type, side by side in one array: one object to pickle in place of one a row."""

    array: Any


@dataclass(frozen=True, slots=True)
class PackedError:
    """An error that can be read wherever it arrives.

    Args:
        pickled: the error itself; empty where that can't be sent.
        kind: the nearest class of our own, which takes a message alone.
        text: its message.
        raised: what the model raised, as `RaisedThere` tells it; None where it raised nothing.
    """

    pickled: bytes
    kind: type[CarpoolError]
    text: str
    raised: tuple[str, str, str] | None = None


def pack(rows: Sequence[Any]) -> Any:
    """Make of rows what is cheap to send.

    >>> pack([np.zeros(3), np.ones(3)]).array.shape
    (2, 3)
    >>> pack(["a", "b"])
    ['a', 'b']
    """
    array = _side_by_side(rows)
    if array is not None:
        return Stacked(array)
    return [pack_error(row) if isinstance(row, CarpoolError) else row for row in rows]


def _side_by_side(rows: Sequence[Any]) -> NDArray[Any] | None:
    """Return rows in one array; None where they are no arrays of numbers, or not of one shape and type."""
    first = rows[0]
    if len(rows) == 1 or (type(first) is not np.ndarray and not isinstance(first, np.generic)):
        return None
    if first.nbytes > _STACKED_TO_BYTES or first.dtype.kind not in _PLAIN:
        return None
    kind, shape, dtype = type(first), first.shape, first.dtype
    if not all(type(row) is kind and row.shape == shape and row.dtype == dtype for row in rows):
        return None
    if kind is not np.ndarray:
        return np.array(rows, dtype)
    return np.concatenate(rows).reshape(len(rows), *shape) if shape else None


def unpack(packed: Any) -> list[Any]:
    """Return the rows again."""
    if isinstance(packed, Stacked):
        return list(packed.array)
    return [unpack_error(row) if isinstance(row, PackedError) else row for row in packed]


def pack_error(error: CarpoolError) -> PackedError:
    """Make an error ready to be sent; the classes of a user's own may not survive it, their text does."""
    kinds = (OutOfMemory, WrongResultCount, InvalidItem)
    kind: type[CarpoolError] = next((kind for kind in kinds if isinstance(error, kind)), ModelError)
    try:
        pickled = pickle.dumps(error)
        pickle.loads(pickled)  # noqa: S301 - what was pickled in the line above
    except Exception:  # noqa: BLE001 - the user's own class; its text is sent in its place
        pickled = b""
    return PackedError(pickled, kind, text_of(error), raised_there(error))


def unpack_error(packed: PackedError) -> CarpoolError:
    """Return the error itself where it can be made here, else one of our own with its text; its cause is told."""
    error = _made_here(packed)
    if packed.raised is not None:
        error.__cause__ = RaisedThere(*packed.raised)
    return error


def _made_here(packed: PackedError) -> CarpoolError:
    if packed.pickled:
        try:
            error = pickle.loads(packed.pickled)  # noqa: S301 - from our own child, see the channel
        except Exception:  # noqa: BLE001 - its class can't be found or made here
            error = None
        if isinstance(error, CarpoolError):
            return error
    return packed.kind(packed.text)


def sendable(rows: Sequence[Any]) -> list[Any]:
    """Put an error in the place of each row that can't be sent.

    Args:
        rows: what `pack` gave.
    """
    return [pack_error(error) if (error := _why_not(row)) else row for row in rows]


def _why_not(row: Any) -> CarpoolError | None:
    try:
        pickle.dumps(row, protocol=5)
    except Exception as error:  # noqa: BLE001 - whatever the user's own class raises
        return ModelError(
            f"the result can't be sent from the worker's process ({type(error).__name__}: {text_of(error)}): return "
            'arrays, numbers, texts, or lists and dicts of them, or run the model with worker="thread"'
        )
    return None
