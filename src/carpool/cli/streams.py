"""Standard streams that never fail: what they can't write is dropped, and why is remembered.

A full disk behind a log, or a reader that has gone, must not stop what a command does.
"""

from __future__ import annotations

import contextlib
import errno
import io
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterator

    from _typeshed import ReadableBuffer


class Losses:
    """Why something could not be written, if anything could not."""

    def __init__(self) -> None:
        self.error: OSError | None = None

    @property
    def reason(self) -> str:
        """What to tell people; empty where all was written, or where a reader went away that wanted no more."""
        if self.error is None or self.error.errno == errno.EPIPE:
            return ""
        return self.error.strerror or str(self.error)


class _Lossy(io.FileIO):
    """Bytes to a descriptor that is not ours to close; an error is kept in place of raised."""

    def __init__(self, number: int, losses: Losses) -> None:
        super().__init__(number, "w", closefd=False)
        self.losses = losses

    def write(self, data: ReadableBuffer) -> int:
        """Write what can be written."""
        try:
            written: int | None = super().write(data)
            if written is not None:
                return written
            error = OSError(errno.EAGAIN, "it takes no more for now")  # and nobody may be kept waiting for it
        except OSError as raised:
            error = raised
        self.losses.error = self.losses.error or error
        return memoryview(data).nbytes


class StandardStream(io.TextIOWrapper):
    """Text to a descriptor, whatever becomes of it; characters that its encoding lacks are named by their numbers.

    Args:
        number: the descriptor, which stays open.
        losses: takes what goes wrong.
        encoding: of the text.
        line_buffering: whether each line is written at once.
    """

    def __init__(self, number: int, losses: Losses, *, encoding: str = "utf-8", line_buffering: bool = False) -> None:
        self.losses = losses
        buffered = io.BufferedWriter(_Lossy(number, losses))
        super().__init__(buffered, encoding, "backslashreplace", line_buffering=line_buffering)


@contextlib.contextmanager
def lossy_streams() -> Iterator[Losses]:
    """Have standard output and standard error never fail while the block runs.

    A stream that somebody has put in the place of the process's own stays as it is.

    Returns:
        What standard output could not write.
    """
    losses, before = Losses(), (sys.stdout, sys.stderr)
    sys.stdout = _never_failing(sys.stdout, sys.__stdout__, losses)
    sys.stderr = _never_failing(sys.stderr, sys.__stderr__, Losses())
    try:
        yield losses
    finally:
        with contextlib.suppress(OSError, ValueError):  # a stream of somebody's own, which may have been closed
            sys.stdout.flush()
            sys.stderr.flush()
        sys.stdout, sys.stderr = before


def _never_failing(stream: TextIO, own: TextIO | None, losses: Losses) -> TextIO:
    if stream is not own or not isinstance(stream, io.TextIOWrapper):
        return stream
    with contextlib.suppress(OSError):
        stream.flush()
    return StandardStream(stream.fileno(), losses, encoding=stream.encoding, line_buffering=stream.line_buffering)
