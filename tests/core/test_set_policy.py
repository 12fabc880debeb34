"""Changing the policy of a former while items wait and run."""

import pytest

from carpool.core import AffineCost, Batch, BatchFormer, Dispatch, Item, Policy, Reason
from carpool.errors import ConfigError, QueueFull

COST = AffineCost(overhead_s=0.01, token_s=0.001)


def former_of(num_items: int, **policy: object) -> BatchFormer:
    """Return a former in which so many items wait, in the order of their payloads."""
    former = BatchFormer(Policy(**policy), COST)  # type: ignore[arg-type]
    for number in range(num_items):
        former.add(Item(payload=number, arrived_at=0.0), 0.0)
    return former


def dispatched(former: BatchFormer, now: float = 0.0) -> Batch:
    """Return the batch that leaves now."""
    answer = former.poll(now)
    assert isinstance(answer, Dispatch)
    return answer.batch


def test_the_next_batch_is_formed_by_the_new_policy() -> None:
    """The one that runs is left alone; the order of what waits survives."""
    former = former_of(10, max_batch_size=2)
    running = dispatched(former)
    former.set_policy(Policy(max_batch_size=5))
    former.succeeded(running, 0.02)
    batch = dispatched(former, 0.02)
    assert [item.payload for item in running.items] == [0, 1]
    assert [item.payload for item in batch.items] == [2, 3, 4, 5, 6]
    assert batch.reason is Reason.FULL


def test_what_waits_keeps_its_place_where_the_order_changes() -> None:
    """Priorities worth nothing more put nobody ahead of those that came before; they hold for those that come."""
    former = former_of(0, max_batch_size=1, ageing_s=100.0)
    former.add(Item(payload="first", arrived_at=0.0), 0.0)
    former.add(Item(payload="urgent", arrived_at=0.1, priority=1), 0.1)
    former.set_policy(Policy(max_batch_size=1, ageing_s=0.0))
    former.add(Item(payload="urgent too late", arrived_at=0.2, priority=1), 0.2)
    order = []
    for _ in range(3):
        batch = dispatched(former, 1.0)
        order.append(batch.items[0].payload)
        former.succeeded(batch, 1.0)
    assert order == ["urgent", "first", "urgent too late"]


def test_a_shorter_queue_drops_nothing_and_takes_nothing_more() -> None:
    """What was accepted is answered."""
    former = former_of(8)
    former.set_policy(Policy(max_queue=4))
    with pytest.raises(QueueFull, match="max_queue is 4"):
        former.add(Item(), 0.0)
    assert len(dispatched(former).items) == 8


def test_an_item_that_no_longer_fits_runs_alone() -> None:
    """It was accepted under the old budget."""
    former = former_of(0, token_budget=100)
    former.add(Item(length=90), 0.0)
    former.set_policy(Policy(token_budget=20))
    assert [item.length for item in dispatched(former).items] == [90]


def test_what_was_learned_of_memory_is_kept() -> None:
    """A new policy does not run out of memory where the old one did."""
    former = former_of(8, max_batch_size=8)
    former.budget.ran_out_of_memory(8, 1)
    former.set_policy(Policy(max_batch_size=16))
    assert len(dispatched(former).items) == 4


def test_a_policy_that_can_not_be_kept_changes_nothing() -> None:
    """A limit of memory needs a cost model that predicts it."""
    former = former_of(4, max_batch_size=3)
    with pytest.raises(ConfigError, match="does not predict memory"):
        former.set_policy(Policy(max_batch_size=1, memory_limit_bytes=1))
    assert len(dispatched(former).items) == 3


def test_a_wait_begins_where_the_new_policy_allows_it() -> None:
    """The forecast knows nothing at first, so that nothing is held back for longer than before."""
    former = former_of(0, max_wait_s=0.0)
    former.set_policy(Policy(max_wait_s=0.01, max_batch_size=4))
    for number in range(40):
        former.add(Item(arrived_at=number * 0.001), number * 0.001)
        answer = former.poll(number * 0.001)
        if isinstance(answer, Dispatch):
            former.succeeded(answer.batch, number * 0.001)
    former.set_policy(Policy(max_wait_s=0.0, max_batch_size=4))
    former.add(Item(arrived_at=1.0), 1.0)
    assert dispatched(former, 1.0).items
