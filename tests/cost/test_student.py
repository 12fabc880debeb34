"""Quantiles of Student's t distribution against SciPy's."""

from __future__ import annotations

import pytest
from scipy import stats

from carpool.cost.student import student_t


@pytest.mark.parametrize(
    ("freedom", "tolerance"), [(3, 0.01), (4, 0.002), (7, 1e-4), (7.5, 1e-4), (15, 1e-5), (100, 1e-6)]
)
def test_quantiles_are_those_of_students_distribution(freedom: float, tolerance: float) -> None:
    """Held against SciPy, whole degrees of freedom and a fraction."""
    for probability in (0.9, 0.95, 0.975):
        exact = stats.t.ppf(probability, freedom)
        assert student_t(probability, freedom) == pytest.approx(exact, rel=3 * tolerance)
