"""The order in which a batch's outcomes are handed over, learned from and recorded."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from carpool.core import AffineCost, Batch, BatchFormer, Fault, Item, Policy, VirtualClock
from carpool.cost.online import AdaptiveCost
from carpool.errors import CarpoolError, DispatcherDied, ModelError, ModelHung
from carpool.runtime.delivery import Outcome, deliver, nothing
from carpool.runtime.dispatcher import Dispatcher
from carpool.signals.counts import Counts, Totals
from carpool.signals.events import BatchRan, Event
from tests.runtime.fakes import Recorder


class Diary:
    """A cost model, a sink and a way of delivery that note what they were asked for, in order."""

    def __init__(self, *, is_full: bool = False) -> None:
        self.entries: list[str] = []
        self.outcomes: list[Outcome] = []
        self._is_full = is_full

    def time_s(self, batch_size: int, length: int) -> float:
        """A batch takes a second."""
        return 1.0

    def observe(self, batch_size: int, length: int, service_s: float) -> None:
        """Learn."""
        self.entries.append("learned")

    def record(self, event: Event) -> None:
        """Take an event, where there is room."""
        self.entries.append("recorded")
        if self._is_full:
            raise OSError("no space left on the device")

    def deliver(self, outcomes: list[Outcome], then: Callable[[], None] = nothing, /) -> None:
        """Hand outcomes over."""
        self.entries += ["answered"] * bool(outcomes)
        self.outcomes += outcomes
        then()


def running(diary: Diary, num_items: int = 2) -> tuple[Dispatcher, Batch]:
    """Return a dispatcher and a batch that runs; each handle is the number of its item."""
    dispatcher = Dispatcher(BatchFormer(Policy(), diary), VirtualClock(), diary, diary.deliver)
    dispatcher.submit_all([Item(handle=Number(number)) for number in range(num_items)])
    batch = dispatcher.step()
    assert isinstance(batch, Batch)
    return dispatcher, batch


class Number(int):
    """A handle that nobody has cancelled."""

    def cancelled(self) -> bool:
        """Tell that somebody waits."""
        return False


def test_answers_come_before_what_nobody_waits_for() -> None:
    """A batch is learned from and recorded when its outcomes are on their way."""
    diary = Diary()
    dispatcher, batch = running(diary)
    dispatcher.succeeded(batch, ["a", "b"], worker=0, started_at=0.0)
    assert diary.entries == ["answered", "learned", "recorded"]
    assert diary.outcomes == [(0, "a"), (1, "b")]
    assert dispatcher.is_idle


@pytest.mark.parametrize("ending", ["succeeded", "failed"])
def test_fault_while_recording_leaves_everyone_answered_once(ending: str) -> None:
    """A sink that raises ends the dispatcher, and what was answered before is not answered again."""
    diary = Diary(is_full=True)
    dispatcher, batch = running(diary, num_items=1)
    error = ModelError("no")
    expected: Any = error if ending == "failed" else "a"
    endings: dict[str, Callable[[], None]] = {
        "succeeded": lambda: dispatcher.succeeded(batch, ["a"], worker=0, started_at=0.0),
        "failed": lambda: dispatcher.failed(batch, error, started_at=0.0),
    }
    if ending == "succeeded":  # what is noted after the answers may be noted on another thread
        endings[ending]()
    else:
        with pytest.raises(OSError, match="no space") as caught:
            endings[ending]()
        dispatcher.die(caught.value, batch)
    assert diary.outcomes == [(0, expected)]
    assert isinstance(dispatcher.failure, DispatcherDied)


def test_fault_while_a_batch_runs_answers_all_that_are_left() -> None:
    """Those that run and those that wait are told, once."""
    diary = Diary()
    dispatcher, batch = running(diary)
    dispatcher.submit_all([Item(handle=Number(2))])
    dispatcher.die(RuntimeError("a fault"), batch)
    assert [handle for handle, _ in diary.outcomes] == [0, 1, 2]
    assert all(isinstance(outcome, CarpoolError) for _, outcome in diary.outcomes)


def recorded(num_items: int) -> tuple[Dispatcher, Batch, list[Event]]:
    """Return a dispatcher, a batch that runs, and the list that its events go to."""
    sink = Recorder()
    former = BatchFormer(Policy(), AffineCost(overhead_s=1.0, token_s=0.0))
    dispatcher = Dispatcher(former, VirtualClock(), sink, lambda _, then=nothing: then())
    dispatcher.submit_all([Item(handle=Number(number)) for number in range(num_items)])
    batch = dispatcher.step()
    assert isinstance(batch, Batch)
    return dispatcher, batch, sink.events


def test_what_the_profile_says_is_on_record_whatever_has_been_learned() -> None:
    """A model that is three times as slow as when it was measured: predictions follow, the profile's word stays."""
    sink, clock = Recorder(), VirtualClock()
    former = BatchFormer(Policy(), AdaptiveCost(AffineCost(overhead_s=1.0, token_s=0.0)))
    dispatcher = Dispatcher(former, clock, sink, lambda _, then=nothing: then())
    for _ in range(100):
        dispatcher.submit_all([Item(arrived_at=clock.now(), handle=Number(0))])
        batch = dispatcher.step()
        assert isinstance(batch, Batch)
        clock.advance_to(clock.now() + 3.0)
        dispatcher.succeeded(batch, ["a"], worker=0, started_at=batch.dispatched_at)
    totals = totals_of(sink.events)
    assert totals.predicted_busy_s / totals.profiled_s == pytest.approx(3.0)
    last = sink.events[-1]
    assert isinstance(last, BatchRan)
    assert last.profiled_s == 1.0
    assert last.predicted_s == pytest.approx(3.0, rel=0.02)


def totals_of(events: list[Event]) -> Totals:
    """Count events."""
    counts = Counts(8)
    for event in events:
        counts.add(event)
    return counts.freeze()


def test_failed_results_are_counted_in_the_record() -> None:
    """Results that are errors, of whatever kind, fail their own item only."""
    dispatcher, batch, events = recorded(3)
    dispatcher.succeeded(batch, [1, ModelError("one"), CarpoolError("two")], worker=0, started_at=0.0)
    assert [getattr(event, "num_failed", None) for event in events] == [2]


def test_items_that_a_failed_run_answers_are_counted() -> None:
    """All of a batch that hung; none of one whose items run again, but each that then fails alone."""
    dispatcher, batch, events = recorded(3)
    dispatcher.failed(batch, ModelHung("no end"), started_at=0.0, fault=Fault.MODEL)
    assert (totals_of(events).num_items, totals_of(events).num_failed) == (3, 3)

    dispatcher, batch, events = recorded(2)
    dispatcher.failed(batch, ModelError("no"), started_at=0.0)
    assert totals_of(events).num_failed == 0
    for alone in (dispatcher.step(), dispatcher.step()):
        assert isinstance(alone, Batch)
        dispatcher.failed(alone, ModelError("no"), started_at=0.0)
    assert (totals_of(events).num_failed, totals_of(events).num_batch_failures) == (2, 3)


def test_items_that_a_stop_leaves_over_are_counted() -> None:
    """What waits is abandoned; what a fault of the batcher itself caught in mid-run has failed."""
    dispatcher, batch, events = recorded(2)
    dispatcher.submit(Item(handle=Number(2)))
    dispatcher.die(RuntimeError("a fault"), batch)
    assert totals_of(events).drops == {"abandoned": 1}
    assert (totals_of(events).num_failed, totals_of(events).num_batch_failures) == (2, 1)


def test_what_comes_after_the_answers_is_called_once_wherever_they_go() -> None:
    """On a loop once its answers have landed; where every loop has closed, at once."""

    async def after(num_loops: int) -> list[str]:
        loop, other = asyncio.get_running_loop(), asyncio.new_event_loop()
        entries: list[str] = []
        futures = [asyncio.Future[str](loop=chosen) for chosen in (loop, other)[:num_loops]]
        futures[0].add_done_callback(lambda _: entries.append("resumed"))
        deliver([(future, "a") for future in futures], lambda: entries.append("noted"))
        assert entries == [], "nobody was called back before the loop had its turn"
        await futures[0]
        other.close()
        return entries

    assert asyncio.run(after(1)) == asyncio.run(after(2)) == ["noted", "resumed"]
    closed = asyncio.new_event_loop()
    lost = asyncio.Future[str](loop=closed)
    closed.close()
    noted: list[str] = []
    deliver([(lost, "a")], lambda: noted.append("noted"))
    deliver([], lambda: noted.append("again"))
    assert noted == ["noted", "again"]
