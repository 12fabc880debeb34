"""Batch plans: what an effective batch is made of, whatever the memory and the number of ranks."""

from __future__ import annotations

import pickle
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carpool.errors import ConfigError
from carpool.train import BatchPlan

SIZES = st.integers(1, 5000)
RANKS = st.integers(1, 9)


@st.composite
def plans(draw: st.DrawFn) -> BatchPlan:
    """Make any plan."""
    num_ranks = draw(RANKS)
    effective = draw(st.integers(num_ranks, 5000))
    return BatchPlan(effective_batch_size=effective, micro_batch_size=draw(SIZES), num_ranks=num_ranks)


@given(plans())
def test_the_sizes_of_all_ranks_are_the_effective_batch(plan: BatchPlan) -> None:
    """Not an item more or less, in as many micro-batches on each rank, none larger than planned, as even as can be."""
    sizes = [plan.sizes(rank) for rank in range(plan.num_ranks)]
    assert sum(map(sum, sizes)) == plan.effective_batch_size
    assert {len(of_rank) for of_rank in sizes} == {plan.num_accumulation_steps}
    assert max(map(max, sizes)) <= plan.micro_batch_size
    assert all(max(of_rank) - min(of_rank) <= 1 for of_rank in sizes)
    assert max(map(sum, sizes)) - min(map(sum, sizes)) <= 1


@given(plans(), st.data())
def test_a_short_window_is_shared_as_evenly(plan: BatchPlan, data: st.DataObject) -> None:
    """The end of the data is divided between the ranks as a whole window is, in as many micro-batches on each."""
    num_items = data.draw(st.integers(1, plan.effective_batch_size))
    sizes = [plan.sizes(rank, num_items) for rank in range(plan.num_ranks)]
    assert sum(map(sum, sizes)) == num_items
    assert len({len(of_rank) for of_rank in sizes}) == 1
    assert len(sizes[0]) <= plan.num_accumulation_steps
    assert max(map(max, sizes)) <= plan.micro_batch_size


@given(plans(), SIZES, RANKS)
def test_the_effective_batch_is_held_when_the_parts_change(plan: BatchPlan, micro: int, ranks: int) -> None:
    """Another micro-batch and other ranks make up the same batch."""
    effective = plan.effective_batch_size
    assert plan.with_micro_batch(micro).effective_batch_size == effective
    if ranks <= effective:
        other = plan.with_ranks(ranks)
        assert sum(sum(other.sizes(rank)) for rank in range(ranks)) == effective


@given(plans())
def test_a_plan_outlives_a_checkpoint(plan: BatchPlan) -> None:
    """What is saved is what is restored."""
    assert BatchPlan.from_state_dict(plan.state_dict()) == plan
    assert pickle.loads(pickle.dumps(plan)) == plan  # noqa: S301 - our own bytes


@given(plans())
def test_any_number_follows_from_the_others(plan: BatchPlan) -> None:
    """Three of the four numbers of an even plan give the fourth."""
    micro, steps, ranks = plan.micro_batch_size, plan.num_accumulation_steps, plan.num_ranks
    even = BatchPlan(effective_batch_size=micro * steps * ranks, micro_batch_size=micro, num_ranks=ranks)
    whole = even.effective_batch_size
    assert BatchPlan.of(effective_batch_size=whole, micro_batch_size=micro, num_ranks=ranks) == even
    assert BatchPlan.of(effective_batch_size=whole, num_accumulation_steps=steps, num_ranks=ranks) == even
    assert BatchPlan.of(micro_batch_size=micro, num_accumulation_steps=steps, num_ranks=ranks) == even
    assert BatchPlan.of(effective_batch_size=whole, micro_batch_size=micro, num_accumulation_steps=steps) == even


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({}, "nothing does not make a plan: give two of effective_batch_size, micro_batch_size"),
        ({"effective_batch_size": 64}, "effective_batch_size 64 does not make a plan"),
        (
            {"effective_batch_size": 6, "num_accumulation_steps": 4},
            "that take 4 accumulation steps: micro-batches of 2 make it in 3; give num_accumulation_steps=3",
        ),
        ({"num_accumulation_steps": 4, "num_ranks": 2}, "num_accumulation_steps 4, num_ranks 2 does not make a plan"),
        (
            {"effective_batch_size": 100, "micro_batch_size": 8, "num_accumulation_steps": 4},
            "4 accumulation steps of 8 items are 32, which does not divide 100",
        ),
        (
            {"effective_batch_size": 16, "micro_batch_size": 8, "num_accumulation_steps": 4},
            "4 accumulation steps of 8 items are 32, which does not divide 16",
        ),
        (
            {"effective_batch_size": 64, "micro_batch_size": 8, "num_accumulation_steps": 4, "num_ranks": 1},
            "4 accumulation steps of 8 items on 1 ranks do not make 64: that takes 8",
        ),
        ({"effective_batch_size": 0, "micro_batch_size": 8}, "effective_batch_size is 0; it must be at least 1"),
        ({"effective_batch_size": 8, "micro_batch_size": -1}, "micro_batch_size is -1; it must be at least 1"),
        ({"effective_batch_size": 8.5, "micro_batch_size": 1}, "effective_batch_size is 8.5; it must be at least 1"),
        ({"effective_batch_size": True, "micro_batch_size": 1}, "effective_batch_size is True; it must be at least 1"),
        (
            {"effective_batch_size": 2, "micro_batch_size": 1, "num_ranks": 4},
            "effective_batch_size is 2, too few for 4 ranks",
        ),
    ],
)
def test_numbers_that_make_no_plan_are_refused(numbers: dict[str, int], message: str) -> None:
    """The message says which number, what it is, and what to do."""
    with pytest.raises(ConfigError, match=re.escape(message)):
        BatchPlan.of(**numbers)


def test_a_rank_that_is_not_planned_is_refused() -> None:
    """Ranks are counted from 0."""
    plan = BatchPlan(effective_batch_size=8, micro_batch_size=2, num_ranks=2)
    with pytest.raises(ConfigError, match="rank is 2, and the plan has 0 to 1"):
        plan.sizes(2)
    with pytest.raises(ConfigError, match="rank is -1"):
        plan.sizes(-1)


@pytest.mark.parametrize("num_items", [0, -1, 9])
def test_a_window_of_other_items_than_planned_is_refused(num_items: int) -> None:
    """A short one has fewer items than the effective batch, and one at least."""
    plan = BatchPlan(effective_batch_size=8, micro_batch_size=2)
    with pytest.raises(ConfigError, match=f"a window has 1 to 8 items by the plan, not {num_items}"):
        plan.sizes(0, num_items)


def test_a_checkpoint_holds_numbers_of_python_alone() -> None:
    """Those of numpy cannot be loaded safely by torch."""
    sizes: dict[str, Any] = {"effective_batch_size": np.int64(8), "micro_batch_size": np.int32(2)}
    state = BatchPlan(**sizes).state_dict()
    assert {type(value) for value in state.values()} == {int}


def test_the_checkpoint_of_something_else_is_refused() -> None:
    """What is missing in it is named."""
    with pytest.raises(ConfigError, match="lacks micro_batch_size and num_ranks"):
        BatchPlan.from_state_dict({"effective_batch_size": 8})
    with pytest.raises(ConfigError, match="num_ranks is 'two'"):
        BatchPlan.from_state_dict({"effective_batch_size": 8, "micro_batch_size": 2, "num_ranks": "two"})


@pytest.mark.parametrize(
    ("plan", "text"),
    [
        (BatchPlan(effective_batch_size=64, micro_batch_size=16), "effective batch 64 = 4 x 16"),
        (BatchPlan(effective_batch_size=10, micro_batch_size=4), "effective batch 10 = 3 x 3 or 4"),
        (BatchPlan(effective_batch_size=64, micro_batch_size=8, num_ranks=2), "effective batch 64 = 4 x 8 on 2 ranks"),
    ],
)
def test_a_plan_says_what_it_is_made_of(plan: BatchPlan, text: str) -> None:
    """As a line for people."""
    assert str(plan) == text
