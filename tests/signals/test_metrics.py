"""Metrics count every event once, whoever records and reads, and stay within bounds."""

from __future__ import annotations

import subprocess
import sys
import threading

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carpool.signals.events import BatchFailed, Event, ItemDropped, ItemRejected
from carpool.signals.metrics import FOLD_AT, Metrics, Snapshot
from carpool.signals.recent import MAX_WINDOW_ITEMS, MAX_WINDOW_RECORDS
from tests.signals.records import batch, closed_loop


def test_totals_count_each_kind_of_event() -> None:
    """One event of each kind lands where it belongs."""
    metrics = Metrics(max_batch_size=4)
    events: list[Event] = [
        batch((0.0, 0.1), start=0.2, end=0.3, reason="full", num_failed=1, queue_depth=3, predicted_s=0.05),
        ItemRejected(at=0.3, reason="queue_full"),
        ItemDropped(at=0.4, arrived_at=0.1, cause="deadline"),
        BatchFailed(at=0.5, started_at=0.3, batch_id=7, num_items=2, error="ValueError: no", arrived_at=(0.2,)),
    ]
    for event in events:
        metrics.record(event)
    totals = metrics.totals()
    assert (totals.num_batches, totals.num_items, totals.num_failed, totals.num_batch_failures) == (1, 3, 2, 1)
    assert (totals.reasons, totals.rejections, totals.drops) == ({"full": 1}, {"queue_full": 1}, {"deadline": 1})
    assert (totals.real_tokens, totals.padded_tokens, totals.queue_depth) == (20, 32, 3)
    assert totals.busy_s == pytest.approx(0.1 + 0.2)
    assert totals.compute_s.total == pytest.approx(0.1)
    assert totals.queue_delay_s.total == pytest.approx(0.3)
    assert totals.fill.total == 0.5
    assert totals.prediction.total == pytest.approx(2.0)


@given(st.integers(0, 5 * FOLD_AT), st.lists(st.integers(0, 5 * FOLD_AT), max_size=4))
def test_no_event_is_lost_or_counted_twice_whenever_it_is_read(num: int, reads: list[int]) -> None:
    """Folding on a read, folding on a full deque, and both together give the same counts."""
    metrics = Metrics(max_batch_size=1)
    for number in range(num):
        metrics.record(ItemRejected(at=float(number), reason="queue_full"))
        if number in reads:
            assert metrics.totals().rejections["queue_full"] == number + 1
    assert sum(metrics.totals().rejections.values()) == num


def test_many_threads_record_while_one_reads() -> None:
    """Every event is counted once, and no reader ever sees a count fall."""
    metrics = Metrics(max_batch_size=1)
    seen: list[int] = []
    done = threading.Event()

    def record() -> None:
        for number in range(4000):
            metrics.record(ItemRejected(at=float(number), reason="queue_full"))

    def read() -> None:
        while not done.is_set():
            seen.append(metrics.totals().rejections.get("queue_full", 0))

    recorders = [threading.Thread(target=record) for _ in range(4)]
    reader = threading.Thread(target=read)
    for thread in (reader, *recorders):
        thread.start()
    for thread in recorders:
        thread.join()
    done.set()
    reader.join()
    assert metrics.totals().rejections == {"queue_full": 16_000}
    assert seen == sorted(seen)


def test_reader_who_meets_a_fold_gets_what_was_published_last() -> None:
    """With the token taken, reading neither waits nor fails."""
    metrics = Metrics(max_batch_size=1)
    metrics.record(ItemRejected(at=0.0, reason="invalid"))
    assert metrics.totals().rejections == {"invalid": 1}
    metrics._token.pop()
    metrics.record(ItemRejected(at=0.0, reason="invalid"))
    assert metrics.totals().rejections == {"invalid": 1}
    metrics._token.append(None)
    assert metrics.totals().rejections == {"invalid": 2}


def test_pending_events_stay_few() -> None:
    """Nobody reads for a long time, and the memory stays bounded."""
    metrics = Metrics(max_batch_size=4)
    for event in closed_loop(3 * MAX_WINDOW_RECORDS, batch_size=2):
        metrics.record(event)
        assert len(metrics._pending) < FOLD_AT
    window = metrics.snapshot().window
    assert window is not None
    assert window.num_batches == MAX_WINDOW_RECORDS
    assert window.from_at == pytest.approx(2 * MAX_WINDOW_RECORDS * 0.01)
    assert window.items_per_s == pytest.approx(200, rel=1e-6)


def test_large_batches_are_bounded_by_their_items() -> None:
    """The window holds fewer of the larger batches."""
    metrics = Metrics(max_batch_size=1024)
    for event in closed_loop(100, batch_size=1024):
        metrics.record(event)
    window = metrics.snapshot().window
    assert window is not None
    assert window.num_items <= MAX_WINDOW_ITEMS


def test_window_looks_back_as_far_as_it_was_told() -> None:
    """Batches of a minute ago are in the totals but not in a window of one second."""
    metrics = Metrics(max_batch_size=4, window_s=1.0)
    for event in (*closed_loop(10), batch((60.0,), start=60.0, end=60.1)):
        metrics.record(event)
    snapshot = metrics.snapshot(now=60.5)
    assert snapshot.totals.num_batches == 11
    assert snapshot.window is not None
    assert (snapshot.window.num_batches, snapshot.window.from_at) == (1, 59.5)


def test_time_of_failed_runs_is_utilisation_before_any_batch_has_run() -> None:
    """A model that only fails keeps its worker busy for half of the second that it is watched."""
    metrics = Metrics(max_batch_size=4)
    for start in (10.0, 10.5):
        failed = BatchFailed(at=start + 0.25, started_at=start, batch_id=0, num_items=1, error="ValueError: no")
        metrics.record(failed)
    window = metrics.snapshot(now=11.0).window
    assert window is not None
    assert (window.from_at, window.num_batches) == (10.0, 0)
    assert window.utilisation == pytest.approx(0.5)


def test_snapshot_is_plain_data_that_survives_json() -> None:
    """What is written to JSON reads back as the same snapshot."""
    metrics = Metrics(max_batch_size=4)
    assert metrics.snapshot().window is None
    for event in closed_loop(5):
        metrics.record(event)
    snapshot = metrics.snapshot(objective_s=0.05)
    assert msgspec.json.decode(msgspec.json.encode(snapshot), type=Snapshot) == snapshot


def test_events_and_metrics_import_nothing_that_knows_time_or_chance() -> None:
    """A fresh interpreter that imports them holds no scheduler, no third-party package and no random numbers."""
    program = (
        "import sys; import carpool.signals.events, carpool.signals.metrics;"
        "print([name for name in sys.argv[1:] if name in sys.modules])"
    )
    unwanted = ("asyncio", "threading", "random", "torch", "numpy", "msgspec")
    done = subprocess.run([sys.executable, "-c", program, *unwanted], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
