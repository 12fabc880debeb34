"""Finding the guilty, sparing the innocent, and remembering."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carpool.core import AffineCost, BatchFormer, Dispatch, Fault, Item, Policy, Reason, Wait
from tests.core.simulation import run_until_done

COST = AffineCost(overhead_s=0.01, token_s=0.001)


def former_of(num_items: int, *, lengths: list[int] | None = None, num_workers: int = 1) -> BatchFormer:
    """Return a former in which so many items wait, which leave in one batch."""
    former = BatchFormer(Policy(max_batch_size=max(num_items, 1)), COST, num_workers=num_workers)
    for number in range(num_items):
        former.add(Item(payload=number, length=lengths[number] if lengths else 1), 0.0)
    return former


def dispatched(former: BatchFormer, now: float = 0.0) -> Dispatch:
    """Return the batch that leaves now."""
    answer = former.poll(now)
    assert isinstance(answer, Dispatch)
    return answer


@pytest.mark.parametrize("position", range(64))
def test_bisection_finds_the_guilty_item_among_63_good_ones(position: int) -> None:
    """Only it fails, after at most two calls a level of halving and the first."""
    failed, num_calls = run_until_done(former_of(64), lambda item: item.payload == position)
    assert [item.payload for item in failed] == [position]
    assert num_calls <= 1 + 2 * math.log2(64)


@given(st.integers(1, 64), st.sets(st.integers(0, 63), max_size=3))
def test_few_guilty_items_fail_alone(num_items: int, guilty: set[int]) -> None:
    """Up to three, wherever they stand, take no innocent one with them, unless they are most of the far end's probe."""
    failed, _ = run_until_done(former_of(num_items), lambda item: item.payload in guilty)
    expected = {number for number in guilty if number < num_items}
    assert expected <= {item.payload for item in failed}
    if num_items - 1 not in expected:
        assert {item.payload for item in failed} == expected


def test_neighbours_that_are_all_guilty_do_not_doom_the_rest() -> None:
    """Eight bad items of one client stand side by side: the probe from the far end saves the others."""
    failed, _ = run_until_done(former_of(64), lambda item: item.payload < 8)
    assert sorted(item.payload for item in failed) == list(range(8))


@pytest.mark.parametrize("num_items", [1, 2, 3, 8, 64, 100])
def test_model_that_fails_on_everything_is_not_called_for_every_item(num_items: int) -> None:
    """All fail after about as many calls as there are levels of halving, not after twice as many as items."""
    failed, num_calls = run_until_done(former_of(num_items), lambda item: True)
    assert len(failed) == num_items
    assert num_calls <= math.ceil(math.log2(num_items)) + 6


def test_memory_that_never_suffices_is_not_tried_for_every_item() -> None:
    """Out of memory with a single item, again and again, ends as soon."""
    former, failed, num_calls = former_of(64), 0, 0
    while isinstance(answer := former.poll(0.0), Dispatch):
        failed += len(former.failed(answer.batch, 0.0, Fault.MEMORY))
        num_calls += 1
    assert (failed, num_calls <= 12) == (64, True)


def test_fault_of_the_model_fails_the_batch_at_once() -> None:
    """Nobody is looked for when nobody can be guilty."""
    former = former_of(8)
    assert len(former.failed(dispatched(former).batch, 0.0, Fault.MODEL)) == 8
    assert former.num_waiting == 0


def test_batch_whose_worker_died_runs_again_whole_before_it_is_halved() -> None:
    """Once: a worker that dies a second time makes the batch itself suspect."""
    former = former_of(8)
    sizes = []
    for _ in range(4):
        batch = dispatched(former).batch
        sizes.append(len(batch.items))
        former.failed(batch, 0.0, Fault.WORKER)
        former.check_integrity()
    assert sizes == [8, 8, 4, 2]


@pytest.mark.parametrize("position", [0, 31, 63])
def test_only_the_item_that_kills_its_worker_fails(position: int) -> None:
    """63 of 64 are answered, after the second attempt and at most two calls a level of halving."""
    former, failed, answered, num_deaths = former_of(64), [], [], 0
    while isinstance(answer := former.poll(0.0), Dispatch):
        items = answer.batch.items
        if any(item.payload == position for item in items):
            num_deaths += 1
            failed += former.failed(answer.batch, 0.0, Fault.WORKER)
        else:
            former.succeeded(answer.batch, 0.0)
            answered += items
    assert ([item.payload for item in failed], len(answered), num_deaths) == ([position], 63, 8)
    assert former.num_waiting == 0


def test_single_item_whose_worker_dies_once_is_run_again() -> None:
    """A worker that is killed from outside costs no answer."""
    former = former_of(1)
    assert former.failed(dispatched(former).batch, 0.0, Fault.WORKER) == []
    assert len(former.failed(dispatched(former).batch, 0.0, Fault.WORKER)) == 1


def test_parts_of_a_failed_batch_run_before_all_others() -> None:
    """Their reason says what they are."""
    former = former_of(4)
    assert former.failed(dispatched(former).batch, 0.0) == []
    former.add(Item(priority=9), 0.0)
    parts = [dispatched(former) for _ in range(1)]
    assert (len(parts[0].batch.items), parts[0].batch.reason) == (2, Reason.BISECT)


def test_out_of_memory_halves_and_remembers() -> None:
    """The parts run, and the next batch is no larger than they were; no item is blamed."""
    former = former_of(8)
    assert former.failed(dispatched(former).batch, 0.0, Fault.MEMORY) == []
    for _ in range(2):
        part = dispatched(former).batch
        assert len(part.items) == 4
        former.succeeded(part, 0.0)
    for _ in range(8):
        former.add(Item(), 0.0)
    batch = dispatched(former).batch
    assert (len(batch.items), batch.reason) == (4, Reason.BUDGET)


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=40), st.integers(1, 16))
def test_nothing_is_lost_while_memory_comes_and_goes(phases: list[tuple[int, int]], longest: int) -> None:
    """Whatever fits alone is answered, once, however often a larger batch is tried and fails."""
    former = BatchFormer(Policy(max_batch_size=16, max_queue=10_000), COST)
    former.budget.ceiling.patience = 2
    added, answered = 0, []
    for num_items, num_rows in phases:
        for _ in range(num_items):
            former.add(Item(payload=added, length=1 + added % longest), 0.0)
            added += 1
        while isinstance(answer := former.poll(0.0), Dispatch):
            batch = answer.batch
            if len(batch.items) > 1 and batch.size * batch.length > num_rows * longest:
                assert former.failed(batch, 0.0, Fault.MEMORY) == []
            else:
                former.succeeded(batch, 0.0)
                answered += [item.payload for item in batch.items]
            former.check_integrity()
    assert sorted(answered) == list(range(added))


def test_memory_that_comes_back_is_used_again() -> None:
    """Full batches leave once more, after attempts that failed while it was scarce."""
    former, sizes = BatchFormer(Policy(max_batch_size=64, max_queue=100_000), COST), []
    for number in range(60_000):
        former.add(Item(payload=number), 0.0)
    while isinstance(answer := former.poll(0.0), Dispatch):
        sizes.append(answer.batch.size)
        if answer.batch.size > 10 and len(sizes) < 1000:
            former.failed(answer.batch, 0.0, Fault.MEMORY)
        else:
            former.succeeded(answer.batch, 0.0)
    scarce = [size for size in sizes[:1000] if size > 10]
    assert scarce == [64, 32, 16, 12, 12, 12, 12]
    assert sizes[-2] == 64


def test_part_that_no_longer_fits_runs_in_smaller_parts() -> None:
    """The ceiling fell while it waited: it is cut, and nothing of it is lost."""
    former = former_of(8, num_workers=2)
    former.failed(dispatched(former).batch, 0.0)
    first = dispatched(former).batch
    former.failed(first, 0.0, Fault.MEMORY)
    sizes = []
    while isinstance(answer := former.poll(0.0), Dispatch):
        sizes.append(len(answer.batch.items))
        former.succeeded(answer.batch, 0.0)
    assert sizes == [2, 2, 2, 2]


def test_suspect_length_runs_alone_until_it_succeeds() -> None:
    """After an item of 7 tokens was guilty, the next of that length runs alone, and then with others again."""
    former = former_of(2, lengths=[7, 9])
    failed, _ = run_until_done(former, lambda item: item.payload == 0)
    assert len(failed) == 1
    for length in (9, 7, 7, 9):
        former.add(Item(length=length), 1.0)
    batches = []
    while isinstance(answer := former.poll(1.0), Dispatch):
        batches.append([item.length for item in answer.batch.items])
        former.succeeded(answer.batch, 1.0)
    assert batches == [[9, 9], [7], [7]]
    for length in (7, 9):
        former.add(Item(length=length), 2.0)
    assert len(dispatched(former, 2.0).batch.items) == 2


def test_suspect_does_not_wait_for_company_that_it_may_not_have() -> None:
    """It leaves at once even where waiting would pay."""
    former = BatchFormer(Policy(max_batch_size=8, max_wait_s=1.0), COST)
    for number in range(50):
        former.add(Item(arrived_at=number * 0.001), number * 0.001)
    failed, _ = run_until_done(former, lambda item: True, 0.05)
    assert failed
    former.abandon()
    former.add(Item(arrived_at=0.051), 0.051)
    assert isinstance(former.poll(0.051), Dispatch)


def test_cancelled_part_of_a_failed_batch_is_not_run_again() -> None:
    """An empty part vanishes."""
    former = former_of(2)
    batch = dispatched(former).batch
    former.failed(batch, 0.0)
    assert former.cancel(batch.items[0])
    former.check_integrity()
    assert dispatched(former).batch.items == [batch.items[1]]
    assert isinstance(former.poll(0.0), Wait)


def test_item_that_becomes_late_while_it_waits_to_run_again_expires() -> None:
    """Its deadline counts there too."""
    former = BatchFormer(Policy(), COST)
    for deadline_at in (1.0, 5.0):
        former.add(Item(deadline_at=deadline_at), 0.0)
    former.failed(dispatched(former).batch, 0.5)
    assert former.next_deadline_at() == 1.0
    assert [item.deadline_at for item in former.expire(1.0)] == [1.0]
    assert former.next_deadline_at() == 5.0
    assert former.num_waiting == 1
