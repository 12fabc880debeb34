"""Schedules that are drawn up before the load starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as reference

from carpool.errors import ConfigError
from carpool.plan.arrivals import constant, daily, gamma, on_off, poisson

if TYPE_CHECKING:
    from collections.abc import Callable

    from carpool.plan.arrivals import Times


def rng(seed: int = 0) -> np.random.Generator:
    """A seeded generator."""
    return np.random.default_rng(seed)


def test_constant_arrivals_are_even_and_within_the_window() -> None:
    """Five a second for a second are five, the first at once."""
    assert constant(5, 1).tolist() == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8])


def test_poisson_gaps_are_exponential() -> None:
    """A Kolmogorov-Smirnov test can't tell the gaps from an exponential distribution of the asked rate."""
    gaps = np.diff(poisson(100, 200, rng()))
    assert reference.kstest(gaps, reference.expon(scale=0.01).cdf).pvalue > 0.01


@pytest.mark.parametrize("burstiness", [0.25, 4.0])
def test_gamma_gaps_have_the_rate_and_the_burstiness(burstiness: float) -> None:
    """The mean gap is the inverse of the rate, and the squared coefficient of variation is the burstiness."""
    gaps = np.diff(gamma(100, 500, burstiness, rng()))
    assert gaps.mean() == pytest.approx(0.01, rel=0.03)
    assert gaps.var() / gaps.mean() ** 2 == pytest.approx(burstiness, rel=0.05)


@pytest.mark.parametrize("burstiness", [0.25, 1.0, 4.0])
def test_every_part_of_a_window_expects_as_many_arrivals(burstiness: float) -> None:
    """The window opens within a gap as long as such gaps are, so its first moments are as busy as its last."""
    times = np.concatenate([gamma(2, 3.0, burstiness, rng(seed)) for seed in range(6000)])
    counts, _ = np.histogram(times, bins=6, range=(0.0, 3.0))
    assert counts / 6000 == pytest.approx(1.0, abs=0.1)


def test_bursts_hold_all_arrivals_at_the_rate_that_keeps_the_mean() -> None:
    """With bursts a quarter of the time, a burst has four times the rate, as Poisson gaps, and pauses have none."""
    times = on_off(100, 2000, 1.0, 3.0, rng())
    gaps = np.diff(times)
    assert len(times) / 2000 == pytest.approx(100, rel=0.02)
    assert np.sum(gaps > 3.0) == pytest.approx(500, abs=1)
    assert reference.kstest(gaps[gaps < 3.0], reference.expon(scale=1 / 400).cdf).pvalue > 0.01


def test_a_window_within_a_pause_holds_nothing() -> None:
    """A silence longer than the window is a window of silence, for most seeds."""
    sizes = [len(on_off(100, 0.5, 0.5, 50.0, rng(seed))) for seed in range(40)]
    assert sizes.count(0) > 30


def test_a_daily_curve_is_a_sine_of_the_asked_peak() -> None:
    """Counts over the day are those of a sine with the asked peak, by its first harmonic."""
    times = daily(200, 1000, 1.5, 10.0, rng())
    harmonic = 2 * np.abs(np.exp(2j * np.pi * times / 10.0).mean())
    assert len(times) / 1000 == pytest.approx(200, rel=0.01)
    assert harmonic == pytest.approx(0.5, rel=0.03)


@pytest.mark.parametrize("kind", ["gamma", "on-off", "daily"])
def test_the_mean_rate_is_kept_over_windows_shorter_than_a_cycle(kind: str) -> None:
    """Windows begin anywhere in a cycle, so that together they are as busy as the whole."""
    draws: dict[str, Callable[[int], Times]] = {
        "gamma": lambda seed: gamma(10, 0.7, 6.0, rng(seed)),
        "on-off": lambda seed: on_off(10, 0.7, 1.0, 2.0, rng(seed)),
        "daily": lambda seed: daily(10, 0.7, 1.9, 5.0, rng(seed)),
    }
    draw = draws[kind]
    counts = np.array([len(draw(seed)) for seed in range(4000)])
    assert counts.mean() == pytest.approx(7.0, abs=4 * counts.std() / len(counts) ** 0.5)


def test_the_same_seed_gives_the_same_schedule() -> None:
    """A run can be repeated."""
    assert poisson(50, 10, rng(7)).tolist() == poisson(50, 10, rng(7)).tolist()
    assert poisson(50, 10, rng(7)).tolist() != poisson(50, 10, rng(8)).tolist()


@given(
    rate=st.floats(0.1, 500),
    duration_s=st.floats(0.01, 20),
    burstiness=st.floats(0.1, 20),
    off_s=st.floats(0, 30),
    peak=st.floats(1, 2),
    seed=st.integers(0, 99),
)
def test_schedules_rise_within_their_window(
    *, rate: float, duration_s: float, burstiness: float, off_s: float, peak: float, seed: int
) -> None:
    """Whatever is asked for, times are in order, at least 0 and before the end."""
    for times in (
        constant(rate, duration_s),
        gamma(rate, duration_s, burstiness, rng(seed)),
        on_off(rate, duration_s, burstiness, off_s, rng(seed)),
        daily(rate, duration_s, peak, burstiness, rng(seed)),
    ):
        assert (np.diff(times) >= 0).all()
        assert ((times >= 0) & (times < duration_s + 1e-9)).all()


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_values_that_are_not_positive_are_refused(bad: float) -> None:
    """Rates, durations, burstiness, bursts and days are finite and above 0."""
    with pytest.raises(ConfigError, match=r"a rate of .* is not a finite number above 0"):
        constant(bad, 1)
    with pytest.raises(ConfigError, match=r"a duration of .* is not a finite number above 0"):
        poisson(1, bad, rng())
    with pytest.raises(ConfigError, match=r"a burstiness of .* is not a finite number above 0"):
        gamma(1, 1, bad, rng())
    with pytest.raises(ConfigError, match=r"a burst of .* is not a finite number above 0"):
        on_off(1, 1, bad, 1, rng())
    with pytest.raises(ConfigError, match=r"a period of .* is not a finite number above 0"):
        daily(1, 1, 1.5, bad, rng())


def test_shapes_that_there_are_not_are_refused() -> None:
    """A pause is not negative, and a sine's peak is at most twice its mean."""
    with pytest.raises(ConfigError, match=r"a pause of -1 s between bursts is not finite and at least 0"):
        on_off(1, 1, 1, -1, rng())
    with pytest.raises(ConfigError, match=r"a peak of 2.5 times the mean is outside 1 to 2: a sine above that"):
        daily(1, 1, 2.5, 1, rng())


def test_a_schedule_beyond_memory_is_refused() -> None:
    """The limit on the number of requests is named, with the remedy."""
    with pytest.raises(
        ConfigError, match="are 100,000,000,000 requests, over the limit of 5,000,000 in one run: lower"
    ):
        constant(1e9, 100)
