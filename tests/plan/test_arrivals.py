"""Schedules that are drawn up before the load starts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as reference

from carpool.errors import ConfigError
from carpool.plan.arrivals import constant, gamma, poisson


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


def test_the_same_seed_gives_the_same_schedule() -> None:
    """A run can be repeated."""
    assert poisson(50, 10, rng(7)).tolist() == poisson(50, 10, rng(7)).tolist()
    assert poisson(50, 10, rng(7)).tolist() != poisson(50, 10, rng(8)).tolist()


@given(rate=st.floats(0.1, 500), duration_s=st.floats(0.01, 20), burstiness=st.floats(0.1, 20), seed=st.integers(0, 99))
def test_schedules_rise_within_their_window(rate: float, duration_s: float, burstiness: float, seed: int) -> None:
    """Whatever is asked for, times are in order, at least 0 and before the end."""
    for times in (constant(rate, duration_s), gamma(rate, duration_s, burstiness, rng(seed))):
        assert (np.diff(times) >= 0).all()
        assert ((times >= 0) & (times < duration_s + 1e-9)).all()


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_values_that_are_not_positive_are_refused(bad: float) -> None:
    """A rate, a duration and a burstiness are finite and above 0."""
    with pytest.raises(ConfigError, match=r"a rate of .* is not a finite number above 0"):
        constant(bad, 1)
    with pytest.raises(ConfigError, match=r"a duration of .* is not a finite number above 0"):
        poisson(1, bad, rng())
    with pytest.raises(ConfigError, match=r"a burstiness of .* is not a finite number above 0"):
        gamma(1, 1, bad, rng())


def test_a_schedule_beyond_memory_is_refused() -> None:
    """The limit on the number of requests is named, with the remedy."""
    with pytest.raises(
        ConfigError, match="are 100,000,000,000 requests, over the limit of 5,000,000 in one run: lower"
    ):
        constant(1e9, 100)
