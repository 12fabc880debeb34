"""The table of effective batches, against arithmetic by hand and against its own laws."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carpool.errors import ConfigError
from carpool.train.planning.trade_off import Noise, Target, TradeOff, trade_off
from tests.train.planning.made_up import ITEM_S, MIB, OVERHEAD_S, UPDATE_S, micro_batch, step_time

if TYPE_CHECKING:
    from carpool.cost.memory import MemoryFit

SIZES = (32, 64, 128, 256, 512)


def table(asked: int = 128, **changes: Any) -> TradeOff:
    """Micro-batches of up to 64 of 1,000 items."""
    options: dict[str, Any] = {"num_items": 1000, "largest_micro_batch": 64}
    return trade_off(SIZES, asked, step_time(), **(options | changes))


def test_each_row_says_what_its_batch_takes() -> None:
    """128 items are two micro-batches of 64; 1,000 are seven steps of them and one of 104."""
    row = table().asked
    assert (row.batch_size, row.plan.num_accumulation_steps, row.num_steps) == (128, 2, 8)
    assert row.step_s == pytest.approx(UPDATE_S + 2 * (OVERHEAD_S + 64 * ITEM_S), rel=1e-3)
    assert row.epoch_s == pytest.approx(7 * row.step_s + UPDATE_S + 2 * (OVERHEAD_S + 52 * ITEM_S), rel=1e-3)
    assert row.items_per_s == pytest.approx(128 / row.step_s)
    assert (row.memory_bytes, row.learning_rate, row.to_target) == (None, None, None)


def test_the_batch_that_is_asked_for_gets_a_row() -> None:
    """Between its neighbours."""
    made = table(asked=100)
    assert [row.batch_size for row in made.rows] == [32, 64, 100, 128, 256, 512]
    assert made.asked.batch_size == 100


def test_batches_that_cannot_be_are_left_out() -> None:
    """Of 300 items, or of 48 ranks."""
    made = table(num_items=300, num_ranks=48)
    assert [row.batch_size for row in made.rows] == [64, 128, 256]
    assert made.left_out == (32, 512)


def test_memory_is_that_of_the_largest_micro_batch() -> None:
    """100 MiB and 1 MiB an item."""
    memory: MemoryFit | None = micro_batch().memory
    made = table(asked=100, memory=memory)
    found = [row.memory_bytes or 0.0 for row in made.rows]
    assert found == pytest.approx([mib * MIB for mib in (132, 164, 150, 164, 164, 164)], rel=1e-3)


def test_time_to_a_target_is_steps_times_their_time() -> None:
    """With a noise scale of 128, a batch of 128 takes twice the fewest steps and examples."""
    made = table(noise=Noise.known(128.0))
    to = made.asked.to_target
    assert to is not None
    assert (to.more_steps, to.more_examples) == (2.0, 2.0)
    times = [(1 + 128 / row.batch_size) * row.step_s for row in made.rows]
    assert to.more_time == pytest.approx(2 * made.asked.step_s / min(times))
    assert (to.more_time_low, to.more_time_high) == (to.more_time, to.more_time)
    assert (to.num_steps, to.time_s) == (None, None)


def test_with_a_known_run_times_are_absolute() -> None:
    """300 steps at 64, where steps are three times the fewest: 200 at 128."""
    made = table(noise=Noise.known(128.0), target=Target(num_steps=300, batch_size=64))
    to = made.asked.to_target
    assert to is not None
    assert to.num_steps == pytest.approx(200.0)
    assert to.time_s == pytest.approx(200.0 * made.asked.step_s)


def test_an_unsure_noise_scale_makes_the_time_unsure() -> None:
    """The interval holds the value, and names every batch that may be fastest."""
    made = table(noise=Noise(scale=128.0, low=8.0, high=math.inf))
    for row in made.rows:
        assert row.to_target is not None
        assert row.to_target.more_time_low <= row.to_target.more_time <= row.to_target.more_time_high
    between = made.fastest_between()
    assert between is not None
    assert between[0] == 32
    assert between[1] == 512
    assert made.fastest is not None
    assert between[0] <= made.fastest.batch_size <= between[1]


def test_without_a_noise_scale_nothing_is_fastest() -> None:
    """Nobody knows what steps are worth."""
    assert (table().fastest, table().fastest_between()) == (None, None)


@given(scale=st.floats(1e-3, 1e9), asked=st.integers(1, 1000))
def test_larger_batches_take_fewer_steps_and_more_examples(scale: float, asked: int) -> None:
    """At any noise scale; and some row is the fastest."""
    made = table(asked=asked, noise=Noise.known(scale))
    found = [row.to_target for row in made.rows]
    known = [to for to in found if to is not None]
    assert len(known) == len(found)
    assert [to.more_steps for to in known] == sorted((to.more_steps for to in known), reverse=True)
    assert [to.more_examples for to in known] == sorted(to.more_examples for to in known)
    assert min(to.more_time for to in known) == 1.0


@pytest.mark.parametrize(("scale", "low", "high"), [(0.0, 0.0, 1.0), (math.inf, 1.0, math.inf), (5.0, 6.0, 7.0)])
def test_a_noise_scale_that_cannot_be_is_refused(scale: float, low: float, high: float) -> None:
    """With its values."""
    with pytest.raises(
        ConfigError, match=f"a noise scale of {scale:g} within {low:g} to {high:g} can't be planned with"
    ):
        Noise(scale=scale, low=low, high=high)
