"""The fastest batch: against trying every one, and against its formula."""

from __future__ import annotations

from math import sqrt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carpool.errors import ConfigError
from carpool.train.noise.critical import more_steps
from carpool.train.noise.time_optimal import StepCost, time_optimal_batch

seconds = st.one_of(st.just(0.0), st.floats(1e-5, 1.0))


@st.composite
def costs(draw: st.DrawFn) -> StepCost:
    """Costs of steps, each part of which may be nothing, but not all."""
    parts = draw(st.tuples(seconds, seconds, seconds).filter(any))
    return StepCost(
        step_s=parts[0],
        micro_batch_s=parts[1],
        item_s=parts[2],
        largest_micro_batch=draw(st.integers(1, 70)),
        num_ranks=draw(st.integers(1, 4)),
    )


@given(costs(), st.floats(0.01, 1000.0), st.integers(4, 600))
def test_no_batch_is_faster(cost: StepCost, critical: float, most: int) -> None:
    """Every batch from an item a rank to the largest is tried."""
    times = {size: more_steps(size, critical) * cost.time_s(size) for size in range(cost.num_ranks, most + 1)}
    best = time_optimal_batch(critical, cost, most=most)
    assert times[best.batch_size] == pytest.approx(min(times.values()), rel=1e-12)
    assert best.step_s * best.more_steps == pytest.approx(times[best.batch_size])


def test_small_batches_follow_the_formula() -> None:
    """Within one micro-batch: `sqrt(N t0 / c)`, the pass's own cost in t0."""
    best = time_optimal_batch(10_000, StepCost(step_s=0.03, micro_batch_s=0.01, item_s=0.002, largest_micro_batch=512))
    assert best.batch_size == pytest.approx(sqrt(10_000 * 0.04 / 0.002), abs=1)
    assert best.why == "sqrt(10,000 x 40 ms / 2 ms)"


def test_large_batches_follow_the_second_formula() -> None:
    """Beyond the largest micro-batch: `sqrt(N t0 / (c + a/m))`, in whole micro-batches of all ranks."""
    cost = StepCost(step_s=2.0, micro_batch_s=0.1, item_s=0.01, largest_micro_batch=10, num_ranks=2)
    best = time_optimal_batch(4000, cost)
    assert best.batch_size == pytest.approx(sqrt(4000 * 2.0 / (0.01 / 2 + 0.1 / 20)), abs=20)
    assert best.batch_size % 20 == 0
    assert best.why == "sqrt(4,000 x 2 s / 10 ms)"


def test_half_or_twice_the_best_costs_an_eighth_at_most() -> None:
    """The optimum is flat, which makes an uncertain noise scale bearable."""
    for step_s in (0.001, 0.1, 10.0):
        cost = StepCost(step_s=step_s, micro_batch_s=0.0, item_s=0.001, largest_micro_batch=10**9)
        best = time_optimal_batch(1000, cost)
        least = best.step_s * best.more_steps
        for size in (best.batch_size / 2, best.batch_size * 2):
            assert cost.time_s(size) * more_steps(size, 1000) <= least * 1.126


def test_items_that_cost_nothing_want_the_largest_batch() -> None:
    """While a step takes as long however much is in it, more is better, up to what may be."""
    cost = StepCost(step_s=1.0, micro_batch_s=0.0, item_s=0.0, largest_micro_batch=64)
    assert time_optimal_batch(100, cost, most=5000).batch_size == 5000
    assert time_optimal_batch(100, cost, most=5000).why == "the largest batch that may be"


def test_steps_that_cost_nothing_want_the_smallest() -> None:
    """An item for each rank."""
    cost = StepCost(step_s=0.0, micro_batch_s=0.0, item_s=0.1, largest_micro_batch=64, num_ranks=3)
    assert time_optimal_batch(100, cost).batch_size == 3


def test_full_pass_is_the_best_where_another_costs_much() -> None:
    """The corner between the two formulas."""
    best = time_optimal_batch(1000, StepCost(step_s=0.01, micro_batch_s=1.0, item_s=0.01, largest_micro_batch=64))
    assert (best.batch_size, best.why) == (64, "one full pass: more items would take another")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"step_s": -1.0}, "step_s is -1.0"),
        ({"step_s": "1"}, "step_s is '1'"),
        ({"item_s": float("inf")}, "item_s is inf"),
        ({"micro_batch_s": float("nan")}, "micro_batch_s is nan"),
        ({"step_s": 0.0, "item_s": 0.0, "micro_batch_s": 0.0}, "are all 0"),
        ({"largest_micro_batch": 0}, "largest_micro_batch is 0"),
        ({"num_ranks": 1.5}, "num_ranks is 1.5"),
    ],
)
def test_costs_that_are_none_are_refused(wrong: dict[str, Any], said: str) -> None:
    """Each by its name and value."""
    right = {"step_s": 1.0, "micro_batch_s": 0.1, "item_s": 0.1, "largest_micro_batch": 8}
    with pytest.raises(ConfigError, match=said):
        StepCost(**(right | wrong))


@pytest.mark.parametrize("critical", [1e-300, 1e300])
def test_extreme_noise_scales_have_an_answer(critical: float) -> None:
    """The smallest batch, and one beyond all that can be had."""
    cost = StepCost(step_s=1.0, micro_batch_s=0.1, item_s=0.1, largest_micro_batch=8)
    best = time_optimal_batch(critical, cost).batch_size
    assert best == 1 if critical < 1 else best > 10**12


@pytest.mark.parametrize(("critical", "most"), [(0.0, None), (float("inf"), 10), (10.0, 0), (10.0, 1)])
def test_questions_without_an_answer_are_refused(critical: float, most: int | None) -> None:
    """A noise scale that is not identified, and fewer items than ranks."""
    cost = StepCost(step_s=1.0, micro_batch_s=0.1, item_s=0.1, largest_micro_batch=8, num_ranks=2)
    with pytest.raises(ConfigError):
        time_optimal_batch(critical, cost, most=most)
