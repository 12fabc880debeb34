"""Few factors in place of a measured spread: the same moments."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carpool.errors import ConfigError
from carpool.plan.scatter import Scatter

QUANTILES = st.lists(st.floats(0.5, 3.0), min_size=2, max_size=101).map(sorted)


@given(quantiles=QUANTILES)
def test_moments_are_those_of_the_spread(quantiles: list[float]) -> None:
    """Mean, square and fifth power of what lies evenly between neighbouring quantiles, by exact integrals."""
    scatter = Scatter.of(quantiles)
    low, high = np.array(quantiles[:-1]), np.array(quantiles[1:])
    for power in (1, 2, 5):
        pieces = sum(low**k * high ** (power - k) for k in range(power + 1)) / (power + 1)
        assert scatter.weights @ scatter.factors**power == pytest.approx(np.mean(pieces), rel=1e-9)
    assert scatter.weights.sum() == pytest.approx(1.0)
    assert len(scatter.factors) <= 8
    assert low[0] * (1 - 1e-9) <= scatter.factors.min() <= scatter.factors.max() <= high[-1] * (1 + 1e-9)


@pytest.mark.parametrize(("spread", "mean"), [((), 1.0), ((1.2,), 1.2), ((0.9, 0.9, 0.9), 0.9)])
def test_no_spread_is_one_factor(spread: tuple[float, ...], mean: float) -> None:
    """Nothing, one quantile or equal ones."""
    scatter = Scatter.of(spread)
    assert scatter.factors == pytest.approx([mean])
    assert scatter.second_moment == pytest.approx(mean**2)


@pytest.mark.parametrize("spread", [(1.0, 0.9), (0.0, 1.0), (0.9, float("inf"))])
def test_what_is_no_spread_is_refused(spread: tuple[float, ...]) -> None:
    """Quantiles rise, and a call takes some time."""
    with pytest.raises(ConfigError, match="does not hold quantiles: give finite numbers above 0 that rise"):
        Scatter.of(spread)
