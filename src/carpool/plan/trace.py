"""Arrivals that were recorded: a CSV or JSONL file of times, cut to a window and sped up or slowed down.

Read are a `TIMESTAMP` column of ISO times (the format of the Azure LLM inference traces), a column of plain seconds
(`timestamp`, `time`, `seconds`, `arrival`), a CSV of one bare column of seconds, and JSONL whose objects have one of
these keys.
"""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from carpool.errors import ConfigError
from carpool.plan.arrivals import MOST_REQUESTS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from carpool.plan.arrivals import Times

COLUMNS = ("timestamp", "time", "seconds", "arrival", "arrived_at")

Row = tuple[int, object]  # (line number, what stands there)


def read_trace(path: Path) -> Times:
    """Read a trace's arrivals, in seconds from its first.

    Raises:
        ConfigError: The file is missing, empty, has no column of times, or a time in it is unreadable, negative
            or earlier than the one before.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the trace {path} can't be read ({error}): give a CSV or JSONL file of text") from None
    rows = _json_rows(text, path) if text.lstrip().startswith("{") else _csv_rows(text, path)
    lines: list[int] = []
    times: list[float] = []
    for line, value in rows:
        lines.append(line)
        times.append(_seconds(value, line, path))
        if len(times) > MOST_REQUESTS:
            raise ConfigError(f"the trace {path} has more than {MOST_REQUESTS:,} arrivals: cut it into pieces")
    if not times:
        raise ConfigError(f"the trace {path} holds no arrivals: give at least one line with a time")
    _check_order(times, lines, path)
    return np.array([time - times[0] for time in times], dtype=np.float64)


def shape(times: Times, *, start_s: float = 0.0, duration_s: float | None = None, speed: float = 1.0) -> Times:
    """Cut a window out of a trace, and play it faster or slower.

    Args:
        times: Seconds from the trace's start [n].
        start_s: Where the window begins, in the trace's own time.
        duration_s: The length of the window *as played*, in seconds; to the end where None.
        speed: 2 plays twice as fast, at twice the rate.

    Returns:
        Seconds from the window's start [m].

    Raises:
        ConfigError: Nothing arrives in the window.

    Example:
        >>> shape(np.array([0.0, 1.0, 2.0, 3.0]), start_s=1.0, speed=2.0).tolist()
        [0.0, 0.5, 1.0]
    """
    played = (times[times >= start_s] - start_s) / speed
    if duration_s is not None:
        played = played[played < duration_s]
    if not played.size:
        end = f" lasting {duration_s:g} s" if duration_s is not None else ""
        raise ConfigError(
            f"nothing arrives in the window from {start_s:g} s{end}: the trace runs from 0 to {times[-1]:g} s; "
            "choose a window within it"
        )
    return played


def _csv_rows(text: str, path: Path) -> Iterator[Row]:
    """Give the column of times of a CSV file, which may have a header."""
    rows = [(line, row) for line, row in enumerate(csv.reader(text.splitlines()), start=1) if any(row)]
    if not rows:
        return
    header = [name.strip().lower() for name in rows[0][1]]
    column = next((header.index(name) for name in COLUMNS if name in header), None)
    if column is None and (len(header) > 1 or not _is_number(header[0])):
        raise ConfigError(
            f"the trace {path} has the columns {', '.join(rows[0][1])} and none of {', '.join(COLUMNS)}: "
            "name the column of arrival times one of these"
        )
    first = 0 if column is None else 1
    for line, row in rows[first:]:
        yield line, row[column or 0] if len(row) > (column or 0) else ""


def _json_rows(text: str, path: Path) -> Iterator[Row]:
    """Give the times of a file of one JSON object a line."""
    for line, raw in enumerate(text.splitlines(), start=1):
        if not raw.strip():
            continue
        try:
            found = json.loads(raw)
        except ValueError as error:
            raise ConfigError(
                f"line {line} of the trace {path} is not JSON ({error}): give one object a line"
            ) from None
        named = {str(key).lower(): value for key, value in found.items()} if isinstance(found, dict) else {}
        key = next((name for name in COLUMNS if name in named), None)
        if key is None:
            raise ConfigError(f"line {line} of the trace {path} has none of the keys {', '.join(COLUMNS)}: add one")
        yield line, named[key]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _seconds(value: object, line: int, path: Path) -> float:
    """Read one time: seconds, or an ISO time."""
    text = str(value).strip()
    try:
        seconds = float(text) if _is_number(text) else _iso_seconds(text)
    except ValueError:
        raise ConfigError(
            f"line {line} of the trace {path} holds {text!r}, which is no time: write seconds such as 12.5 "
            "or an ISO time such as 2023-11-16 18:17:03.9799600"
        ) from None
    if not 0 <= seconds < float("inf"):
        raise ConfigError(f"line {line} of the trace {path} holds {text!r}: a time is finite and at least 0; remove it")
    return seconds


def _iso_seconds(text: str) -> float:
    """Read an ISO time as seconds since 1970, as UTC where it names no zone."""
    found = datetime.fromisoformat(text)
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def _check_order(times: list[float], lines: list[int], path: Path) -> None:
    for (before, after), line in zip(pairwise(times), lines[1:], strict=True):
        if after < before:
            raise ConfigError(
                f"line {line} of the trace {path} is {before - after:g} s earlier than the line before it: "
                "sort the trace by time"
            )
