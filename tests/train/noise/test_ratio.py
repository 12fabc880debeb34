"""The ratio of two means and its interval, against NumPy and against its definition."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carpool.train.noise.ratio import PairedMeans

seeds = st.integers(0, 2**32 - 1)


def _means(pairs: np.ndarray, *, decay: float = 1.0) -> PairedMeans:
    means = PairedMeans()
    for up, down in pairs.tolist():
        means.add(up, down, decay=decay)
    return means


@given(seeds, st.integers(2, 40), st.floats(0.8, 1.0))
def test_running_means_and_spreads_are_those_of_numpy(seed: int, num_pairs: int, decay: float) -> None:
    """Weights of the pairs, and of their age, count as NumPy counts them; far from 0 as well."""
    rng = np.random.default_rng(seed)
    pairs = rng.normal(1e4, 1.0, (num_pairs, 2))
    weights = rng.uniform(0.5, 2.0, num_pairs)
    means = PairedMeans()
    for (up, down), weight in zip(pairs.tolist(), weights.tolist(), strict=True):
        means.add(up, down, weight=weight, decay=decay)
    aged = weights * decay ** np.arange(num_pairs)[::-1]
    covariance = np.cov(pairs.T, aweights=aged, ddof=0)
    assert [means.numerator, means.denominator] == pytest.approx(list(np.average(pairs, axis=0, weights=aged)))
    spreads = [means.numerator_spread, means.denominator_spread, means.common_spread]
    expected = [covariance[0, 0], covariance[1, 1], covariance[0, 1]]
    assert [spread / means.weight for spread in spreads] == pytest.approx(expected, abs=1e-6)
    assert means.num_effective == pytest.approx(aged.sum() ** 2 / (aged**2).sum())


@given(seeds, st.floats(0.5, 4.0), st.floats(-0.5, 3.0))
def test_interval_holds_just_the_ratios_that_cannot_be_told_from_the_data(
    seed: int, quantile: float, denominator: float
) -> None:
    """A ratio r is within it if the mean of `numerator - r denominator` is as near to 0 as the quantile says."""
    rng = np.random.default_rng(seed)
    pairs = rng.normal([5.0, denominator], 1.0, (12, 2))
    low, high = _means(pairs).interval(quantile)
    for ratio in np.geomspace(1e-3, 1e4, 200):
        gaps = pairs[:, 0] - ratio * pairs[:, 1]
        near = abs(gaps.mean()) <= quantile * gaps.std(ddof=1) / np.sqrt(len(gaps))
        if high < inf:
            assert near == (low <= ratio <= high)
        elif near:
            assert ratio >= low


def test_denominator_that_may_be_nothing_leaves_no_upper_end() -> None:
    """The ratio may then be as large as anything, but not as small: the lower end says something still."""
    low, high = _means(np.array([[5.0, 1.0], [6.0, -0.9], [5.5, 1.1], [5.2, -0.8]])).interval(3.0)
    assert high == inf
    assert 1.0 < low < 20.0


def test_means_survive_a_checkpoint() -> None:
    """They go on where they stood."""
    rng = np.random.default_rng(0)
    pairs = rng.normal(1.0, 0.1, (20, 2))
    half = PairedMeans.from_state_dict(_means(pairs[:10], decay=0.9).state_dict())
    for up, down in pairs[10:].tolist():
        half.add(up, down, decay=0.9)
    assert half == _means(pairs, decay=0.9)
