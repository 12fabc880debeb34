"""Reading a file of events: its header, its versions, and the part that was set aside before it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import msgspec

from carpool.config.document import VERSION_KEY, Migration, Migrations, current_version, decode, read_bytes
from carpool.config.keys import check_keys
from carpool.config.syntax import parse_json
from carpool.errors import SchemaError
from carpool.signals.events import Event

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


def is_header(line: str) -> bool:
    """Tell whether a file's first line says that it holds events, of whatever version."""
    try:
        found = msgspec.json.decode(line)
    except msgspec.DecodeError:
        return False
    return isinstance(found, dict) and found.get("kind") == "carpool-events"


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
