"""Runs to a target, and the search for the learning rate."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carpool.errors import ConfigError
from carpool.train.batch_plan import BatchPlan
from carpool.train.planning.runs import best_rate, exact_plan, steps_to, whole_windows
from tests.train.planning.made_up import setup

PLAN = BatchPlan(effective_batch_size=8, micro_batch_size=4)


@given(effective=st.integers(1, 2000), most=st.integers(1, 300))
def test_exact_plans_are_made_of_equal_micro_batches(effective: int, most: int) -> None:
    """So that any loader makes whole windows of them."""
    plan = exact_plan(effective, most)
    assert len(set(plan.sizes(0))) == 1
    assert sum(plan.sizes(0)) == effective
    assert plan.micro_batch_size <= most


def test_windows_go_on_pass_after_pass_and_leave_the_rest_out() -> None:
    """22 items are two windows of 8 a pass."""
    made = setup(num_items=22)
    windows = whole_windows(made, PLAN)
    sizes = [[len(batch[0]) for batch in next(windows)] for _ in range(5)]
    assert sizes == [[4, 4]] * 5


def test_a_loader_that_gives_less_than_it_says_is_refused() -> None:
    """Its pass would never make the windows that were counted on."""
    short = setup(num_items=22, loader=lambda size: iter([]))
    with pytest.raises(
        ConfigError, match=r"loader\(4\) ended before it gave the 22 items that num_items says there are"
    ):
        next(whole_windows(short, PLAN))


def test_too_few_items_for_a_window_are_refused() -> None:
    """Rather than looked for endlessly."""
    with pytest.raises(ConfigError, match="5 items do not make an effective batch of 8"):
        next(whole_windows(setup(num_items=5), PLAN))


def test_training_stops_at_the_target() -> None:
    """A lower one takes more steps, and the same twice takes the same."""
    near, far = (steps_to(target, setup(), PLAN, learning_rate=0.02, most_steps=500) for target in (2.0, 0.5))
    assert near is not None
    assert far is not None
    assert 1 <= near < far
    assert steps_to(0.5, setup(), PLAN, learning_rate=0.02, most_steps=500) == far


def test_a_run_that_does_not_arrive_is_given_up() -> None:
    """After as many steps as it may take, or when its loss is no number any more."""
    assert steps_to(0.0, setup(), PLAN, learning_rate=0.02, most_steps=20) is None
    assert steps_to(0.5, setup(), PLAN, learning_rate=1e6, most_steps=500) is None


def test_a_setup_without_validate_is_refused() -> None:
    """Nothing would say when to stop."""
    with pytest.raises(ConfigError, match="the setup has no validate"):
        steps_to(0.5, setup(validate=None), PLAN, learning_rate=0.02, most_steps=5)


@pytest.mark.parametrize("first", [1e-3, 0.01, 0.3, 2.0, 8.0])
def test_the_best_rate_is_found_from_either_side(first: float) -> None:
    """Steps are fewest at 0.3; the rate found is within a factor of two."""

    def run(rate: float, most_steps: int) -> int | None:
        steps = round(100 * (1 + abs(math.log2(rate / 0.3))))
        return steps if steps <= most_steps else None

    found = best_rate(run, first, most_steps=10_000)
    assert found is not None
    assert 0.15 <= found[0] <= 0.6 or first == 1e-3  # six doublings of that do not get there


def test_rates_that_diverge_are_halved_until_one_arrives() -> None:
    """Above 0.1 nothing arrives."""
    found = best_rate(lambda rate, most: 50 if rate <= 0.1 else None, 1.0, most_steps=1000)
    assert found == (0.0625, 50)


def test_no_rate_that_arrives_is_no_rate() -> None:
    """And it ends."""
    assert best_rate(lambda rate, most: None, 1.0, most_steps=10) is None
