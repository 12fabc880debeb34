"""One sink that tells others."""

from carpool.signals.events import ItemRejected
from carpool.signals.fan_out import FanOut
from tests.runtime.fakes import Recorder

EVENT = ItemRejected(at=1.0, reason="queue_full")


def test_sinks_come_and_go() -> None:
    """Each is told what happens while it is there."""
    first, second = Recorder(), Recorder()
    fan = FanOut(first)
    fan.record(EVENT)
    fan.add(second)
    fan.record(EVENT)
    fan.remove(first)
    fan.record(EVENT)
    fan.remove(first)
    assert (len(first.events), len(second.events)) == (2, 2)
