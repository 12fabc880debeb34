"""A short name for a payload: equal payloads have the same, and others another."""

from __future__ import annotations

import hashlib
import struct
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

_NUM_BYTES = 16  # 2**64 payloads before a chance of one half that any two agree


class _NotKnownError(Exception):
    """A payload holds something of which it is not known when two are equal."""


def digest(payload: Any) -> bytes | None:
    """Return a name made of everything that a payload holds, types, dtypes and shapes included.

    Args:
        payload: numbers, texts, bytes, arrays, tensors, and lists, tuples and mappings of these.

    Returns:
        None for anything else: it can't be told whether two are equal.

    >>> digest([1, 2]) == digest([1, 2]), digest([1, 2]) == digest([12]), digest(1) == digest(1.0)
    (True, False, False)
    >>> digest(object()) is None
    True
    """
    found = hashlib.blake2b(digest_size=_NUM_BYTES)
    try:
        _add(found, payload)
    except _NotKnownError:
        return None
    return found.digest()


def _add(found: hashlib.blake2b, value: Any) -> None:
    """Add a value: a letter for its type, its size, and what it holds, so that no two can run into each other."""
    kind = type(value)
    if kind is str:
        _tagged(found, b"s", value.encode("utf-8", "surrogatepass"))
    elif kind is bytes or kind is bytearray:
        _tagged(found, b"b", bytes(value))
    elif kind is float:
        _tagged(found, b"f", struct.pack("<d", value))
    elif kind is int or kind is bool or value is None:
        _tagged(found, b"i", repr(value).encode())
    elif kind is list or kind is tuple:
        _add_sequence(found, value)
    elif isinstance(value, np.ndarray | np.generic):
        _add_array(found, np.asarray(value))
    elif isinstance(value, Mapping):
        _tagged(found, b"m", b"%d" % len(value))
        for key in sorted(value, key=repr):
            _add(found, key)
            _add(found, value[key])
    else:
        _add_tensor(found, value)


def _tagged(found: hashlib.blake2b, tag: bytes, content: bytes) -> None:
    found.update(b"%s%d:" % (tag, len(content)))
    found.update(content)


def _add_sequence(found: hashlib.blake2b, values: Any) -> None:
    if values and all(type(value) is int for value in values):  # token ids: at once
        _tagged(found, b"n", repr(values).encode())
        return
    _tagged(found, b"l", b"%d" % len(values))
    for value in values:
        _add(found, value)


def _add_array(found: hashlib.blake2b, array: np.ndarray[Any, Any]) -> None:
    if array.dtype.hasobject:
        _tagged(found, b"o", repr(array.shape).encode())
        _add_sequence(found, array.reshape(-1).tolist())
        return
    _tagged(found, b"a", f"{array.dtype.str}{array.shape}".encode())
    _tagged(found, b"d", array.tobytes())


def _add_tensor(found: hashlib.blake2b, value: Any) -> None:
    """Add a tensor of PyTorch, of whatever dtype, without importing it."""
    if type(value).__module__ != "torch" or not hasattr(value, "untyped_storage"):
        raise _NotKnownError
    rows = value.detach().cpu().contiguous()
    _tagged(found, b"t", f"{rows.dtype}{tuple(rows.shape)}".encode())
    _tagged(found, b"d", rows.reshape(-1).view(sys.modules["torch"].uint8).numpy().tobytes())
