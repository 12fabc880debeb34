"""Answers that are kept: a result is given again, for a while, to whoever sends the same item."""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

_ENTRY_BYTES = 256  # of an entry itself, beside its result


@dataclass(frozen=True, slots=True, kw_only=True)
class SharingPolicy:
    """What equal items share; nothing by default.

    Args:
        size_bytes: most bytes of results that are kept; 0 keeps none.
        ttl_s: how long a result is given again; 0 for as long as there is room.
        deduplicate: whether equal items that wait or run share one computation; they do where results are kept, too.
    """

    size_bytes: int = 0
    ttl_s: float = 0.0
    deduplicate: bool = False

    @property
    def is_on(self) -> bool:
        """Whether anything is shared."""
        return self.size_bytes > 0 or self.deduplicate


class ResponseCache:
    """The results used last, up to a number of bytes; safe on several threads.

    Args:
        size_bytes: most bytes of results, entries included.
        ttl_s: how long a result is given again; 0 for as long as there is room.

    >>> cache = ResponseCache(size_bytes=1000, ttl_s=5.0)
    >>> cache.put(b"key", "result", now=0.0)
    >>> cache.get(b"key", now=4.0), cache.get(b"key", now=6.0), cache.get(b"other", now=4.0)
    (('result',), None, None)
    """

    def __init__(self, *, size_bytes: int, ttl_s: float = 0.0) -> None:
        self.size_bytes = 0
        self.num_evicted = 0
        self._most_bytes = size_bytes
        self._ttl_s = ttl_s or float("inf")
        self._entries: OrderedDict[bytes, tuple[Any, int, float]] = (
            OrderedDict()
        )  # result, bytes, end; oldest use first
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes, now: float) -> tuple[Any] | None:
        """Return a result, in a tuple of one since it may be None; None where there is none."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            if now >= entry[2]:
                self._drop(key)
                return None
            self._entries.move_to_end(key)
            return (entry[0],)

    def put(self, key: bytes, result: Any, now: float) -> None:
        """Keep a result, in place of those whose last use is longest ago; one that is too large alone is not kept."""
        kept = _own(result)
        size = _ENTRY_BYTES + _size_of(kept)
        if size > self._most_bytes:
            return
        with self._lock:
            if key in self._entries:
                self._drop(key)
            self._entries[key] = (kept, size, now + self._ttl_s)
            self.size_bytes += size
            while self.size_bytes > self._most_bytes:
                self._drop(next(iter(self._entries)))
                self.num_evicted += 1

    def clear(self) -> None:
        """Forget all results."""
        with self._lock:
            self._entries.clear()
            self.size_bytes = 0

    def _drop(self, key: bytes) -> None:
        self.size_bytes -= self._entries.pop(key)[1]


def _own(result: Any) -> Any:
    """Return a result that holds no more than itself: a row of a batch's array would keep the whole array."""
    if isinstance(result, np.ndarray):
        own = result.copy()
        own.setflags(write=False)
        return own
    if type(result) in (list, tuple):
        return type(result)(_own(part) for part in result)
    if type(result) is dict:
        return {key: _own(part) for key, part in result.items()}
    clone = getattr(result, "clone", None)
    return clone() if callable(clone) else result


def _size_of(result: Any) -> int:
    """Return about how many bytes a result takes."""
    if isinstance(result, list | tuple):
        return sys.getsizeof(result) + sum(map(_size_of, result))
    if isinstance(result, Mapping):
        return sys.getsizeof(result) + sum(_size_of(key) + _size_of(part) for key, part in result.items())
    nbytes = getattr(result, "nbytes", None)
    return sys.getsizeof(result) if nbytes is None else 128 + int(nbytes)
