"""How far a long piece of work is, told on standard error."""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol, Self, TextIO

from carpool.units import format_count, format_duration

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    import rich.progress

__all__ = ["LineProgress", "Progress", "SilentProgress", "TerminalProgress", "progress"]

LINE_EVERY_S = 5.0
SECONDS = "s"


class Progress(Protocol):
    """What a long piece of work tells while it runs; a context manager around the work."""

    def advance(self, num: float = 1) -> None:
        """Say that so much more is done."""

    def note(self, text: str) -> None:
        """Say what is being done now, in a few words."""

    def expect(self, total: float) -> None:
        """Say that the whole has another size than was thought."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...


def progress(label: str, total: float, *, unit: str = "", stream: TextIO | None = None) -> Progress:
    """Choose how to tell progress: a bar in a terminal, elsewhere a plain line now and then.

    Args:
        label: what the work is.
        total: size of the whole.
        unit: what is counted, for the rate, such as `batches`; `s` where the whole is a budget of seconds, which then
            says how much time is left.
        stream: where to write; standard error where it is not given.
    """
    stream = sys.stderr if stream is None else stream
    if stream.isatty():
        return TerminalProgress(label, total, unit=unit, stream=stream)
    return LineProgress(label, total, unit=unit, stream=stream)


class SilentProgress:
    """Tells nothing."""

    def advance(self, num: float = 1) -> None:
        """Ignore it."""

    def note(self, text: str) -> None:
        """Ignore it."""

    def expect(self, total: float) -> None:
        """Ignore it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...


class LineProgress:
    """Writes a line at most every few seconds, and one at the end.

    Args:
        label: what the work is.
        total: size of the whole.
        unit: what is counted.
        stream: where to write.
        clock: seconds of a monotonic clock.
        every_s: least time between two lines.
    """

    def __init__(
        self,
        label: str,
        total: float,
        *,
        unit: str = "",
        stream: TextIO,
        clock: Callable[[], float] = time.monotonic,
        every_s: float = LINE_EVERY_S,
    ) -> None:
        self._label, self._total, self._unit = label, total, unit
        self._stream, self._clock, self._every_s = stream, clock, every_s
        self._done, self._note = 0.0, ""
        self._began_at = self._told_at = clock()

    def advance(self, num: float = 1) -> None:
        """Count, and write a line if the last one is old enough."""
        self._done += num
        self._tell_if_due()

    def note(self, text: str) -> None:
        """Change what the next line says."""
        self._note = text
        self._tell_if_due()

    def expect(self, total: float) -> None:
        """Change the size of the whole."""
        self._total = total

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._note = "" if kind is None else "stopped"
        # Work that failed before it began is told by its error alone.
        if kind is None or self._done or self._told_at > self._began_at:
            self._tell()

    def _tell_if_due(self) -> None:
        if self._clock() - self._told_at >= self._every_s:
            self._tell()

    def _tell(self) -> None:
        self._told_at = self._clock()
        elapsed_s = self._told_at - self._began_at
        share = self._done / self._total if self._total else 1.0
        counted = f"{format_count(self._done)} of {format_count(self._total)} {self._unit}".rstrip()
        parts = [f"{self._label}: {share:4.0%}", counted, f"{format_duration(elapsed_s)} elapsed"]
        if 0 < share < 1:
            left_s = self._total - self._done if self._unit == SECONDS else elapsed_s / share - elapsed_s
            parts.append(f"about {format_duration(left_s)} left")
        print(", ".join([*parts, *([self._note] if self._note else [])]), file=self._stream, flush=True)


class TerminalProgress:
    """A bar with elapsed and remaining time, a changing note and, but for a budget of seconds, the rate.

    Args:
        label: what the work is.
        total: size of the whole.
        unit: what is counted.
        stream: the terminal.
        clock: seconds of a monotonic clock.
    """

    def __init__(
        self,
        label: str,
        total: float,
        *,
        unit: str = "",
        stream: TextIO,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._bar = _bar(stream, unit, clock)
        self._task = self._bar.add_task(_plain(label), total=total, note="", rate="-", told_at=None)

    def advance(self, num: float = 1) -> None:
        """Move the bar."""
        self._bar.advance(self._task, num)
        speed = self._bar.tasks[0].speed
        self._bar.update(self._task, rate="-" if speed is None else f"{speed:.3g}", told_at=self._clock())

    def note(self, text: str) -> None:
        """Change the note beside the bar."""
        self._bar.update(self._task, note=_plain(text))

    def expect(self, total: float) -> None:
        """Change the size of the whole."""
        self._bar.update(self._task, total=total)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.note("" if kind is None else "stopped")
        # Work that failed before it began leaves nothing on the screen but its error.
        self._bar.live.transient = kind is not None and not self._bar.tasks[0].completed
        self._bar.stop()


def _bar(stream: TextIO, unit: str, clock: Callable[[], float]) -> rich.progress.Progress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.table import Column

    # On a narrow terminal the note is cut short, never the times.
    whole: dict[str, Any] = {"table_column": Column(no_wrap=True, min_width=7)}
    rate = f"{{task.fields[rate]}} {_plain(unit)}/s" if unit else "{task.fields[rate]}/s"
    left: list[ProgressColumn] = [
        TextColumn(rate, style="dim"),
        TimeElapsedColumn(**whole),
        TimeRemainingColumn(**whole),
    ]
    if unit == SECONDS:
        left = [TextColumn(unit, style="dim"), TimeElapsedColumn(**whole), _budget_column(clock, **whole)]
    return Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        *left[:2],
        TextColumn("left", style="dim"),
        left[2],
        TextColumn("{task.fields[note]}", style="cyan"),
        console=Console(file=stream, force_terminal=True),
    )


def _budget_column(clock: Callable[[], float], **options: Any) -> rich.progress.ProgressColumn:
    """Make a column that counts down what is left of a budget of seconds, also between two steps."""
    from rich.progress import ProgressColumn
    from rich.text import Text

    class BudgetLeft(ProgressColumn):
        def render(self, task: rich.progress.Task) -> Text:
            told_at = task.fields["told_at"]
            if told_at is None:
                return Text("-:--:--", style="progress.remaining")
            left_s = (task.total or 0.0) - task.completed - (clock() - told_at)
            return Text(str(timedelta(seconds=max(0, round(left_s)))), style="progress.remaining")

    return BudgetLeft(**options)


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)
