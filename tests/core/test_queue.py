"""The order of service, and what leaves the queue."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carpool.core import Item, Policy
from carpool.core.item import State
from carpool.core.queue import ItemQueue
from tests.core.strategies import items


def queue_of(*members: Item, policy: Policy | None = None) -> ItemQueue:
    """Return a queue in which these wait."""
    queue = ItemQueue(policy or Policy())
    for item in members:
        queue.push(item)
    return queue


def payloads(members: list[Item]) -> list[object]:
    """Return what the items carry."""
    return [item.payload for item in members]


def test_first_come_is_first_served() -> None:
    """Items alike go in the order in which they arrived."""
    queue = queue_of(*(Item(payload=number, arrived_at=number) for number in range(5)))
    assert payloads(queue.head(3)) == [0, 1, 2]


def test_items_of_one_instant_keep_their_order() -> None:
    """A tie is broken by who was added first."""
    queue = queue_of(*(Item(payload=number) for number in range(5)))
    assert payloads(queue.head(5)) == [0, 1, 2, 3, 4]


def test_earliest_deadline_goes_first() -> None:
    """Order of arrival yields to the order of the deadlines."""
    queue = queue_of(*(Item(payload=slack, deadline_at=slack) for slack in (3.0, 1.0, 2.0)))
    assert payloads(queue.head(3)) == [1.0, 2.0, 3.0]


def test_item_without_deadline_is_due_when_patience_ends() -> None:
    """It stands between the deadlines that are nearer and those that are farther than `patience_s`."""
    queue = queue_of(*(Item(payload=at, deadline_at=at) for at in (4.0, math.inf, 6.0)), policy=Policy(patience_s=5.0))
    assert payloads(queue.head(3)) == [4.0, math.inf, 6.0]


def test_priority_is_worth_so_much_waiting() -> None:
    """One level moves an item ahead of those that arrived less than `ageing_s` before it, and of no others."""
    old = Item(payload="old", arrived_at=0.0)
    recent = Item(payload="recent", arrived_at=0.5)
    urgent = Item(payload="urgent", arrived_at=1.2, priority=1)
    queue = queue_of(old, recent, urgent, policy=Policy(ageing_s=1.0))
    assert payloads(queue.head(3)) == ["old", "urgent", "recent"]


def test_nobody_is_overtaken_for_ever() -> None:
    """What arrives later than patience plus the ageing of its priority stands behind, whatever its deadline."""
    policy = Policy(patience_s=2.0, ageing_s=1.0)
    queue = queue_of(Item(payload="patient", arrived_at=0.0), policy=policy)
    for number in range(50):
        arrived_at = 5.0 + number * 0.1
        queue.push(Item(arrived_at=arrived_at, deadline_at=arrived_at + 0.01, priority=3))
    assert payloads(queue.head(1)) == ["patient"]


def test_removed_item_leaves_from_wherever_it_stands() -> None:
    """The others keep their order."""
    members = [Item(payload=number) for number in range(5)]
    queue = queue_of(*members)
    queue.remove(members[2])
    queue.remove(members[0])
    assert payloads(queue.head(5)) == [1, 3, 4]
    assert len(queue) == 3
    queue.check_integrity()


def test_take_leaves_what_stands_between() -> None:
    """A batch may take the first and others far behind it, of several tenants."""
    members = [Item(payload=number, tenant="ab"[number % 2]) for number in range(10)]
    queue = queue_of(*members)
    queue.take([members[9], members[0], members[4]])
    assert sorted(item.payload for item in queue) == [1, 2, 3, 5, 6, 7, 8]
    queue.check_integrity()


def test_only_late_items_expire() -> None:
    """Those whose deadline is the present instant are late; a later one is not, and none is forgotten."""
    early, exact, later = (Item(payload=at, deadline_at=at) for at in (1.0, 2.0, 3.0))
    queue = queue_of(later, exact, early, Item(payload="whenever"))
    assert queue.next_deadline_at() == 1.0
    assert payloads(queue.pop_expired(2.0)) == [1.0, 2.0]
    assert queue.next_deadline_at() == 3.0
    assert len(queue) == 2
    queue.check_integrity()


def test_deadline_of_a_departed_item_is_forgotten() -> None:
    """Nobody is woken for an item that has left."""
    item = Item(deadline_at=1.0)
    queue = queue_of(item)
    queue.take([item])
    assert queue.next_deadline_at() == math.inf


def test_departed_items_with_far_deadlines_are_let_go() -> None:
    """Under traffic with near and far deadlines, memory does not grow with those that have long been answered."""
    queue = queue_of(Item(deadline_at=1.0))
    for _ in range(10_000):
        item = Item(deadline_at=3600.0)
        queue.push(item)
        queue.take([item])
    assert len(queue._deadlines) < 200


def test_number_ahead_counts_those_that_are_due_sooner() -> None:
    """An urgent newcomer stands before the others."""
    queue = queue_of(*(Item(deadline_at=at) for at in (1.0, 2.0, 3.0)))
    assert queue.num_ahead(Item(deadline_at=2.5)) == 2
    assert queue.num_ahead(Item(deadline_at=0.5)) == 0


def test_number_ahead_counts_the_turns_of_other_tenants() -> None:
    """While five of its own are served, a tenant of double weight gets ten, and one with two waiting two."""
    policy = Policy(tenant_weights={"big": 2.0})
    waiting = [Item(tenant=tenant) for tenant, count in (("own", 5), ("big", 50), ("small", 2)) for _ in range(count)]
    queue = queue_of(*waiting, policy=policy)
    assert queue.num_ahead(Item(tenant="own")) == 5 + 10 + 2
    assert queue.num_ahead(Item(tenant="new")) == 0


@pytest.mark.parametrize(("weights", "expected"), [({}, 5), ({"a": 4.0}, 8)])
def test_turns_between_tenants_follow_their_weights(weights: dict[str, float], expected: int) -> None:
    """Of the first ten, tenants get shares in proportion to their weights."""
    queue = queue_of(*(Item(tenant=name) for name in "ab" * 20), policy=Policy(tenant_weights=weights))
    assert sum(item.tenant == "a" for item in queue.head(10)) == expected


def test_turns_count_tokens_and_not_items() -> None:
    """A tenant of long items gets fewer of them."""
    queue = queue_of(*(Item(tenant=name, length={"a": 30, "b": 10}[name]) for name in "ab" * 20))
    assert sum(item.tenant == "a" for item in queue.head(12)) == 3


@given(st.lists(st.tuples(items(), st.sampled_from(["stay", "take", "remove"]))))
def test_whatever_leaves_the_rest_waits_in_order(moves: list[tuple[Item, str]]) -> None:
    """The queue holds exactly what was pushed and has not left, and its head is the whole of it, each once."""
    queue = queue_of(*(item for item, _ in moves))
    for item, move in moves:
        if move == "remove":
            queue.remove(item)
    queue.take([item for item, move in moves if move == "take"])
    staying = {id(item) for item, move in moves if move == "stay"}
    assert {id(item) for item in queue.head(len(moves) + 1)} == staying
    assert len(queue) == len(staying)
    assert all((item.state is State.WAITING) == (move == "stay") for item, move in moves)
    queue.check_integrity()


def test_those_ahead_are_counted_lane_by_lane_whatever_came_and_went() -> None:
    """As a count over all lanes, for tenants of several weights; asked before, in between and after."""
    weights = {"a": 1.0, "b": 2.0, "c": 0.5}
    queue = ItemQueue(Policy(tenant_weights=weights))
    rng = np.random.default_rng(0)
    waiting: list[Item] = []
    for step in range(600):
        item = Item(arrived_at=float(step), tenant=str(rng.choice(list("abcdef"))))
        lanes = {tenant: sum(other.tenant == tenant for other in waiting) for tenant in "abcdef"}
        own, weight = lanes[item.tenant], weights.get(item.tenant, 1.0)
        ahead = sum(
            min(length, own if weights.get(tenant, 1.0) == weight else int(own / weight * weights.get(tenant, 1.0)))
            for tenant, length in lanes.items()
        )
        assert queue.num_ahead(item) == (ahead if own else 0)
        queue.push(item)
        waiting.append(item)
        num_gone = min(len(waiting), int(rng.integers(3)))
        gone = [waiting.pop(int(rng.integers(len(waiting)))) for _ in range(num_gone)]
        if rng.random() < 0.5:
            queue.take(gone)
        else:
            for one in gone:
                queue.remove(one)
        queue.check_integrity()
