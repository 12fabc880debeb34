"""Calls that are late, told from those in time."""

from __future__ import annotations

from carpool.core import VirtualClock
from carpool.runtime.watch import Watch


def test_a_watch_tells_late_calls_from_those_in_time() -> None:
    """At the limit a call is late; one that has ended is not; each is told once."""
    clock, told = VirtualClock(), list[str]()
    watch = Watch(2.0, clock)
    watch.begin("a", lambda: told.append("a"))
    clock.advance_to(1.0)
    watch.begin("b", lambda: told.append("b"))
    watch.begin("c", lambda: told.append("c"))
    assert watch.end("c")
    assert watch.wait_s() == 1.0
    clock.advance_to(2.0)
    for on_late in watch.late():
        on_late()
    assert (told, watch.end("a"), watch.wait_s()) == (["a"], False, 1.0)
    clock.advance_to(9.0)
    assert watch.wait_s() == 0.0
    for on_late in watch.late() + watch.late():
        on_late()
    assert (told, watch.end("b"), watch.wait_s()) == (["a", "b"], False, None)
