"""How a batch is formed: when it leaves, why, and what is refused."""

import math
from typing import Any

import pytest

from carpool.core import AffineCost, Batch, BatchFormer, Dispatch, Item, Policy, Reason, Wait
from carpool.cost.online import AffineEstimator
from carpool.errors import DeadlineExceeded, InvalidItem, QueueFull
from tests.core.simulation import Simulation

COST = AffineCost(overhead_s=0.01, token_s=0.001)


def former_of(*items: Item, num_workers: int = 1, **policy: Any) -> BatchFormer:
    """Return a former in which these wait, each added at its arrival."""
    former = BatchFormer(Policy(**policy), COST, num_workers=num_workers)
    for item in items:
        former.add(item, item.arrived_at)
    return former


def dispatched(former: BatchFormer, now: float = 0.0) -> Batch:
    """Return the batch that leaves now."""
    answer = former.poll(now)
    assert isinstance(answer, Dispatch)
    return answer.batch


def expecting(num_returns: int, max_wait_s: float = 0.05) -> tuple[BatchFormer, float]:
    """Return a former that has learned that so many clients come back 1 ms after each answer, and its last answer."""
    former, now = former_of(max_batch_size=64, max_wait_s=max_wait_s), 0.0
    for _ in range(30):
        for _ in range(num_returns):
            former.add(Item(arrived_at=now), now)
        while isinstance(answer := former.poll(now), Wait):
            now = answer.until
        former.succeeded(answer.batch, now + 1.0)
        now += 1.001
    return former, now - 0.001


# ---------------------------------------------------------------------------------------------- late binding


def test_item_at_a_free_worker_leaves_at_once() -> None:
    """No wait when idle by default."""
    batch = dispatched(former_of(Item()))
    assert (len(batch.items), batch.reason) == (1, Reason.IDLE)


def test_batch_is_decided_when_a_worker_is_free() -> None:
    """Whatever arrived while the worker was busy goes together, urgent latecomers first."""
    former = former_of(Item(), max_batch_size=2)
    running = dispatched(former)
    for number in range(3):
        former.add(Item(payload=number, arrived_at=0.001, deadline_at=1.0 - number * 0.1), 0.001)
    former.succeeded(running, 0.011)
    assert [item.payload for item in dispatched(former, 0.011).items] == [2, 1]


def test_nothing_to_do_waits_for_an_event() -> None:
    """An empty former sets no timer."""
    assert former_of().poll(0.0) == Wait(math.inf)


def test_batch_says_what_it_holds() -> None:
    """Rows, padded length and predicted time are those that will run."""
    former = former_of(
        *(Item(length=length) for length in (3, 9, 10)), length_buckets=(16,), batch_size_buckets=(4, 32)
    )
    batch = dispatched(former, 5.0)
    assert (batch.batch_id, batch.size, batch.length, batch.dispatched_at) == (0, 4, 16, 5.0)
    assert batch.predicted_s == COST.time_s(4, 16)


def test_batch_may_be_larger_than_the_look_ahead() -> None:
    """Looking no further than 4 does not keep a batch of 8 from being full."""
    batch = dispatched(former_of(*(Item() for _ in range(20)), max_batch_size=8, look_ahead=4))
    assert (len(batch.items), batch.reason) == (8, Reason.FULL)


# --------------------------------------------------------------------------------------------------- reasons


def test_full_batch_leaves_because_it_is_full() -> None:
    """Even where waiting is allowed."""
    assert dispatched(former_of(Item(), Item(), max_batch_size=2, max_wait_s=9.0)).reason is Reason.FULL


def test_batch_at_its_token_budget_leaves_for_that() -> None:
    """One more would have passed it."""
    assert dispatched(former_of(Item(length=6), Item(length=6), token_budget=10)).reason is Reason.BUDGET


def test_draining_waits_for_nobody() -> None:
    """What waited for company leaves at once when the batcher shuts, and says why."""
    former, now = expecting(8)
    former.add(Item(arrived_at=now), now)
    assert isinstance(former.poll(now), Wait)
    former.drain()
    assert dispatched(former, now).reason is Reason.DRAIN


def test_batch_that_waited_in_vain_leaves_by_the_timer() -> None:
    """The expected company did not come: it leaves when the silence has cost what the company was worth."""
    former, now = expecting(8)
    former.add(Item(arrived_at=now), now)
    answer = former.poll(now)
    assert isinstance(answer, Wait)
    assert now < answer.until <= now + 0.05
    assert dispatched(former, answer.until).reason is Reason.TIMER


def test_reason_does_not_remember_a_wait_of_others() -> None:
    """The one that waited was withdrawn; the next leaves because the worker is idle."""
    former, now = expecting(8)
    item = Item(arrived_at=now)
    former.add(item, now)
    assert isinstance(former.poll(now), Wait)
    assert former.cancel(item)
    former.add(Item(arrived_at=now + 0.5), now + 0.5)
    assert dispatched(former, now + 0.5).reason is Reason.IDLE


def test_partial_batch_leaves_when_a_longer_wait_would_make_it_late() -> None:
    """The wait ends when what is left of the tightest slack is the time of the batch with one more."""
    former, now = expecting(8)
    former.add(Item(arrived_at=now, deadline_at=now + 0.02), now)
    answer = former.poll(now)
    assert isinstance(answer, Wait)
    assert answer.until == pytest.approx(now + 0.02 - COST.time_s(2, 1))
    batch = dispatched(former, answer.until)
    assert batch.reason is Reason.DEADLINE
    assert answer.until + batch.predicted_s <= now + 0.02


# --------------------------------------------------------------------------------------------------- waiting


def test_wait_ends_at_max_wait_after_the_arrival() -> None:
    """However much company is expected, the oldest item waits no longer than allowed."""
    former, now = expecting(32, max_wait_s=0.004)
    former.add(Item(arrived_at=now), now)
    at = now
    while isinstance(answer := former.poll(at), Wait):
        assert answer.until <= now + 0.004 + 1e-12
        at = min(answer.until, at + 0.0005)
        if at < answer.until:
            former.add(Item(arrived_at=at), at)
    assert at <= now + 0.004 + 1e-12


def test_completions_of_other_workers_do_not_prolong_a_wait() -> None:
    """An item at a free worker leaves within `max_wait_s` of its arrival, whatever the other workers do meanwhile."""
    former = former_of(num_workers=2, max_batch_size=64, max_wait_s=0.01)
    now, other = 0.0, None
    for _ in range(200):  # a closed loop of one batch of 8 every millisecond at one worker
        for _ in range(8):
            former.add(Item(arrived_at=now), now)
        if other is not None:
            former.succeeded(other, now)
        at = now
        while isinstance(answer := former.poll(at), Wait):
            at = answer.until
        assert at - min(item.arrived_at for item in answer.batch.items) <= 0.01 + 1e-12
        other, now = answer.batch, max(now + 0.001, at)


def test_single_closed_loop_client_is_never_made_to_wait() -> None:
    """Each of its requests takes exactly what a batch of one takes."""
    simulation = Simulation(Policy(max_batch_size=64, max_wait_s=0.05), COST)
    simulation.closed_loop(1, think_s=0.0001)
    outcome = simulation.run(until=10.0)
    assert max(outcome.latencies_s) == pytest.approx(COST.time_s(1, 1))


# ------------------------------------------------------------------------------------------------- admission


def test_full_queue_refuses_and_says_when_to_come_back() -> None:
    """By then the queue is predicted to have been served."""
    former = former_of(*(Item() for _ in range(4)), max_batch_size=2, max_queue=4)
    with pytest.raises(
        QueueFull, match=r"the queue holds 4 items, and max_queue is 4: try again in 0\.024 s, or"
    ) as refusal:
        former.add(Item(), 0.0)
    assert refusal.value.retry_after_s == pytest.approx(2 * COST.time_s(2, 1))
    assert former.num_waiting == 4


def test_full_queue_whose_pace_nobody_knows_gives_no_number() -> None:
    """Nothing was learned so far: to come back at once would be refused again."""
    former = BatchFormer(Policy(max_queue=1), AffineCost(overhead_s=0.0, token_s=0.0))
    former.add(Item(), 0.0)
    with pytest.raises(QueueFull, match="max_queue is 1: try again later, or raise max_queue") as refusal:
        former.add(Item(), 0.0)
    assert refusal.value.retry_after_s is None


def test_item_that_never_fits_is_told_so_even_when_the_queue_is_full() -> None:
    """Coming back later would not help."""
    former = former_of(Item(), max_queue=1, token_budget=8)
    with pytest.raises(InvalidItem, match="can never fit token_budget 8"):
        former.add(Item(length=9), 0.0)


def test_deadline_that_the_queue_makes_impossible_is_refused() -> None:
    """Two full batches and its own full one take 36 ms; 30 are not enough, and 40 are."""
    former = former_of(*(Item() for _ in range(5)), max_batch_size=2)
    message = "the deadline is 0.03 s away, and the queue is predicted to take 0.036 s: allow more time, or try again"
    with pytest.raises(DeadlineExceeded, match=message) as refusal:
        former.add(Item(deadline_at=0.03, priority=-99), 0.0)
    assert refusal.value.retry_after_s == pytest.approx(0.024)
    former.add(Item(deadline_at=0.04, priority=-99), 0.0)


def test_deadline_that_can_be_met_with_those_ahead_is_accepted() -> None:
    """It joins their batch: their time is not counted twice, and they do not wait for the slower worker."""
    former = former_of(*(Item() for _ in range(3)), num_workers=2)
    former.add(Item(deadline_at=0.0141), 0.0)


def test_earliest_free_worker_counts_for_the_prediction() -> None:
    """One worker is busy for long, the other soon free."""
    former = former_of(Item(length=1000), num_workers=2)
    assert dispatched(former).predicted_s > 1.0
    former.add(Item(), 0.0)
    dispatched(former)
    former.add(Item(deadline_at=0.0221), 0.0)


def test_passed_deadline_is_refused() -> None:
    """An item that is late on arrival is not accepted."""
    with pytest.raises(DeadlineExceeded):
        former_of().add(Item(deadline_at=1.0), 2.0)


def test_learned_slowness_does_not_refuse_everything_for_ever() -> None:
    """After one slow first batch an idle batcher still accepts, runs and learns that it is fast now."""
    former = BatchFormer(Policy(), AffineEstimator())
    former.add(Item(), 0.0)
    former.succeeded(dispatched(former), 10.0)
    now = 10.0
    for _ in range(20):
        former.add(Item(arrived_at=now, deadline_at=now + 1.0), now)
        former.succeeded(dispatched(former, now), now + 0.01)
        now += 0.01
    assert former.cost.time_s(1, 1) < 0.1


# ------------------------------------------------------------------------------------- leaving without a batch


def test_cancelled_item_leaves_the_queue() -> None:
    """Nothing is computed for it, and it can be withdrawn once."""
    gone = Item()
    former = former_of(gone, Item(payload="stays"))
    assert former.cancel(gone)
    assert not former.cancel(gone)
    assert [item.payload for item in dispatched(former).items] == ["stays"]


def test_running_item_can_not_be_withdrawn() -> None:
    """It stays in its batch, and when it is answered it is over."""
    former = former_of(Item())
    batch = dispatched(former)
    assert not former.cancel(batch.items[0])
    former.succeeded(batch, 1.0)
    assert not former.cancel(batch.items[0])


def test_item_expires_at_its_deadline_and_not_before() -> None:
    """It is handed back, and is not computed."""
    item = Item(deadline_at=1.0)
    former = former_of(item)
    assert former.next_deadline_at() == 1.0
    assert former.expire(0.999) == []
    assert former.expire(1.0) == [item]
    assert former.poll(1.0) == Wait(math.inf)


def test_abandoned_items_are_handed_back() -> None:
    """All that waits, parts of failed batches included."""
    former = former_of(Item(), Item())
    former.failed(dispatched(former), 0.0)
    former.add(Item(), 0.0)
    assert len(former.abandon()) == 3
    assert former.num_waiting == 0


def test_drain_answers_all_that_waits() -> None:
    """Batch after batch, until nothing is left."""
    former = former_of(*(Item() for _ in range(10)), max_batch_size=4, max_wait_s=9.0)
    former.drain()
    reasons = []
    while isinstance(answer := former.poll(0.0), Dispatch):
        reasons.append(answer.batch.reason)
        former.succeeded(answer.batch, 0.0)
    assert reasons == [Reason.FULL, Reason.FULL, Reason.DRAIN]


# ------------------------------------------------------------------------------------------- who goes first


def test_higher_priority_goes_sooner() -> None:
    """Among items that arrived together."""
    former = former_of(*(Item(priority=level) for level in (0, 2, 1)), max_batch_size=1)
    assert dispatched(former).items[0].priority == 2


def test_failed_batch_does_not_count_as_answers() -> None:
    """Nobody comes back for it, so nobody is waited for."""
    former, now = expecting(8)
    for _ in range(8):
        former.add(Item(arrived_at=now), now)
    while isinstance(answer := former.poll(now), Wait):
        now = answer.until
    former.failed(answer.batch, now + 1.0)
    assert former._forecast.returns(now + 1.0) == 0.0
