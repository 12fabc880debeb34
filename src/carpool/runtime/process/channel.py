"""Objects between a process and its child: pickles over a pipe, large arrays beside them in shared memory.

Pickles run code when they are read. These come from a pipe that only our own parent or child holds, never from a
network.
"""

from __future__ import annotations

import functools
import os
import pickle
import struct
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from carpool.runtime.process.shared import SharedBytes

_HEAD = struct.Struct("<I?")  # number of parts (the pickle, then the buffers beside it), whether in shared memory
# A buffer below this is cheaper within the pickle; a message above that is cheaper in shared memory than in a pipe.
_BESIDE_FROM_BYTES = 4 * 1024
_SHARED_FROM_BYTES = 256 * 1024


class Channel:
    """One end of the line between a process and its child.

    Args:
        reader: what the other end writes, buffered.
        writer: the descriptor of what the other end reads.
        inbox: shared memory that the other end writes; None where there is none.
        outbox: shared memory that the other end reads; None where there is none.
    """

    def __init__(
        self, reader: BinaryIO, writer: int, inbox: SharedBytes | None = None, outbox: SharedBytes | None = None
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._inbox = inbox
        self._outbox = outbox

    def send(self, message: Any) -> None:
        """Send an object.

        Raises:
            OSError: the other end is gone.
            Exception: what pickling it raised; nothing was sent then.
        """
        buffers: list[memoryview] = []
        data = pickle.dumps(message, protocol=5, buffer_callback=functools.partial(_keep_within, buffers))
        parts = [memoryview(data), *buffers]
        sizes = [len(part) for part in parts]
        is_shared = self._outbox is not None and sum(sizes) >= _SHARED_FROM_BYTES
        head = _HEAD.pack(len(sizes), is_shared) + struct.pack(f"<{len(sizes)}Q", *sizes)
        if is_shared and self._outbox is not None:
            self._outbox.write(parts)
            parts = []
        self._write(b"".join([head, *parts]))

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._writer, view) :]

    def receive(self) -> Any:
        """Wait for an object.

        Raises:
            EOFError: the other end is gone.
            Unreadable: it came whole, and can't be made sense of here; what comes next can.
        """
        num_parts, is_shared = _HEAD.unpack(self._read(_HEAD.size))
        sizes = struct.unpack(f"<{num_parts}Q", self._read(8 * num_parts))
        if is_shared and self._inbox is not None:
            data, *buffers = self._inbox.read(sizes)
        else:
            data, *buffers = [self._read(size) for size in sizes]
        try:
            return pickle.loads(data, buffers=buffers)  # noqa: S301 - from our own parent or child, see above
        except Exception as error:
            raise Unreadable(f"{type(error).__name__}: {error}") from error

    def _read(self, size: int) -> bytearray:
        data = bytearray(size)
        if self._reader.readinto(data) < size:  # type: ignore[attr-defined]  # every buffered reader has it
            raise EOFError("the other end of the pipe is closed")
        return data

    def close(self) -> None:
        """Hang up."""
        self._reader.close()
        os.close(self._writer)
        for shared in (self._inbox, self._outbox):
            if shared is not None:
                shared.close()


class Unreadable(Exception):
    """A message whose objects can't be made here, such as those of a module that only the other end has."""


def _keep_within(buffers: list[memoryview], buffer: pickle.PickleBuffer) -> bool:
    """Tell pickle whether a buffer goes within the pickle; put it beside where it does not."""
    raw = buffer.raw()
    if len(raw) < _BESIDE_FROM_BYTES:
        return True
    buffers.append(raw)
    return False
