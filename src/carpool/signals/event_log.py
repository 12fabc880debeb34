"""Events in a file: one JSON object a line, after a header that says the version.

    {"schema_version":2,"kind":"carpool-events"}
    {"event":"BatchRan","at":12.5,"batch_id":0, ...}

A file is bounded: once it is full it becomes `NAME.1`, in place of the one before, and a new one begins.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, get_args

import msgspec

from carpool.config.document import VERSION_KEY, Migration, Migrations, current_version, decode, read_bytes
from carpool.config.keys import check_keys
from carpool.config.syntax import parse_json
from carpool.errors import ConfigError, SchemaError
from carpool.signals.events import Event

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["EventLog", "EventWriter", "EventsHeader", "older_part", "read_events"]

MAX_BYTES = 64 * 1024**2
LEAST_BYTES = 1024
_TYPES: dict[str, type[Any]] = {kind.__name__: kind for kind in get_args(Event)}
_KEYS = {kind: frozenset(field.name for field in fields(kind)) for kind in _TYPES.values()}


@dataclass(frozen=True, slots=True, kw_only=True)
class EventsHeader:
    """First line of a file of events."""

    MIGRATIONS: ClassVar[Migrations] = {1: dict}  # the header itself has stayed as it was
    schema_version: int = 2
    kind: Literal["carpool-events"] = "carpool-events"


@dataclass(frozen=True, slots=True, kw_only=True)
class EventLog:
    """What a file of events holds.

    Args:
        events: in the order of writing.
        truncated: the last line was cut short, as when a writer is killed; its event is missing.
    """

    events: tuple[Event, ...]
    truncated: bool


class EventWriter:
    """A sink that appends events to a file; usable from any thread, and a context manager that closes it.

    A disk that fails must not fail the batches: writing then stops, and `failure` says why.

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
                self.failure = error

    def flush(self) -> None:
        """Hand everything to the operating system."""
        with self._lock:
            if not self._file.closed:
                self._file.flush()

    def close(self) -> None:
        """Write what is left and close the file; events that come later are ignored."""
        with self._lock:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

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


def older_part(path: Path) -> Path:
    """Where a full file is set aside."""
    return path.with_name(f"{path.name}.1")


def read_events(path: Path | str) -> EventLog:
    """Read a file of events, and before it the part that was set aside, where there is one.

    Args:
        path: the file that an `EventWriter` was given.

    Raises:
        ConfigError: the file can't be read.
        SchemaError: its version is unknown, or a line other than a last, unfinished one is no event.
    """
    path = Path(path)
    older = older_part(path)
    before = _read_part(older).events if older.exists() else ()
    latest = _read_part(path)
    return EventLog(events=(*before, *latest.events), truncated=latest.truncated)


def _with_a_start(event: dict[str, Any]) -> dict[str, Any]:
    """Version 1 did not say when a run that failed had begun: it counts as having taken no time."""
    failed_at = event.get("at") if event.get("event") == "BatchFailed" else None
    return event if failed_at is None else {**event, "started_at": failed_at}


_EVENT_MIGRATIONS: Migrations = {1: _with_a_start}


def _read_part(path: Path) -> EventLog:
    lines = read_bytes(path).split(b"\n")
    unfinished = lines.pop()  # empty where the last line was ended
    if not lines:
        raise SchemaError(f"{path}: no complete first line with schema_version; it is no file of events")
    decode(lines[0], EventsHeader, f"{path}, line 1")
    written = parse_json(lines[0], f"{path}, line 1")[VERSION_KEY]
    steps = [_EVENT_MIGRATIONS[older] for older in range(written, current_version(EventsHeader))]
    events = tuple(_event(line, steps, f"{path}, line {number}") for number, line in enumerate(lines[1:], start=2))
    return EventLog(events=events, truncated=bool(unfinished))


def _event(line: bytes, steps: list[Migration], source: str) -> Event:
    try:
        found = msgspec.json.decode(line, type=dict[str, Any])
        for step in steps:
            found = step(found)
        kind = _TYPES[found.pop("event", "")]
        if not found.keys() <= _KEYS[kind]:
            check_keys(found, kind, source)
        event: Event = msgspec.convert(found, kind)
    except KeyError as error:
        raise SchemaError(f"{source}: event {error} is none of {', '.join(_TYPES)}; remove the line") from None
    except msgspec.MsgspecError as error:
        raise SchemaError(f"{source}: {error}; remove the line, or write the file anew") from None
    return event
