"""Progress: lines now and then where nobody looks, a bar where someone does."""

from __future__ import annotations

import io

import pytest

from carpool.report.progress import LineProgress, SilentProgress, TerminalProgress, progress


class Clock:
    """Time that passes when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


def test_lines_come_at_most_every_few_seconds_and_at_the_end() -> None:
    """A hundred steps of 0.1 s make one line each 5 s, and a last one."""
    clock, stream = Clock(), io.StringIO()
    with LineProgress("profile", 100, unit="batches", stream=stream, clock=clock) as told:
        for step in range(100):
            clock.now += 0.125
            told.note(f"batch size {step}")
            told.advance()
    assert stream.getvalue().splitlines() == [
        "profile:  39%, 39 of 100 batches, 5 s elapsed, about 7.82 s left, batch size 39",
        "profile:  79%, 79 of 100 batches, 10 s elapsed, about 2.66 s left, batch size 79",
        "profile: 100%, 100 of 100 batches, 12.5 s elapsed",
    ]


def test_last_line_says_that_work_was_stopped() -> None:
    """Interrupted work ends with how far it came."""
    stream = io.StringIO()
    told = LineProgress("profile", 4, stream=stream, clock=Clock())

    def work() -> None:
        with told:
            told.advance()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert stream.getvalue().rstrip().endswith("stopped")
    assert "1 of 4" in stream.getvalue()


def test_whole_may_change_its_size_while_the_work_goes_on() -> None:
    """A search that ends early, or goes on longer."""
    stream = io.StringIO()
    with LineProgress("search", 10, stream=stream, clock=Clock()) as told:
        told.expect(2)
        told.advance(2)
    assert "100%, 2 of 2" in stream.getvalue()


def test_nothing_to_do_is_done() -> None:
    """A whole of zero is no division by zero."""
    stream = io.StringIO()
    with LineProgress("search", 0, stream=stream, clock=Clock()):
        pass
    assert "100%, 0 of 0" in stream.getvalue()


def test_terminal_shows_a_bar_with_label_count_and_note() -> None:
    """Markup in a label is only text."""
    stream = Terminal()
    with progress("[red]profile", 3, unit="batches", stream=stream) as told:
        assert isinstance(told, TerminalProgress)
        told.expect(4)
        told.note("batch size [8]")
        told.advance(4)
        told.note("done [x]")
    shown = stream.getvalue()
    assert "[red]profile" in shown
    assert "4/4" in shown


def test_elsewhere_progress_is_lines_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    """Standard output stays clean for results."""
    with progress("profile", 1) as told:
        assert isinstance(told, LineProgress)
        told.advance()
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("profile: 100%, 1 of 1, ")


def test_silent_progress_tells_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """It takes the same calls."""
    with SilentProgress() as told:
        told.advance()
        told.note("x")
        told.expect(3)
    assert capsys.readouterr() == ("", "")
