"""Which items form a batch: lengths, deadlines, and work that fills gaps."""

import math
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carpool.core import AffineCost, Item, Policy, Reason, TimeModel
from carpool.core.budget import Budget
from carpool.core.choose import choose, choose_unlike
from tests.core.strategies import costs, items, lengths, policies

COST = AffineCost(overhead_s=0.01, token_s=0.001)


@dataclass(frozen=True, slots=True)
class StepCost:
    """A batch takes one second for every four rows or part of four."""

    def time_s(self, batch_size: int, length: int) -> float:
        """Return the seconds of a batch."""
        return float(math.ceil(batch_size / 4))


def budget_of(cost: TimeModel = COST, **policy: Any) -> Budget:
    """Return a budget of a policy and a cost."""
    return Budget(Policy(**policy), cost)


def of_lengths(*values: int) -> list[Item]:
    """Return items that carry their position, in the order of service."""
    return [Item(payload=position, length=value) for position, value in enumerate(values)]


def payloads(items: list[Item]) -> list[object]:
    """Return what the items carry."""
    return [item.payload for item in items]


def test_items_of_one_length_go_in_the_order_of_service() -> None:
    """Where lengths do not matter, a batch is the head of the queue."""
    choice = choose(of_lengths(5, 5, 5), budget_of(max_batch_size=2), 0.0)
    assert (payloads(choice.items), choice.bound) == ([0, 1], Reason.FULL)


def test_equally_padded_items_go_in_the_order_of_service() -> None:
    """Lengths that are padded to one bucket are the same to the model: the nearer deadline goes first."""
    choice = choose(of_lengths(20, 30, 17, 25, 31), budget_of(max_batch_size=3, length_buckets=(16, 32, 64)), 0.0)
    assert (payloads(choice.items), choice.length) == ([0, 1, 2], 32)


def test_batch_is_made_of_similar_lengths() -> None:
    """Short items leave together, and long ones wait for their turn."""
    choice = choose(of_lengths(4, 500, 4, 500, 4), budget_of(max_batch_size=8), 0.0)
    assert (payloads(choice.items), choice.length, choice.bound) == ([0, 2, 4], 4, Reason.BUDGET)


def test_padding_is_paid_where_it_brings_more_than_it_costs() -> None:
    """Where the overhead of a second batch costs more than a little padding, all go together."""
    choice = choose(of_lengths(4, 5, 4), budget_of(max_batch_size=8), 0.0)
    assert (sorted(map(int, map(str, payloads(choice.items)))), choice.length, choice.bound) == ([0, 1, 2], 5, None)


def test_first_in_the_order_of_service_is_always_a_member() -> None:
    """A lone long item among many short ones is not passed over."""
    choice = choose(of_lengths(500, *[4] * 50), budget_of(max_batch_size=8), 0.0)
    assert 0 in payloads(choice.items)


def test_token_budget_bounds_the_batch() -> None:
    """Padded tokens stay within it, and the reason says so."""
    choice = choose(of_lengths(10, 10, 10, 10), budget_of(token_budget=35), 0.0)
    assert (len(choice.items), choice.bound) == (3, Reason.BUDGET)


def test_rows_are_not_padded_up_where_fewer_do_more_a_second() -> None:
    """Five would run as eight rows: four leave now."""
    choice = choose(of_lengths(*[10] * 5), budget_of(max_batch_size=8, batch_size_buckets=(1, 4, 8)), 0.0)
    assert (len(choice.items), choice.bound) == (4, Reason.BUDGET)


def test_ragged_batch_is_the_head_of_the_queue_up_to_its_tokens() -> None:
    """Lengths add up, and nobody is passed over: the third would be one token too many."""
    choice = choose(of_lengths(40, 4, 57, 4), budget_of(max_batch_size=8, token_budget=100, ragged=True), 0.0)
    assert (payloads(choice.items), choice.length, choice.bound) == ([0, 1], 22, Reason.BUDGET)


def test_ragged_batch_counts_no_padding() -> None:
    """Padded, these four would be 80 tokens; they are 26."""
    choice = choose(of_lengths(20, 2, 2, 2), budget_of(max_batch_size=4, token_budget=26, ragged=True), 0.0)
    assert (payloads(choice.items), choice.bound) == ([0, 1, 2, 3], Reason.FULL)


def test_background_fills_what_a_ragged_batch_is_rounded_up_by() -> None:
    """Ten tokens run as sixteen: six of background work are free, seven are not."""
    items = [Item(payload=0, length=10), *(Item(payload=length, length=length, priority=-1) for length in (7, 4, 3, 2))]
    choice = choose(items, budget_of(ragged=True, token_buckets=(8, 16, 32)), 0.0)
    assert (payloads(choice.items), choice.length) == ([0, 4, 2], 5)


def quickest_s(members: list[Item], budget: Budget) -> float:
    """Return the least total time of all ways to run items in batches, by trying every one."""
    if not members:
        return 0.0
    totals = []
    for mask in range(1, 2 ** len(members), 2):  # every batch that holds the first item
        batch = [item for position, item in enumerate(members) if mask >> position & 1]
        rest = [item for position, item in enumerate(members) if not mask >> position & 1]
        totals.append(budget.time_s(len(batch), budget.padded(batch)) + quickest_s(rest, budget))
    return min(totals)


@settings(max_examples=60)
@given(st.lists(lengths, min_size=1, max_size=6), costs, st.sampled_from([(), (8, 64), (16, 32, 64)]))
def test_no_way_to_batch_clears_the_items_sooner(values: list[int], cost: AffineCost, buckets: tuple[int, ...]) -> None:
    """Brute force over every partition: the chosen batch is part of a quickest one, and holds the first item."""
    budget = budget_of(cost, max_batch_size=8, length_buckets=buckets)
    members = of_lengths(*values)
    choice = choose(members, budget, 0.0)
    rest = [item for item in members if all(item is not chosen for chosen in choice.items)]
    total_s = budget.time_s(len(choice.items), choice.length) + quickest_s(rest, budget)
    assert total_s == pytest.approx(quickest_s(members, budget))
    assert choice.items[0] is members[0]


@given(
    st.lists(lengths, min_size=1, max_size=40),
    costs,
    st.integers(1, 6),
    st.sampled_from([(), (8, 64), (16, 32, 64)]),
    st.none() | st.integers(64, 200),
)
def test_no_limit_is_passed(
    values: list[int], cost: AffineCost, most: int, buckets: tuple[int, ...], tokens: int | None
) -> None:
    """However many wait, the batch holds the first item, nobody twice, and keeps items and tokens within bounds."""
    budget = budget_of(cost, max_batch_size=most, length_buckets=buckets, token_budget=tokens)
    members = of_lengths(*values)
    choice = choose(members, budget, 0.0)
    assert choice.items[0] is members[0]
    assert choice.length == budget.padded(choice.items)
    assert len(set(map(id, choice.items))) == len(choice.items) <= budget.most_items(choice.length)[0]


def test_short_items_do_not_fill_up_a_long_one() -> None:
    """A long item at the head of the queue does not drag those behind it into its padding."""
    choice = choose(of_lengths(200, *[16] * 20), budget_of(max_batch_size=32), 0.0)
    assert (payloads(choice.items), choice.length, choice.bound) == ([0], 200, Reason.BUDGET)


def test_batch_is_short_enough_for_its_tightest_member() -> None:
    """With 15 ms left and 10 ms of overhead, five of one token can go along."""
    members = of_lengths(*[1] * 10)
    members[0].deadline_at = 0.0151
    choice = choose(members, budget_of(max_batch_size=10), 0.0)
    assert (payloads(choice.items), choice.bound) == ([0, 1, 2, 3, 4], Reason.BUDGET)


def test_deadline_that_can_not_be_met_shortens_nothing() -> None:
    """It is late however small the batch is."""
    members = of_lengths(*[1] * 10)
    members[0].deadline_at = 0.001
    assert len(choose(members, budget_of(max_batch_size=10), 0.0).items) == 10


def test_few_are_passed_over_when_rescuing_them_would_make_many_late() -> None:
    """Under overload the next deadlines follow closely: a tiny batch for the first would cost the others theirs."""
    members = of_lengths(*[1] * 10)
    for position, item in enumerate(members):
        item.deadline_at = 0.0115 if position == 0 else 0.0205
    choice = choose(members, budget_of(max_batch_size=10), 0.0)
    assert payloads(choice.items) == [1, 2, 3, 4, 5, 6, 7, 8, 9]


def test_urgent_item_is_rescued_when_the_others_can_wait() -> None:
    """Many items with time enough do not outvote one that has little."""
    members = of_lengths(*[1] * 10)
    for position, item in enumerate(members):
        item.deadline_at = 0.0115 if position == 0 else 0.5
    assert payloads(choose(members, budget_of(max_batch_size=10), 0.0).items) == [0]


def test_background_waits_while_foreground_fills_the_batch() -> None:
    """Low priority gets only rows that are left over."""
    members = of_lengths(*[1] * 6)
    members[0].priority = members[1].priority = -1
    choice = choose(members, budget_of(max_batch_size=4), 0.0)
    assert (payloads(choice.items), choice.bound) == ([2, 3, 4, 5], Reason.FULL)


def test_background_fills_what_padding_wastes() -> None:
    """Five foreground rows take as long as eight: three of background go along for nothing, and no fourth."""
    members = of_lengths(*[1] * 9)
    for item in members[5:]:
        item.priority = -1
    choice = choose(members, budget_of(StepCost(), max_batch_size=16), 0.0)
    assert (payloads(choice.items), choice.bound) == ([0, 1, 2, 3, 4, 5, 6, 7], None)


def test_batch_filled_up_by_background_is_full() -> None:
    """Its reason is that it is full, though the last that joined was background."""
    members = of_lengths(*[1] * 4)
    members[3].priority = -1
    assert choose(members, budget_of(StepCost(), max_batch_size=4), 0.0).bound is Reason.FULL


def test_background_that_is_longer_does_not_join() -> None:
    """The padding of the foreground does not hold it."""
    members = of_lengths(1, 2)
    members[1].priority = -1
    assert payloads(choose(members, budget_of(StepCost()), 0.0).items) == [0]


def test_background_makes_no_deadline_fail() -> None:
    """Where even one per cent more would be late, it stays out."""
    members = of_lengths(*[1] * 2)
    members[0].deadline_at = 1.0
    members[1].priority = -1
    cost = AffineCost(overhead_s=0.9999, token_s=0.0001)
    assert payloads(choose(members, budget_of(cost), 0.0).items) == [0]
    members[0].deadline_at = 2.0
    assert payloads(choose(members, budget_of(cost), 0.0).items) == [0, 1]


def test_background_alone_runs() -> None:
    """With nothing else to do, background work is done."""
    members = of_lengths(1, 1)
    members[0].priority = members[1].priority = -3
    assert len(choose(members, budget_of(), 0.0).items) == 2


def test_background_that_waited_long_enough_is_background_no_more() -> None:
    """After `ageing_s` for each level below zero it counts like the others."""
    members = of_lengths(1, 1)
    members[0].priority = -2
    budget = budget_of(max_batch_size=1, ageing_s=1.0)
    assert payloads(choose(members, budget, 1.9).items) == [1]
    assert payloads(choose(members, budget, 2.0).items) == [0]


@settings(max_examples=300)
@given(
    st.lists(items(), min_size=1, max_size=30),
    policies(),
    costs,
    st.sampled_from(["as they are", "alike", "alike and unhurried"]),
    st.none() | st.integers(1, 400),
)
def test_candidates_that_are_alike_are_chosen_from_as_all_others_are(
    candidates: list[Item], policy: Policy, cost: AffineCost, kind: str, ceiling: int | None
) -> None:
    """The way for items that nothing tells apart makes the same choices as the one for all."""
    for item in candidates:
        if kind != "as they are":
            item.length, item.priority = candidates[0].length, 0
        if kind == "alike and unhurried":
            item.deadline_at = math.inf
    budget = Budget(policy, cost)
    if ceiling is not None:
        budget.ceiling.ran_out(ceiling)
    quick, general = choose(candidates, budget, 0.0), choose_unlike(candidates, budget, 0.0)
    assert list(map(id, quick.items)) == list(map(id, general.items))
    assert (quick.length, quick.bound) == (general.length, general.bound)
