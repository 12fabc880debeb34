"""Predicted beside measured, figure by figure."""

from __future__ import annotations

import math

import pytest

from carpool.plan.predict import Interval, predict
from carpool.plan.setup import Setup
from carpool.signals.objective import Objective
from carpool.verify.beside import KINDS, Beside, beside, beside_objectives
from tests.plan.plans import subject, workload


def row(*measured: float, value: float = 10.0, low: float = 9.0, high: float = 12.0) -> Beside:
    """One figure, measured so often."""
    interval = Interval(value=value, low=low, high=high)
    return Beside(name="p99_s", kind=KINDS["p99_s"], predicted=interval, measured=measured)


def test_errors_are_relative_to_what_was_measured() -> None:
    """Positive where too much was predicted."""
    assert row(8.0).errors_pct == (25.0,)
    assert row(12.5).errors_pct == pytest.approx((-20.0,))
    assert row(8.0, 12.5, 10.0).error_pct == pytest.approx(20.0)
    assert row(8.0, 12.5, 11.0).value == 11.0


def test_each_window_lies_inside_or_not() -> None:
    """The ends belong to the interval."""
    assert row(8.9, 9.0, 12.0, 12.1).inside == (False, True, True, False)


def test_nothing_predicted_and_nothing_measured_is_no_error() -> None:
    """Refused: 0 and 0."""
    assert row(0.0, value=0.0, low=0.0, high=0.0).error_pct == 0.0


@pytest.mark.parametrize("measured", [0.0, math.nan])
def test_an_error_without_a_size_is_none(measured: float) -> None:
    """Of something predicted and nothing measured no percentage can be told, nor of what was not measured at all."""
    assert math.isnan(row(measured).error_pct)
    assert row(measured).inside == (False,)


def test_every_figure_of_a_prediction_is_there() -> None:
    """With what was measured of it in each window, and the share that keeps each objective."""
    objectives = (Objective(0.99, 0.05),)
    prediction = predict(subject(), workload(), Setup(), objectives=objectives, window_s=2.0, num_runs=20)
    measured = dict.fromkeys(KINDS, 1.0)
    rows = beside(prediction, [measured, measured])
    assert [one.name for one in rows] == list(KINDS)
    assert {one.measured for one in rows} == {(1.0, 1.0)}
    (within,) = beside_objectives(prediction, [(0.9,), (1.0,)])
    assert (within.name, within.kind.label, within.measured) == ("within_p99", "within 50 ms", (0.9, 1.0))
