"""The seconds that a profile may take, in virtual time."""

from __future__ import annotations

from carpool.profile.budget import Budget
from carpool.report.progress import SilentProgress
from tests.profile.virtual import VirtualTime


class Told(SilentProgress):
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.done_s, self.notes = 0.0, list[str]()

    def advance(self, num: float = 1) -> None:
        """Count."""
        self.done_s += num

    def note(self, text: str) -> None:
        """Remember."""
        self.notes.append(text)


def test_progress_follows_the_clock_and_ends_with_the_budget() -> None:
    """It begins where it is made, never passes the whole, and is complete at the end, however soon that comes."""
    time, told = VirtualTime(now=5.0), Told()
    budget = Budget(10.0, told, time)
    assert budget.until(0.5) == 10.0
    time.now = 8.0
    budget.tell("timing")
    assert (budget.gone_s, told.done_s) == (3.0, 3.0)
    budget.tell("")
    assert (told.done_s, told.notes) == (10.0, ["timing", ""])
    time.now = 40.0
    budget.tell("still at it")
    assert (budget.gone_s, told.done_s) == (35.0, 10.0)
