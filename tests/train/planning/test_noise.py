"""The noise scale that a plan measures by itself."""

from __future__ import annotations

import itertools

import pytest

from carpool.errors import ConfigError
from carpool.train.noise.estimate import NoiseEstimate
from carpool.train.planning.noise import MeasuredNoise, measure_noise, parts_plan
from tests.train.planning.made_up import setup


def estimate(*, noise_scale: float = 60.0, low: float = 40.0, identified: bool = True) -> NoiseEstimate:
    """Sixty, between forty and a hundred."""
    return NoiseEstimate(
        noise_scale=noise_scale,
        low=low,
        high=100.0 if identified else float("inf"),
        S=60.0,
        G2=1.0,
        num_windows=9,
        confidence=0.95,
        identified=identified,
    )


def test_it_is_measured_until_the_time_is_up() -> None:
    """A clock that ticks each time it is looked at; the noise of a line through noisy points is identified early."""
    ticks = itertools.count()
    made = setup(num_items=960)
    found = measure_noise(made, 64, most_micro_batch=4, budget_s=5.0, clock=lambda: float(next(ticks)))
    assert 3 <= found.num_steps <= 8
    assert (found.batch_size, found.valid_per_item) == (64, 1.0)
    noise = found.in_items()
    assert noise is not None
    assert 0 < noise.low <= noise.scale <= noise.high
    assert noise.source == f"measured over {found.num_steps} steps of 64 items"
    assert not any(parameter._backward_hooks for parameter in made.model.parameters())


def test_it_ends_early_where_it_is_well_known() -> None:
    """Time is left."""
    found = measure_noise(setup(num_items=4096), 256, most_micro_batch=8, budget_s=1e9, clock=lambda: 0.0)
    assert found.estimate.identified
    assert found.estimate.high <= 1.5 * found.estimate.low


def test_tokens_are_told_in_items() -> None:
    """An item has ten of them."""
    found = MeasuredNoise(estimate=estimate(), valid_per_item=10.0, num_steps=9, batch_size=64).in_items()
    assert found is not None
    assert (found.scale, found.low, found.high) == (6.0, 4.0, 10.0)


@pytest.mark.parametrize("unknown", [estimate(identified=False), estimate(noise_scale=0.0, low=0.0)])
def test_what_is_not_identified_is_no_noise_scale(unknown: NoiseEstimate) -> None:
    """Nor is one of 0."""
    assert MeasuredNoise(estimate=unknown, valid_per_item=1.0, num_steps=9, batch_size=64).in_items() is None


def test_valid_items_are_counted() -> None:
    """Here every item counts twice."""
    found = measure_noise(
        setup(num_items=960, count=lambda batch: 2 * len(batch[0])),
        64,
        most_micro_batch=8,
        budget_s=0.0,
        clock=lambda: 0.0,
    )
    assert found.valid_per_item == 2.0


def test_a_single_item_says_nothing() -> None:
    """There is nothing to hold it against; nor do as few as make one micro-batch."""
    with pytest.raises(ConfigError, match="a batch of 1 is one micro-batch, which says nothing of the noise"):
        parts_plan(1, 8)
    with pytest.raises(ConfigError, match="measure with a batch of 4 or more"):
        parts_plan(3, 8, 2)
    assert str(parts_plan(9, 8, 2)) == "effective batch 8 = 4 x 2"
