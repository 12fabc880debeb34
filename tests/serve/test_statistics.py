"""Statistics: what is counted of each event, and what perf_analyzer relies on."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from carpool.serve.statistics import Duration, Statistics
from carpool.signals.events import BatchFailed, BatchRan, CacheAsked, Event, ItemDropped, ItemRejected

MS = 1_000_000


def batch(*arrived_at: float, num_failed: int = 0, dispatched_at: float = 2.0) -> BatchRan:
    """A batch that waited 0.5 s for the model, which ran for 1 s."""
    return BatchRan(
        at=9.0,
        batch_id=1,
        worker=0,
        reason="idle",
        arrived_at=arrived_at,
        lengths=(1,) * len(arrived_at),
        padded_length=1,
        dispatched_at=dispatched_at,
        started_at=dispatched_at + 0.5,
        finished_at=dispatched_at + 1.5,
        num_failed=num_failed,
    )


def counted(*events: Event) -> Statistics:
    """Record events."""
    statistics = Statistics(now_s=lambda: 1234.5678)
    for event in events:
        statistics.record(event)
    return statistics


def test_each_item_counts_all_the_time_that_it_was_there() -> None:
    """The model's run too, although the batch shares it."""
    model = counted(batch(1.0, 1.5)).freeze("m", "3")
    assert (model.name, model.version, model.inference_count, model.execution_count) == ("m", "3", 2, 1)
    stats = model.inference_stats
    assert stats.success == Duration(2, (2500 + 2000) * MS)
    assert stats.queue == Duration(2, (1000 + 500) * MS)
    assert stats.compute_input == Duration(2, 2 * 500 * MS)
    assert stats.compute_infer == Duration(2, 2 * 1000 * MS)
    assert stats.compute_output == Duration(2, 0)
    assert model.last_inference == 1234567


def test_batches_are_counted_by_size() -> None:
    """Each batch once, whatever it holds."""
    model = counted(batch(1.0, 1.5), batch(1.0), batch(1.0, 1.0)).freeze("m", "1")
    sizes = [(one.batch_size, one.compute_input, one.compute_infer, one.compute_output) for one in model.batch_stats]
    assert sizes == [
        (1, Duration(1, 500 * MS), Duration(1, 1000 * MS), Duration(1)),
        (2, Duration(2, 1000 * MS), Duration(2, 2000 * MS), Duration(2)),
    ]


def test_what_brought_no_result_is_a_failure() -> None:
    """Refused, too late, or failed in the batch; a run that raised is an execution all the same."""
    model = counted(
        ItemRejected(at=1.0, reason="queue_full"),
        ItemDropped(at=3.0, arrived_at=1.0, cause="deadline"),
        BatchFailed(at=2.0, started_at=1.0, batch_id=1, num_items=2, error="no", arrived_at=(0.5,)),
        batch(1.0, 1.0, num_failed=1),
    ).freeze("m", "1")
    assert model.inference_stats.fail == Duration(4, (2000 + 1500 + 2500) * MS)
    assert model.inference_stats.success == Duration(1, 2500 * MS)
    assert (model.inference_count, model.execution_count) == (1, 2)


def test_what_the_cache_answers_is_a_success_that_was_not_computed() -> None:
    """What shares the computation of another is counted with that one."""
    asked = [CacheAsked(at=1.0, answer=answer, took_s=0.001) for answer in ("hit", "miss", "joined")]
    model = counted(*asked, batch(1.0)).freeze("m", "1")
    assert model.inference_stats.cache_hit == Duration(1, MS)
    assert model.inference_stats.cache_miss == Duration(2, 2 * MS)
    assert (model.inference_stats.success.count, model.inference_count) == (2, 1)


@given(st.lists(st.lists(st.floats(0, 2), min_size=1, max_size=5), max_size=5))
def test_what_perf_analyzer_takes_for_granted_holds(arrivals: list[list[float]]) -> None:
    """The three compute counts are equal, the queue's is theirs, and no time is below zero."""
    stats = counted(*(batch(*arrived_at) for arrived_at in arrivals)).freeze("m", "1").inference_stats
    counts = {stats.queue.count, stats.compute_input.count, stats.compute_infer.count, stats.compute_output.count}
    assert len(counts) == 1
    assert all(part["ns"] >= 0 for part in msgspec.to_builtins(stats).values())


def test_nothing_yet_is_all_zeros() -> None:
    """With every key there."""
    document = msgspec.to_builtins(counted().freeze("m", "1"))
    assert document["batch_stats"] == document["memory_usage"] == []
    assert document["response_stats"] == {}
    assert document["last_inference"] == 0
    assert set(document["inference_stats"]) == {
        "success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss",
    }  # fmt: skip
