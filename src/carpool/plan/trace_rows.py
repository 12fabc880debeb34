"""The files that traces come in: each line's arrival and lengths, whatever the format calls them."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from carpool.errors import ConfigError
from carpool.plan.arrivals import MOST_REQUESTS
from carpool.signals.events import BatchRan, ItemDropped, ItemRejected
from carpool.signals.events_file import is_header, read_events

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from carpool.signals.events import Event

TIMES = ("timestamp", "time", "seconds", "arrival", "arrived_at")
LENGTHS = ("contexttokens", "input_length", "length")
OUTPUT_LENGTHS = ("generatedtokens", "output_length")
EVENTS_NAME = "events.jsonl"
_MILLISECOND_S = 1e-3
_MOST_TOKENS = 1 << 40


@dataclass(frozen=True, slots=True)
class Row:
    """One arrival of a trace.

    Args:
        line: Where it stands in the file.
        time_s: When it arrived, in seconds of the file's own clock.
        length: Its tokens; None where the file has none.
        output_length: Tokens generated for it; None where the file has none.
    """

    line: int
    time_s: float
    length: int | None
    output_length: int | None


@dataclass(frozen=True, slots=True)
class _Columns:
    """Which columns of a file hold what, by its own names in lower case; `""` is a bare column without a name."""

    time: str
    scale_s: float
    length: str | None
    output_length: str | None


def rows_of(path: Path) -> list[Row]:
    """Read every arrival of a trace, in the order of the file.

    Raises:
        ConfigError: The file can't be read, is in no known format, has too many lines or an unreadable value.
    """
    path = path / EVENTS_NAME if path.is_dir() else path
    text = _text_of(path)
    if is_header(text[: text.find("\n") + 1]):
        return list(_of_events(read_events(path).events))
    numbered = _json_lines(text, path) if text.lstrip().startswith("{") else _csv_lines(text, path)
    rows: list[Row] = []
    columns: _Columns | None = None
    for line, values in numbered:
        columns = columns or _columns_of(values, path, line)
        rows.append(_row(values, columns, path, line))
        if len(rows) > MOST_REQUESTS:
            raise ConfigError(f"the trace {path} has more than {MOST_REQUESTS:,} arrivals: cut it into pieces")
    return rows


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the trace {path} can't be read ({error}): give a CSV or JSONL file of text") from None


def _csv_lines(text: str, path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Give the lines of a CSV file by column; a single column of numbers needs no header."""
    lines = [(line, row) for line, row in enumerate(csv.reader(text.splitlines()), start=1) if any(row)]
    header = [name.strip().lower() for name in lines[0][1]] if lines else list(TIMES)
    if len(header) == 1 and _is_number(header[0]):
        header = [""]
    elif set(header) & set(TIMES):
        lines = lines[1:]
    else:
        raise ConfigError(
            f"the trace {path} has the columns {', '.join(header)} and none of {', '.join(TIMES)}: "
            "name the column of arrival times one of these"
        )
    for line, row in lines:
        yield line, dict(zip(header, row + [""] * (len(header) - len(row)), strict=False))


def _json_lines(text: str, path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Give the objects of a file of one JSON object a line."""
    for line, raw in enumerate(text.splitlines(), start=1):
        if not raw.strip():
            continue
        try:
            found = json.loads(raw)
        except ValueError as error:
            raise ConfigError(
                f"line {line} of the trace {path} is not JSON ({error}): give one object a line"
            ) from None
        yield line, {str(key).lower(): value for key, value in found.items()} if isinstance(found, dict) else {}


def _columns_of(values: Mapping[str, Any], path: Path, line: int) -> _Columns:
    """Find what is where, from the first line of a file."""
    time = next((name for name in ("", *TIMES) if name in values), None)
    if time is None:
        raise ConfigError(f"line {line} of the trace {path} has none of the keys {', '.join(TIMES)}: add one")
    mooncake = time == "timestamp" and "input_length" in values and _is_number(str(values[time]))
    return _Columns(
        time=time,
        scale_s=_MILLISECOND_S if mooncake else 1.0,
        length=next((name for name in LENGTHS if name in values), None),
        output_length=next((name for name in OUTPUT_LENGTHS if name in values), None),
    )


def _row(values: Mapping[str, Any], columns: _Columns, path: Path, line: int) -> Row:
    """Read one line."""
    missing = [name for name in (columns.time, columns.length, columns.output_length) if name and name not in values]
    if missing:
        raise ConfigError(
            f"line {line} of the trace {path} has none of the keys {', '.join(missing)}, which the first line has: "
            "add them"
        )
    return Row(
        line,
        _seconds(values[columns.time], line, path) * columns.scale_s,
        None if columns.length is None else _tokens(values[columns.length], 1, line, path),
        None if columns.output_length is None else _tokens(values[columns.output_length], 0, line, path),
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _seconds(value: object, line: int, path: Path) -> float:
    """Read one time: a number, or an ISO time."""
    text = str(value).strip()
    try:
        seconds = float(text) if _is_number(text) else _iso_seconds(text)
    except ValueError:
        raise ConfigError(
            f"line {line} of the trace {path} holds {text!r}, which is no time: write seconds such as 12.5 "
            "or an ISO time such as 2023-11-16 18:17:03.9799600"
        ) from None
    if not 0 <= seconds < math.inf:
        raise ConfigError(f"line {line} of the trace {path} holds {text!r}: a time is finite and at least 0; remove it")
    return seconds


def _iso_seconds(text: str) -> float:
    """Read an ISO time as seconds since 1970, as UTC where it names no zone."""
    found = datetime.fromisoformat(text)
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def _tokens(value: object, least: int, line: int, path: Path) -> int:
    """Read one length in tokens."""
    text = str(value).strip()
    number = float(text) if _is_number(text) else math.nan
    if not (least <= number <= _MOST_TOKENS and number.is_integer()):
        raise ConfigError(
            f"line {line} of the trace {path} has the length {text!r}: write a whole number of tokens of {least} to "
            f"{_MOST_TOKENS:,}"
        )
    return int(number)


def _of_events(events: Iterable[Event]) -> Iterator[Row]:
    """Give what arrived at a batcher, in order, from what became of it.

    An item that was refused or dropped left no length: it is given that of the one that arrived before it.
    """
    arrived: list[tuple[float, int | None]] = []
    for event in events:
        match event:
            case BatchRan():
                arrived += zip(event.arrived_at, event.lengths, strict=True)
            case ItemDropped():
                arrived.append((event.arrived_at, None))
            case ItemRejected():
                arrived.append((event.at, None))
    arrived.sort(key=lambda one: one[0])
    length = next((length for _, length in arrived if length is not None), None)
    first_s = arrived[0][0] if arrived else 0.0
    for number, (at, own) in enumerate(arrived, start=1):
        length = length if own is None else own
        yield Row(number, at - first_s, length, None)
