"""The definitions, against numbers worked out elsewhere: numpy, scipy, and arithmetic by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from carpool.errors import OutOfRange
from carpool.signals import figures

samples = st.lists(st.floats(0, 1e6), min_size=1, max_size=200)
percents = st.floats(0, 100)


@given(samples, percents)
def test_percentile_is_numpys_default(values: list[float], q: float) -> None:
    """Linear interpolation between order statistics, as numpy does it."""
    expected = float(np.percentile(np.array(values), q))
    assert figures.percentile(values, q) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=120), st.sampled_from([1, 10, 50, 90, 95, 99]))
def test_interval_ends_are_the_ranks_that_scipys_binomial_gives(values: list[float], q: int) -> None:
    """The tails on both sides hold at most 2.5 %, and one rank further they would hold more."""
    num, share = len(values), q / 100
    ordered = sorted(values)
    low, high = figures.percentile_interval(values, q)
    low_rank = int(stats.binom.ppf(0.025, num, share))
    low_rank += int(stats.binom.cdf(low_rank, num, share) <= 0.025)
    high_rank = int(stats.binom.ppf(0.975, num, share)) + 1
    assert low == (ordered[low_rank - 1] if low_rank >= 1 else None)
    assert high == (ordered[high_rank - 1] if high_rank <= num else None)


@given(samples, percents)
def test_interval_holds_the_percentile(values: list[float], q: float) -> None:
    """The sample's own percentile lies within its interval."""
    estimate = figures.estimate_percentile(values, q)
    low = -math.inf if estimate.low is None else estimate.low
    high = math.inf if estimate.high is None else estimate.high
    assert low <= estimate.value <= high
    assert estimate.num_values == len(values)


def test_interval_covers_the_true_median_as_often_as_it_says() -> None:
    """Of 1,000 samples from a known distribution at least 95 % hold its median, less three standard errors."""
    generator = np.random.default_rng(5)
    true_median = math.log(2)
    hits = 0
    for _ in range(1000):
        low, high = figures.percentile_interval(generator.exponential(size=60).tolist(), 50)
        assert low is not None
        assert high is not None
        hits += low <= true_median <= high
    assert hits >= 950 - 21


def test_small_sample_does_not_bound_p99() -> None:
    """Fifty values can't say how high p99 may be."""
    low, high = figures.percentile_interval([float(value) for value in range(50)], 99)
    assert low is not None
    assert high is None


def test_interval_of_a_large_sample_is_narrow_and_quick_to_find() -> None:
    """A hundred thousand values pin the median down to less than one per cent of the ranks."""
    low, high = figures.percentile_interval([float(value) for value in range(100_000)], 50)
    assert (low, high) == (49_689.0, 50_310.0)


@pytest.mark.parametrize("q", [-1, 101, math.nan])
def test_percentile_out_of_range_names_value_and_limit(q: float) -> None:
    """Percent outside 0..100 are refused."""
    with pytest.raises(OutOfRange, match=r"percentile .* is outside 0\.\.100"):
        figures.percentile([1.0], q)


def test_empty_sample_has_no_percentile() -> None:
    """Nothing measured gives an error, not a number."""
    for figure in (figures.mean, lambda values: figures.percentile(values, 50)):
        with pytest.raises(OutOfRange, match="a sample of 0 values"):
            figure([])


def test_confidence_outside_its_range_is_refused() -> None:
    """Certainty can't be asked for."""
    with pytest.raises(OutOfRange, match=r"confidence 1 is outside 0\.\.1"):
        figures.percentile_interval([1.0], 50, confidence=1.0)


def test_ratios_by_hand() -> None:
    """Each ratio equals the arithmetic of its definition."""
    assert figures.fill_ratio(48, 32, num_batches=2) == 0.75
    assert figures.padding_waste(30, 40) == 0.25
    assert figures.mean_batch_size(10, 4) == 2.5
    assert figures.throughput(10, 4.0) == 2.5
    assert figures.utilisation(3.0, 2.0, num_workers=2) == 0.75
    assert figures.goodput([0.1, 0.2, 0.3], [True, True, False], 0.2, 4.0) == 0.5
    assert figures.prediction_error(0.008, 0.010) == pytest.approx(-0.2)


def test_nothing_happened_is_zero_not_an_error() -> None:
    """An empty window has a throughput, a mean batch and a waste of zero."""
    zeros = (figures.padding_waste(0, 0), figures.mean_batch_size(0, 0), figures.throughput(0, 0.0))
    assert (*zeros, figures.utilisation(0.0, 0.0)) == (0.0, 0.0, 0.0, 0.0)


def test_littles_law_gap_is_relative_to_the_number_in_system() -> None:
    """L = 10 against X W = 9 is a gap of 10 %."""
    assert figures.littles_law_gap(10, 90, 0.1) == pytest.approx(0.1)
    assert figures.littles_law_gap(0, 0, 0.1) == 0.0
    assert figures.littles_law_gap(0, 1, 0.1) == math.inf


def test_goodput_needs_one_outcome_a_latency() -> None:
    """Latencies and outcomes that do not belong together are an error."""
    with pytest.raises(ValueError, match="shorter"):
        figures.goodput([0.1, 0.2], [True], 1.0, 1.0)
