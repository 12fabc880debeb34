"""Progress: lines now and then where nobody looks, a bar where someone does."""

from __future__ import annotations

import io
import re

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


def test_lines_of_a_budget_say_what_is_left_of_it() -> None:
    """Loading that counts in no budget, and a phase that tells nothing for long, do not make the time left jump."""
    clock, stream = Clock(), io.StringIO()
    with LineProgress("profile", 45, unit="s", stream=stream, clock=clock) as told:
        clock.now += 8.0  # loading
        told.advance(0.25)
        clock.now += 9.0  # one long phase
        told.advance(9.0)
        clock.now += 6.0
        told.advance(6.0)
    assert stream.getvalue().splitlines()[:3] == [
        "profile:   1%, 0.25 of 45 s, 8 s elapsed, about 44.8 s left",
        "profile:  21%, 9.25 of 45 s, 17 s elapsed, about 35.8 s left",
        "profile:  34%, 15.2 of 45 s, 23 s elapsed, about 29.8 s left",
    ]


def test_bar_of_a_budget_counts_down_between_two_steps() -> None:
    """What is left follows from the budget and the clock, not from the speed of the steps."""
    clock, stream = Clock(), Terminal()
    shown = []
    with TerminalProgress("profile", 45, unit="s", stream=stream, clock=clock) as told:
        for gone_s in (0.0, 4.0, 4.0, 30.0):  # since the step before
            told.advance(gone_s)
            clock.now += 4.0
            told._bar.refresh()
            text = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", stream.getvalue())
            shown.append(re.findall(r"left\s+([-:\d]+)", text)[-1])
    assert shown == ["0:00:41", "0:00:37", "0:00:33", "0:00:03"]


@pytest.mark.parametrize("kind", [TerminalProgress, LineProgress])
def test_work_that_fails_before_it_begins_leaves_nothing_on_the_screen(
    kind: type[TerminalProgress | LineProgress],
) -> None:
    """A target that is not there is told by its error alone: the bar is taken away, and no line written."""
    stream = Terminal()
    told = kind("profile", 45, unit="s", stream=stream)

    def work() -> None:
        with told:
            raise ValueError("no such target")

    with pytest.raises(ValueError, match="no such target"):
        work()
    # What a terminal shows in the end: everything after the last line that was erased.
    assert re.sub(r"\x1b\[\??\d*[a-zA-Z]|\s", "", stream.getvalue().rpartition("\x1b[2K")[2]) == ""
