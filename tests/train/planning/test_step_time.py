"""What a step takes, against arithmetic by hand, and how an effective batch is cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carpool.train.batch_plan import BatchPlan
from carpool.train.planning.step_time import StepTime, fastest_plan
from tests.train.planning.made_up import ITEM_S, OVERHEAD_S, UPDATE_S, step_time, throughput


def test_a_step_is_its_passes_and_one_update() -> None:
    """Two micro-batches of 50 items: 2 x (10 + 50) ms and 4 ms."""
    plan = BatchPlan(effective_batch_size=100, micro_batch_size=50)
    assert step_time().window_s(plan) == pytest.approx(0.124, rel=1e-3)


def test_ranks_share_a_step() -> None:
    """Two ranks compute one of the two micro-batches each."""
    plan = BatchPlan(effective_batch_size=100, micro_batch_size=50, num_ranks=2)
    assert step_time().window_s(plan) == pytest.approx(0.064, rel=1e-3)


def test_an_epoch_ends_in_a_short_window() -> None:
    """Of 250 items: two steps of 100, and one of 50, which is one micro-batch."""
    plan = BatchPlan(effective_batch_size=100, micro_batch_size=50)
    assert step_time().epoch_s(plan, 250) == pytest.approx(2 * 0.124 + 0.064, rel=1e-3)


def test_a_last_window_may_leave_ranks_without_an_item() -> None:
    """One item is left, for three ranks."""
    plan = BatchPlan(effective_batch_size=30, micro_batch_size=10, num_ranks=3)
    one = UPDATE_S + OVERHEAD_S + ITEM_S
    assert step_time().epoch_s(plan, 31) == pytest.approx(UPDATE_S + OVERHEAD_S + 10 * ITEM_S + one, rel=1e-3)


def test_with_one_size_timed_time_grows_with_items() -> None:
    """Nothing else is known."""
    alone = StepTime.of(throughput(sizes=(8,)))
    assert alone.cost is None
    assert alone.micro_batch_s(16) == pytest.approx(2 * (OVERHEAD_S + 8 * ITEM_S))


def test_the_largest_micro_batches_are_taken_where_passes_cost_something() -> None:
    """Fewer passes share their cost among more items."""
    plan = fastest_plan(1000, step_time(), largest_micro_batch=64)
    assert (plan.micro_batch_size, plan.num_accumulation_steps) == (63, 16)


def test_smaller_micro_batches_are_taken_where_they_are_clearly_faster() -> None:
    """Beyond 16 items an item costs twice as much, as where a cache holds no more."""

    class Cliff(StepTime):
        def micro_batch_s(self, num_items: int) -> float:
            return 1e-4 + num_items * (1e-3 if num_items <= 16 else 2e-3)

    cliff = Cliff(cost=None, largest=throughput().timings[-1], update_s=0.0)
    assert fastest_plan(64, cliff, largest_micro_batch=64).micro_batch_size == 16


@given(
    effective=st.integers(1, 5000),
    largest=st.integers(1, 5000),
    num_ranks=st.integers(1, 9),
)
def test_the_plan_is_always_of_the_effective_batch_and_fits(effective: int, largest: int, num_ranks: int) -> None:
    """Whatever the sizes."""
    effective = max(effective, num_ranks)
    plan = fastest_plan(effective, step_time(), largest_micro_batch=largest, num_ranks=num_ranks)
    assert sum(sum(plan.sizes(rank)) for rank in range(num_ranks)) == effective
    assert max(plan.sizes(0)) <= largest
