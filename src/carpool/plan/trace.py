"""Arrivals that were recorded, with the lengths of what arrived; cut to a window, and played faster or slower."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from carpool.errors import ConfigError
from carpool.plan.arrivals import Times, require_positive
from carpool.plan.trace_rows import Row, rows_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

# A trace of a single instant covers no time at all; it is taken to cover this much.
_LEAST_DURATION_S = 1e-3
_LONGEST_S = 10 * 365.25 * 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Recorded arrivals, or a window of them.

    Args:
        times_s: When each item arrives as played, rising seconds from the start of the window [n].
        duration_s: Seconds that the window lasts as played; every arrival lies in it.
        lengths: Tokens of each item that arrived, at least 1 [n]; None where they were not recorded.
        output_lengths: Tokens that were generated for each, at least 0 [n]; None where they were not recorded.
        source: The file that it was read from.
        start_s: Where the window begins in the file, in seconds from the file's first arrival.
        speed: How many times as fast as recorded it is played.
        cut: Whether it was given an end of its own, rather than that of what was recorded.
    """

    times_s: Times
    duration_s: float
    lengths: NDArray[np.int64] | None = None
    output_lengths: NDArray[np.int64] | None = None
    source: str = ""
    start_s: float = 0.0
    speed: float = 1.0
    cut: bool = False

    def __len__(self) -> int:
        return len(self.times_s)

    @property
    def rate(self) -> float:
        """Mean arrivals a second as played."""
        return len(self) / self.duration_s

    def window(self, *, start_s: float = 0.0, duration_s: float | None = None, speed: float = 1.0) -> Trace:
        """Cut a window out, and play it faster or slower.

        Args:
            start_s: Where the window begins, in seconds of this trace.
            duration_s: The length of the window *as played*, in seconds; to the end where None.
            speed: 2 plays twice as fast, at twice the rate.

        Raises:
            ConfigError: Nothing arrives in the window, or it begins before the trace.

        Example:
            >>> trace = Trace(times_s=np.array([0.0, 1.0, 2.0, 3.0]), duration_s=4.0)
            >>> later = trace.window(start_s=1.0, speed=2.0)
            >>> later.times_s.tolist(), later.duration_s, later.rate
            ([0.0, 0.5, 1.0], 1.5, 2.0)
        """
        require_positive("speed", speed)
        if duration_s is not None:
            require_positive("duration", duration_s)
        if not 0 <= start_s < float("inf"):
            raise ConfigError(f"a window can't begin at {start_s:g} s: the trace begins at 0")
        until_s = self.duration_s if duration_s is None else start_s + duration_s * speed
        first, last = np.searchsorted(self.times_s, (start_s, until_s)).tolist()
        if last <= first:
            end = f" lasting {duration_s:g} s" if duration_s is not None else ""
            raise ConfigError(
                f"nothing arrives in the window from {start_s:g} s{end}: the trace runs from 0 to "
                f"{self.times_s[-1]:g} s; choose a window within it"
            )
        return replace(
            self,
            times_s=(self.times_s[first:last] - start_s) / speed,
            duration_s=(until_s - start_s) / speed,
            lengths=None if self.lengths is None else self.lengths[first:last],
            output_lengths=None if self.output_lengths is None else self.output_lengths[first:last],
            start_s=self.start_s + start_s * self.speed,
            speed=self.speed * speed,
            cut=self.cut or duration_s is not None,
        )

    def clipped(self, max_length: int) -> Trace:
        """Return the same with lengths beyond a limit cut to it."""
        return self if self.lengths is None else replace(self, lengths=np.minimum(self.lengths, max_length))


def read_trace(path: Path) -> Trace:
    """Read a trace: its arrivals in seconds from the first, and the lengths that it has.

    Known are a CSV with a header, a CSV of one bare column of seconds, JSONL, and Carpool's own events (the file, or a
    directory with its `events.jsonl`). Columns are found by name, in any case:

    - times: `timestamp`, `time`, `seconds`, `arrival` or `arrived_at`, in seconds or as ISO times (as in the Azure
      LLM inference traces). JSONL that has both `timestamp` and `input_length` is Mooncake's format: milliseconds.
    - lengths: `ContextTokens` (Azure), `input_length` (Mooncake) or `length`; of what was generated `GeneratedTokens`
      (Azure) or `output_length` (Mooncake).

    The trace lasts one mean gap longer than until its last arrival, so that its rate is that of its gaps.

    Raises:
        ConfigError: The file is missing, empty or has no column of times; a time in it is unreadable, negative or
            earlier than the one before; or a length is unreadable or below 1.
    """
    rows = rows_of(path)
    if not rows:
        raise ConfigError(f"the trace {path} holds no arrivals: give at least one line with a time")
    _check_order(rows, path)
    times_s = np.array([row.time_s for row in rows], dtype=np.float64)
    times_s -= times_s[0]
    if times_s[-1] > _LONGEST_S:
        raise ConfigError(
            f"the trace {path} runs over {times_s[-1]:.3g} s, more than ten years: see that all its times are in one "
            "unit, and correct or remove the last ones"
        )
    span_s = float(times_s[-1])
    return Trace(
        times_s=times_s,
        duration_s=span_s * len(rows) / (len(rows) - 1) if span_s else _LEAST_DURATION_S,
        lengths=_whole([row.length for row in rows]),
        output_lengths=_whole([row.output_length for row in rows]),
        source=str(path),
    )


def _check_order(rows: Sequence[Row], path: Path) -> None:
    for before, after in pairwise(rows):
        if after.time_s < before.time_s:
            raise ConfigError(
                f"line {after.line} of the trace {path} is {before.time_s - after.time_s:g} s earlier than the line "
                "before it: sort the trace by time"
            )


def _whole(values: Sequence[int | None]) -> NDArray[np.int64] | None:
    """Turn lengths into an array; they were recorded for all items or for none."""
    return None if values[0] is None else np.array(values, dtype=np.int64)
