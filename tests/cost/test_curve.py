"""The four forms of time over batch size: exact on their own data, monotone on any."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given
from hypothesis import strategies as st

from carpool.cost.curve import CURVE_FORMS, Split, fit_hinge, fit_isotonic, fit_linear, fit_step, held_out_errors

SIZES = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0])
milliseconds = st.floats(1e-4, 1e-1)


@given(milliseconds, st.floats(1e-6, 1e-2))
def test_linear_recovers_its_parameters(a: float, c: float) -> None:
    """Exact data gives the line back."""
    times = a + c * SIZES
    curve = fit_linear(SIZES, times, times**-2)
    assert curve.params["a"] == pytest.approx(a, rel=1e-6)
    assert curve.params["c"] == pytest.approx(c, rel=1e-6)


@given(milliseconds, st.floats(1e-6, 1e-2))
def test_linear_is_what_curve_fit_finds_on_noisy_data(a: float, c: float) -> None:
    """Minimising relative error, as scipy does with sigma proportional to the time."""
    times = (a + c * SIZES) * np.exp(np.random.default_rng(7).normal(0.0, 0.05, SIZES.size))
    expected, _ = scipy.optimize.curve_fit(
        lambda b, p, q: p + q * b, SIZES, times, p0=(a, c), sigma=times, bounds=(0.0, np.inf), x_scale=(a, c)
    )
    curve = fit_linear(SIZES, times, times**-2)
    np.testing.assert_allclose(curve.time_s(64), expected[0] + expected[1] * 64, rtol=1e-3)


@given(st.floats(1e-3, 1e-1), st.floats(0.05, 0.9), st.integers(4, 6))
def test_hinge_recovers_its_parameters(a_mem: float, share: float, turn: int) -> None:
    """Flat up to the turn, then rising from less than the floor."""
    a0, turning_size = share * a_mem, 1.3 * float(SIZES[turn])
    c = (a_mem - a0) / turning_size
    times = np.maximum(a_mem, a0 + c * SIZES)
    curve = fit_hinge(SIZES, times, times**-2)
    assert curve.params == {k: pytest.approx(v, rel=1e-6) for k, v in {"a_mem": a_mem, "a0": a0, "c": c}.items()}


@given(milliseconds, st.floats(1e-4, 1e-1), st.sampled_from([4, 8, 16, 32]))
def test_step_recovers_its_tile(a: float, g: float, tile: int) -> None:
    """With sizes on both sides of the tiles, the tile is found, and the roundest of those that fit equally."""
    sizes = np.array([1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 48, 64, 65, 96], dtype=float)
    times = a + g * np.ceil(sizes / tile)
    curve = fit_step(sizes, times, times**-2)
    assert curve.params["T"] == tile
    np.testing.assert_allclose([curve.time_s(size) for size in sizes], times, rtol=1e-9)


def test_step_prefers_the_roundest_tile_that_explains_the_data() -> None:
    """Powers of two can't tell 16 from 17; a tile of 17 items is no tile that hardware has."""
    times = 1e-3 + 4e-3 * np.ceil(SIZES / 17)
    assert fit_step(SIZES, times, times**-2).params["T"] == 16


def test_isotonic_passes_through_increasing_data_and_straight_between() -> None:
    """At the knots the data, half-way their mean, beyond the last the last line."""
    times = np.sqrt(SIZES)
    curve = fit_isotonic(SIZES, times, times**-2)
    np.testing.assert_allclose([curve.time_s(size) for size in SIZES], times)
    assert curve.time_s(96) == pytest.approx((8.0 + 128**0.5) / 2)
    assert curve.time_s(384) == pytest.approx(16.0 + (16.0 - 128**0.5))


@given(st.lists(st.floats(1e-4, 1.0), min_size=9, max_size=9), st.sampled_from(CURVE_FORMS))
def test_every_form_is_positive_and_never_falls_with_the_batch(times: list[float], form: object) -> None:
    """Whatever was measured: a larger batch is never predicted to take less."""
    assert isinstance(form, type(CURVE_FORMS[0]))
    measured = np.array(times)
    curve = form.fit(SIZES, measured, measured**-2)
    predicted = [curve.time_s(size) for size in range(1, 400)]
    assert predicted[0] > 0.0
    assert all(later >= earlier * (1 - 1e-12) for earlier, later in itertools.pairwise(predicted))


@pytest.mark.parametrize("form", CURVE_FORMS, ids=lambda form: form.kind)
def test_held_out_errors_are_those_of_fits_that_have_not_seen_the_point(form: object) -> None:
    """Spoil one point: its own error shows it in full, at least as much as a fit through it would."""
    assert isinstance(form, type(CURVE_FORMS[0]))
    times = 1e-3 + 1e-4 * SIZES
    times[4] *= 1.5
    errors = held_out_errors(form, SIZES, times, times**-2)
    assert abs(errors[4]) > 0.25


@given(st.floats(1e-4, 1.0), st.floats(1e-6, 1.0), st.floats(0.0, 0.99))
def test_the_batch_for_a_fraction_is_the_textbook_formula_where_linear(a: float, c: float, fraction: float) -> None:
    """`f / (1 - f) a / c`."""
    found = Split(overhead_s=a, per_item_s=c).batch_for_fraction(fraction)
    assert found == pytest.approx(fraction / (1 - fraction) * a / c, rel=1e-6)


@given(st.floats(1e-4, 1.0), st.floats(1e-6, 1.0), st.floats(0.0, 0.1), st.floats(0.0, 1.0), st.floats(0.05, 0.95))
def test_that_batch_reaches_the_fraction_exactly(
    a: float, c: float, root: float, floor: float, fraction: float
) -> None:
    """Put back into the time, it gives the fraction of the limit `1 / c`."""
    batch = Split(overhead_s=a, per_item_s=c, root_s=root, floor_s=floor).batch_for_fraction(fraction)
    time = max(floor, a + root * math.sqrt(batch) + c * batch)
    assert c * batch / time == pytest.approx(fraction, rel=1e-6)


def test_items_that_cost_nothing_never_reach_a_fraction() -> None:
    """With no cost of an item there is no limit."""
    assert Split(overhead_s=1.0, per_item_s=0.0).batch_for_fraction(0.5) == math.inf
