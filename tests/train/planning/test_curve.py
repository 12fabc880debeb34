"""The curve of steps over examples: it is found again in runs that follow it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carpool.errors import ConfigError
from carpool.train.planning.curve import Reached, fit_curve

SIZES = (4, 16, 64, 256, 1024)


def runs(fewest: float, critical: float) -> list[Reached]:
    """Runs that lie on a curve, but for whole steps."""
    steps = [round(fewest * (1 + critical / size)) for size in SIZES]
    return [Reached(batch_size=b, num_steps=n, learning_rate=0.1) for b, n in zip(SIZES, steps, strict=True)]


@given(fewest=st.floats(100, 1e5), critical=st.floats(4, 1024))
def test_the_curve_of_runs_is_found_again(fewest: float, critical: float) -> None:
    """Within what rounding to whole steps leaves."""
    curve = fit_curve(runs(fewest, critical))
    assert curve.fewest_steps == pytest.approx(fewest, rel=0.02)
    assert curve.critical_batch_size == pytest.approx(critical, rel=0.05)
    assert curve.error_pct < 1


def test_at_the_critical_batch_steps_and_examples_are_twice_the_fewest() -> None:
    """By definition."""
    curve = fit_curve(runs(1000, 64))
    critical = curve.critical_batch_size
    assert curve.steps_at(critical) == pytest.approx(2 * curve.fewest_steps)
    assert critical * curve.steps_at(critical) == pytest.approx(2 * curve.fewest_examples)


def test_steps_that_fall_for_ever_have_no_critical_batch() -> None:
    """Twice the batch, half the steps, throughout."""
    made = [Reached(batch_size=b, num_steps=4096 // b, learning_rate=0.1) for b in SIZES]
    assert fit_curve(made).critical_batch_size > 1e6 or math.isinf(fit_curve(made).critical_batch_size)


def test_two_batches_are_too_few() -> None:
    """Any curve passes through them."""
    with pytest.raises(ConfigError, match="runs at 2 effective batches do not tell the curve"):
        fit_curve(runs(100, 64)[:2])
