"""The rules against the numbers that their papers print, and against what they are meant to keep."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carpool.errors import ConfigError
from carpool.train.scaling.rules import (
    RULES,
    adam_beta,
    adam_eps,
    adamw_time_scale,
    check_factor,
    decoupled_weight_decay,
    ema_decay,
)
from carpool.train.scaling.warm_up import warm_up

factors = st.floats(0.01, 1000.0)
decays = st.floats(0.0, 0.9999)


@pytest.mark.parametrize(("batch", "rate"), [(256, 0.1), (1024, 0.4), (8192, 3.2)])
def test_linear_gives_the_rates_of_goyal_2017(batch: int, rate: float) -> None:
    """0.1 x kn/256 on ImageNet: 3.2 at 8,192."""
    assert RULES["linear"].rate(0.1, batch / 256) == pytest.approx(rate)


@pytest.mark.parametrize(
    ("batch", "rate_power", "warm_up_epochs"),
    [
        (1024, 2.5, 0.3125),
        (2048, 3.0, 0.625),
        (4096, 3.5, 1.25),
        (8192, 4.0, 2.5),
        (16384, 4.5, 5.0),
        (32768, 5.0, 10.0),
    ],
)
def test_legw_gives_the_rates_and_warm_ups_of_resnet_50(batch: int, rate_power: float, warm_up_epochs: float) -> None:
    """From 1,024 items to 32,768 the rate goes by sqrt(2) and the warm-up's epochs by 2 at each doubling (You 2019)."""
    factor, num_items = batch / 1024, 1_280_000
    assert RULES["legw"].rate(2**2.5, factor) == pytest.approx(2**rate_power)
    num_steps = round(0.3125 * num_items / 1024)
    warm = warm_up(RULES["legw"], factor, num_steps=num_steps, steps_per_epoch=num_items // batch)
    assert warm is not None
    assert warm.num_steps == num_steps
    assert warm.num_epochs == pytest.approx(warm_up_epochs, rel=0.01)


@pytest.mark.parametrize(
    ("batch", "rate_power", "warm_up_share"),
    [(512, 3.0, 1 / 320), (1024, 2.5, 1 / 160), (4096, 1.5, 1 / 40), (32768, 0.0, 1 / 5)],
)
def test_legw_gives_the_rates_and_warm_ups_of_bert(batch: int, rate_power: float, warm_up_share: float) -> None:
    """LAMB's 5/(2^3 x 10^3) at 512 items becomes 5/(2^0 x 10^3) at 32,768, and 1/320 of training 1/5 (You 2020)."""
    factor, num_items = batch / 512, 512_000_000
    assert RULES["legw"].rate(5 / (2**3 * 1e3), factor) == pytest.approx(5 / (2**rate_power * 1e3))
    warm = warm_up(RULES["legw"], factor, num_steps=num_items // 512 // 320, steps_per_epoch=num_items // batch)
    assert warm is not None
    assert warm.num_epochs == pytest.approx(warm_up_share, rel=1e-3)


def test_square_root_gives_adams_numbers_at_four_times_the_batch() -> None:
    """sqrt(k), 1 - k (1 - beta) and eps/sqrt(k) (Malladi 2022)."""
    assert RULES["square_root"].rate(1e-3, 4) == pytest.approx(2e-3)
    assert adam_beta(0.9, 4) == pytest.approx(0.6)
    assert adam_beta(0.999, 4) == pytest.approx(0.996)
    assert adam_eps(1e-8, 4) == pytest.approx(5e-9)


def test_power_keeps_the_half_life_that_marek_2025_prints() -> None:
    """A decay of 0.95 at 512 items is 0.9999 at one: its half-life is the same number of items."""
    assert adam_beta(0.95, 1 / 512, form="power") == pytest.approx(0.9999, abs=5e-6)


@pytest.mark.parametrize(("beta", "factor"), [(0.9, 10), (0.9, 11.0), (0.999, 1000), (0.5, 2)])
def test_a_decay_of_which_nothing_is_left_is_refused(beta: float, factor: float) -> None:
    """At k (1 - beta) = 1 and beyond the linear form is no decay; rounding does not hide it."""
    with pytest.raises(ConfigError, match=rf"{factor:g} x \(1 - {beta:g}\) must be below 1.*beta_form='power'"):
        adam_beta(beta, factor)
    assert adam_beta(beta, factor, form="power") == beta**factor


@given(st.floats(0.99, 0.9999), st.floats(0.1, 8.0))
def test_both_forms_agree_where_a_decay_is_near_one(beta: float, factor: float) -> None:
    """They differ by less than (k (1 - beta))^2, the next term of the series."""
    apart = abs(adam_beta(beta, factor) - adam_beta(beta, factor, form="power"))
    assert apart <= max(factor, 1.0) * factor * (1 - beta) ** 2


@given(decays, st.floats(0.1, 10.0), st.floats(0.1, 10.0))
def test_the_power_form_may_be_taken_in_steps(beta: float, first: float, second: float) -> None:
    """Two factors after one another are their product."""
    by_steps = adam_beta(adam_beta(beta, first, form="power"), second, form="power")
    assert by_steps == pytest.approx(adam_beta(beta, first * second, form="power"), rel=1e-9)


@given(st.floats(0.5, 0.9999), st.integers(1, 64))
def test_an_average_of_weights_weighs_items_as_before(decay: float, factor: int) -> None:
    """After the same items, k steps of the old decay have forgotten as much as one of the new."""
    assert ema_decay(decay, factor) == pytest.approx(math.prod([decay] * factor), rel=1e-9)


def test_an_average_of_weights_has_busbridges_decay() -> None:
    """0.9999 at a batch 8 times as large is 0.9999 to the power of 8 (Busbridge 2023)."""
    assert ema_decay(0.9999, 8) == pytest.approx(0.99920028, abs=1e-8)


@given(st.sampled_from(["linear", "square_root", "legw", "weight_decay"]), factors)
def test_adamw_keeps_its_time_scale(rule: str, factor: float) -> None:
    """Whatever becomes of the rate, B / (lr x weight decay x D) stays (Bergsma 2025)."""
    rate = RULES[rule].rate(1e-4, factor)
    decay = decoupled_weight_decay(0.1, factor=factor, rate_before=1e-4, rate_after=rate)
    before = adamw_time_scale(1e-4, 0.1, batch_size=256, num_items=10**7)
    after = adamw_time_scale(rate, decay, batch_size=256, num_items=10**7) * factor
    assert after == pytest.approx(before)


def test_weight_decay_grows_with_the_batch_where_the_rate_stays() -> None:
    """At a fixed rate the best weight decay is linear in the batch (Bergsma 2025)."""
    assert decoupled_weight_decay(0.1, factor=8, rate_before=1e-3, rate_after=1e-3) == pytest.approx(0.8)


def test_adamw_time_scale_is_the_share_of_the_steps_that_it_averages_over() -> None:
    """1/(lr x weight decay) steps, of D/B in all."""
    num_steps = 10**10 / 500_000
    expected = (1 / (0.002 * 0.1)) / num_steps
    assert adamw_time_scale(0.002, 0.1, batch_size=500_000, num_items=10**10) == pytest.approx(expected)


def test_a_step_that_would_take_all_of_a_weight_is_refused() -> None:
    """Beyond 1 a decoupled weight decay turns the weights' signs."""
    with pytest.raises(ConfigError, match=r"makes a step take 1\.28 of each weight.*smaller factor or weight decay"):
        decoupled_weight_decay(0.1, factor=128, rate_before=0.1, rate_after=1.13)


@pytest.mark.parametrize("factor", [0, -2, 1e-300, 1e300, math.inf, math.nan, True, "4", None, 4 + 0j])
def test_what_is_no_ratio_of_batches_is_refused(factor: object) -> None:
    """The message says what a factor is."""
    with pytest.raises(ConfigError, match=r"factor is .*from 1e-09 to 1e.09, the new effective batch over the old"):
        check_factor(factor)


@pytest.mark.parametrize("factor", [4, 0.5, np.float32(4), np.int64(4)])
def test_numbers_of_numpy_are_factors(factor: object) -> None:
    """They come out of a division of sizes."""
    assert isinstance(check_factor(factor), float)


@pytest.mark.parametrize("decay", [-0.1, 1.0, 1.5, math.nan])
def test_what_is_no_decay_is_refused(decay: float) -> None:
    """A decay of 1 would never learn, and one above it grow without end."""
    with pytest.raises(ConfigError, match="at least 0 and below 1"):
        adam_beta(decay, 2)
    with pytest.raises(ConfigError, match="at least 0 and below 1"):
        ema_decay(decay, 2)


@given(factors)
def test_a_decay_that_averages_nothing_stays(factor: float) -> None:
    """Adam without momentum stays without."""
    assert adam_beta(0.0, factor) == adam_beta(0.0, factor, form="power") == 0


def test_linear_asks_for_five_epochs_from_the_old_rate() -> None:
    """Goyal 2017: from 0.1 to 3.2 over 5 epochs of 156 steps of 8,192 items."""
    warm = warm_up(RULES["linear"], 32, num_steps=0, steps_per_epoch=156)
    assert warm is not None
    assert (warm.num_epochs, warm.num_steps, warm.start_factor) == (5.0, 780, 1 / 32)


def test_linear_keeps_a_longer_warm_up_that_there_is() -> None:
    """Over as many items as before, where that is more than five epochs."""
    warm = warm_up(RULES["linear"], 4, num_steps=8000, steps_per_epoch=100)
    assert warm is not None
    assert (warm.num_steps, warm.num_epochs) == (2000, 20.0)


def test_steps_of_a_warm_up_are_unknown_where_an_epochs_are() -> None:
    """Nothing is made up."""
    warm = warm_up(RULES["linear"], 4, num_steps=0, steps_per_epoch=None)
    assert warm is not None
    assert (warm.num_epochs, warm.num_steps) == (5.0, None)


def test_adams_warm_up_goes_over_as_many_items_as_before() -> None:
    """A quarter of the steps at four times the batch, rounded up."""
    warm = warm_up(RULES["square_root"], 4, num_steps=2001, steps_per_epoch=None)
    assert warm is not None
    assert (warm.num_steps, warm.num_epochs) == (501, None)


@pytest.mark.parametrize("rule", ["linear", "square_root", "legw", "weight_decay", "none"])
def test_a_smaller_batch_asks_for_no_warm_up_that_there_was_not(rule: str) -> None:
    """A rate that falls is safe from the start."""
    assert warm_up(RULES[rule], 0.5, num_steps=0, steps_per_epoch=100) is None


@pytest.mark.parametrize(("num_steps", "steps_per_epoch"), [(-1, None), (1.5, None), (True, None), (1, 0), (1, 2.5)])
def test_what_counts_no_steps_is_refused(num_steps: int, steps_per_epoch: int | None) -> None:
    """Named by the argument that it came by."""
    with pytest.raises(ConfigError, match="steps"):
        warm_up(RULES["linear"], 4, num_steps=num_steps, steps_per_epoch=steps_per_epoch)
