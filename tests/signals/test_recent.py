"""What is kept of late is bounded, and what was read of it stays as it was."""

from __future__ import annotations

from carpool.signals.recent import MAX_WINDOW_RECORDS, Recent
from tests.signals.records import closed_loop


def test_stretch_stays_as_it_was_while_others_are_recorded() -> None:
    """A reader's view neither grows nor loses what has since become too old."""
    recent = Recent(window_s=1e9)
    events = closed_loop(3 * MAX_WINDOW_RECORDS, batch_size=1)
    views = []
    for number, event in enumerate(events, 1):
        recent.add(event)
        if number % 1000 == 0:
            views.append((number, recent.freeze()))
    for number, view in views:
        assert view.records == list(events[max(0, number - MAX_WINDOW_RECORDS) : number])
        assert view.num_records == min(number, MAX_WINDOW_RECORDS)


def test_departed_records_are_not_kept_for_long() -> None:
    """However many go by, little more than a window of them is held."""
    recent = Recent(window_s=1e9)
    for event in closed_loop(3 * MAX_WINDOW_RECORDS, batch_size=1):
        recent.add(event)
        assert len(recent.freeze().shared) <= MAX_WINDOW_RECORDS + 513
