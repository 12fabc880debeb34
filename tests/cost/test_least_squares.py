"""The three solvers against scipy's."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given
from hypothesis import strategies as st

from carpool.cost.least_squares import fit_affine, isotonic, nonnegative

seeds = st.integers(0, 2**32 - 1)


@given(seeds, st.integers(1, 40))
def test_isotonic_agrees_with_scipy(seed: int, num_points: int) -> None:
    """Pooling adjacent violators gives scipy's sequence, with weights that span decades."""
    rng = np.random.default_rng(seed)
    y = np.cumsum(rng.normal(0.2, 1.0, num_points))
    weights = 10.0 ** rng.uniform(-3.0, 3.0, num_points)
    expected = scipy.optimize.isotonic_regression(y, weights=weights).x
    np.testing.assert_allclose(isotonic(y, weights), expected, rtol=1e-9, atol=1e-9)


@given(seeds, st.integers(1, 5), st.integers(0, 20))
def test_nonnegative_reaches_scipys_residual(seed: int, num_columns: int, num_more: int) -> None:
    """The solution is feasible, and its residual is scipy's, with columns of very different size."""
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(num_columns + num_more, num_columns)) * 10.0 ** rng.uniform(-6.0, 6.0, num_columns)
    y = rng.normal(size=num_columns + num_more)
    found = nonnegative(matrix, y)
    _, residual = scipy.optimize.nnls(matrix, y)
    assert (found >= 0.0).all()
    assert float(np.linalg.norm(matrix @ found - y)) == pytest.approx(residual, rel=1e-6, abs=1e-9)


@given(seeds, st.integers(2, 20))
def test_fit_affine_is_the_nonnegative_solution(seed: int, num_points: int) -> None:
    """The closed form gives scipy's coefficients, also where one of them is held at 0."""
    rng = np.random.default_rng(seed)
    x = np.unique(rng.integers(1, 300, num_points + 1)).astype(float)
    y = np.abs(rng.normal(1.0, 1.0) + rng.normal(0.0, 0.05) * x + rng.normal(0.0, 0.3, x.size)) + 1e-3
    weights = rng.uniform(0.1, 10.0, x.size)
    if x.size == 1:
        return
    roots = np.sqrt(weights)
    design = np.stack([np.ones_like(x), x], axis=1) * roots[:, None]
    expected, _ = scipy.optimize.nnls(design, y * roots)
    np.testing.assert_allclose(fit_affine(x, y, weights), expected, rtol=1e-6, atol=1e-9)


def test_fit_affine_calls_half_overhead_where_one_abscissa_was_seen() -> None:
    """One size says nothing of the slope: half of the time is taken to be shared."""
    a, c = fit_affine(np.array([8.0, 8.0]), np.array([0.4, 0.4]), np.ones(2))
    assert [float(a), float(c)] == pytest.approx([0.2, 0.025])
