"""Events in a file: one JSON object a line, after a header that says the version.

    {"schema_version":2,"kind":"carpool-events"}
    {"event":"BatchRan","at":12.5,"batch_id":0, ...}

A file is bounded: once it is full it becomes `NAME.1`, in place of the one before, and a new one begins.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Self

import msgspec

from carpool.errors import ConfigError
from carpool.signals.events_file import EventLog, EventsHeader, older_part, read_events

if TYPE_CHECKING:
    from types import TracebackType

    from carpool.signals.events import Event

__all__ = ["EventLog", "EventWriter", "EventsHeader", "older_part", "read_events"]

_logger = logging.getLogger("carpool.signals")

MAX_BYTES = 64 * 1024**2
LEAST_BYTES = 1024


class EventWriter:
    """A sink that appends events to a file; usable from any thread, and a context manager that closes it.

    A disk that fails must not fail the batches: writing then stops, the log says so once, and `failure` says why.

    Args:
        path: the file; an existing one is begun anew.
        max_bytes: size at which the file is set aside as `NAME.1`; at most twice as much is on disk.

    Raises:
        ConfigError: the file can't be opened, or `max_bytes` holds no event.
    """

    def __init__(self, path: Path | str, *, max_bytes: int = MAX_BYTES) -> None:
        if max_bytes < LEAST_BYTES:
            raise ConfigError(f"a file of events of at most {max_bytes} bytes holds none: allow {LEAST_BYTES} or more")
        self.path, self.failure = Path(path), None
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        older_part(self.path).unlink(missing_ok=True)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._begin()
        except OSError as error:
            raise ConfigError(f"can't write events to {str(self.path)!r}: {error}; name a writable file") from error

    failure: OSError | None

    def record(self, event: Event) -> None:
        """Append one event."""
        line = msgspec.json.encode({"event": type(event).__name__, **msgspec.to_builtins(event)}) + b"\n"
        with self._lock:
            if self.failure is not None or self._file.closed:
                return
            try:
                self._append(line)
            except OSError as error:
                self._give_up(error)

    def flush(self) -> None:
        """Hand everything to the operating system."""
        with self._lock:
            if self.failure is not None or self._file.closed:
                return
            try:
                self._file.flush()
            except OSError as error:
                self._give_up(error)

    def close(self) -> None:
        """Write what is left and close the file; events that come later are ignored."""
        with self._lock:
            try:
                self._file.close()
            except OSError as error:  # what is left does not fit on the disk
                self._give_up(error)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _give_up(self, error: OSError) -> None:
        if self.failure is not None:
            return
        self.failure = error
        _logger.error(
            "events can't be written to %s (%s), and are lost from here on: see to the disk, and start anew",
            self.path,
            error.strerror or error,
        )

    def _append(self, line: bytes) -> None:
        if self._size + len(line) > self._max_bytes:
            self._file.close()
            self.path.replace(older_part(self.path))
            self._begin()
        self._file.write(line)
        self._size += len(line)

    def _begin(self) -> None:
        header = msgspec.json.encode(EventsHeader()) + b"\n"
        self._file = self.path.open("wb")
        self._file.write(header)
        self._size = len(header)
