"""What binds, and whether batching belongs: each answer from a case in which it is true."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carpool.plan.binding import Binding, what_binds, whether_batching_belongs
from carpool.plan.gaps import gaps
from tests.plan.scenes import Groups, affine, candidates, poisson, search

if TYPE_CHECKING:
    from carpool.plan.search import SearchResult
    from carpool.plan.subject import Subject

SMALL = 300


def bindings(subject: Subject, rate: float, *objectives: str, memory_limit_bytes: int | None = None) -> list[Binding]:
    """Search, and say what binds."""
    result = search(subject, poisson(rate), *objectives, items=SMALL, memory_limit_bytes=memory_limit_bytes)
    held = gaps(result.prediction, result.tried)
    return list(what_binds(result, candidates(subject, memory_limit_bytes=memory_limit_bytes), held))


def test_at_little_load_arrivals_bind() -> None:
    """Workers idle; the remedy names what the setup would carry."""
    (bound,) = bindings(affine(), 20.0)
    assert bound.limit == "arrivals"
    assert "Workers idle 9" in bound.why
    assert "The same setup carries up to 200 items/s; until then" in bound.remedy


def test_bursts_bind_where_batches_are_full_and_workers_idle() -> None:
    """Groups of 16 that come 0.2 ms apart, and then nothing for long."""
    result = search(affine(0.010, 0.0001), Groups(rate=80.0, size=16), items=SMALL, max_batch_size=4)
    (bound,) = what_binds(result, candidates(affine(0.010, 0.0001), max_batch_size=4), ())
    assert bound.limit == "arrivals"
    assert "the load comes in bursts" in bound.why


def test_a_call_that_costs_the_same_for_any_batch_binds_by_overhead() -> None:
    """10 ms for a call, next to nothing for an item."""
    (bound,) = bindings(affine(0.010, 0.0001), 200.0)
    assert bound.limit == "overhead"
    assert "is overhead that the items of a batch share" in bound.why
    assert "full ones would carry up to 1,379 items/s" in bound.remedy


def test_items_that_cost_most_of_the_time_bind_by_compute() -> None:
    """0.1 ms for a call, 5 ms for an item: larger batches change nothing."""
    (bound,) = bindings(affine(0.0001, 0.005), 150.0)
    assert bound.limit == "compute"
    assert "Larger batches no longer help" in bound.remedy


def test_memory_binds_where_it_keeps_batches_from_what_they_could_carry() -> None:
    """1 MB and 1 kB an item: 1.002 MB hold two of the sixteen that were measured."""
    model = affine(0.010, 0.0001, memory=True)
    bound = bindings(model, 150.0, memory_limit_bytes=1_002_500)[0]
    assert bound.limit == "memory"
    assert bound.why == "Memory holds batches of 2 items of 1 token, of the 16 that were measured."
    assert "would carry 1,379 instead of 196 items/s" in bound.remedy


def test_memory_that_takes_nothing_does_not_bind() -> None:
    """Where larger batches would carry no more, more memory is of no use."""
    model = affine(0.0, 0.005, memory=True)
    assert [bound.limit for bound in bindings(model, 140.0, memory_limit_bytes=1_002_500)] == ["compute"]


def test_a_missed_objective_binds_first() -> None:
    """Nothing takes less than 5 ms."""
    first, *_ = bindings(affine(), 100.0, "p99=4ms")
    assert first.limit == "objective"
    assert "promised" in first.why


def test_an_objective_that_is_only_just_kept_binds_last() -> None:
    """There is little room for more load."""
    *_, last = bindings(affine(), 100.0, "p99=12ms")
    assert last.limit == "objective"
    assert "near the 12 ms promised" in last.why


def belongs(subject: Subject, rate: float) -> tuple[bool, str, SearchResult]:
    """Search, and say whether batching belongs."""
    result = search(subject, poisson(rate), items=SMALL)
    found = whether_batching_belongs(result, candidates(subject), rate)
    return found.answer, found.why, result


def test_it_belongs_where_single_items_could_not_carry_the_load() -> None:
    """200 a second one by one, 300 arrive."""
    answer, why, _ = belongs(affine(), 300.0)
    assert answer
    assert why == (
        "300 items/s arrive, and without batching a worker can carry about 200 at most: batching carries the rest."
    )


def test_it_belongs_where_it_lowers_the_latency() -> None:
    """150 of the 200 that single items could carry: they would queue."""
    answer, why, _ = belongs(affine(), 150.0)
    assert answer
    assert why.startswith("Without it the mean latency would be ")
    assert "higher, workers would be busy 7" in why
    assert "and could carry 200 instead of " in why


def test_it_does_not_belong_where_a_batch_takes_as_long_as_its_items() -> None:
    """`t(b) = 5 b` ms."""
    answer, why, result = belongs(affine(0.0, 0.005), 140.0)
    assert not answer
    assert result.chosen.policy.max_batch_size == 1
    assert "A batch of 8 takes 8 times as long as one item" in why
    assert "best run one by one" in why


def test_it_does_not_belong_where_items_seldom_meet() -> None:
    """It could raise the throughput, of which there is no need."""
    answer, why, _ = belongs(affine(), 4.0)
    assert not answer
    assert "Full batches could carry 800 instead of 200 items/s, but 4/s arrive" in why
