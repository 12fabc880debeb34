"""Memory that a process and its child both see: one writes, the other reads, and it vanishes with the two of them."""

from __future__ import annotations

import mmap
import os
import sys
import tempfile
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_ALIGNMENT = 64


def create() -> int:
    """Return the descriptor of new shared memory, empty and without a name, to be handed to a child."""
    if sys.platform == "linux":
        return os.memfd_create("carpool")
    with tempfile.TemporaryFile() as file:  # pragma: no cover - systems without memory that has a descriptor
        return os.dup(file.fileno())


class SharedBytes:
    """One direction of large data between a process and its child.

    It grows to the largest message and stays so. A message is copied in and copied out again, so that nobody is left
    with an array that changes under his hands.

    Args:
        descriptor: of the memory; it belongs to this object from now on.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._map: mmap.mmap | None = None

    def write(self, buffers: Sequence[memoryview]) -> None:
        """Put buffers one behind the other."""
        offsets, size = _layout([len(buffer) for buffer in buffers])
        if os.fstat(self._descriptor).st_size < size:
            os.ftruncate(self._descriptor, size)
        mapped = self._mapped(size)
        for offset, buffer in zip(offsets, buffers, strict=True):
            mapped[offset : offset + len(buffer)] = buffer

    def read(self, sizes: Sequence[int]) -> list[bytearray]:
        """Take buffers of these sizes out, each with memory of its own.

        Args:
            sizes: bytes of each, as they were written.
        """
        offsets, size = _layout(sizes)
        view = memoryview(self._mapped(size))
        try:
            return [bytearray(view[offset : offset + its]) for offset, its in zip(offsets, sizes, strict=True)]
        finally:
            view.release()

    def _mapped(self, size: int) -> mmap.mmap:
        if self._map is None or len(self._map) < size:
            self._unmap()
            self._map = mmap.mmap(self._descriptor, os.fstat(self._descriptor).st_size)
        return self._map

    def _unmap(self) -> None:
        if self._map is not None:
            self._map.close()
            self._map = None

    def close(self) -> None:
        """Give it back."""
        self._unmap()
        os.close(self._descriptor)


def _layout(sizes: Sequence[int]) -> tuple[list[int], int]:
    """Return where each buffer begins, and where all of them end.

    >>> _layout([3, 100, 1])
    ([0, 64, 192], 256)
    """
    ends = list(accumulate(-(-size // _ALIGNMENT) * _ALIGNMENT for size in sizes))
    return [0, *ends][: len(sizes)], ends[-1] if ends else 0
