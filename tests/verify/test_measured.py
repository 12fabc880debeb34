"""Measured figures, by the definitions of the predicted ones."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from carpool.core.policy import Policy
from carpool.plan.figures import figures_of
from carpool.plan.setup import Setup
from carpool.signals.objective import Objective
from carpool.verify.measured import measured_figures, shares_within
from carpool.verify.scrape import Counts
from tests.plan.plans import subject, workload
from tests.verify.simulated import run_of, window_of

OBJECTIVES = (Objective(0.99, 0.03), Objective(0.5, 0.008))


@pytest.mark.parametrize(
    ("policy", "deadline_s", "rate"),
    [
        (Policy(max_batch_size=8), None, 100.0),
        (Policy(max_batch_size=4, max_queue=5), None, 400.0),
        (Policy(max_batch_size=4), 0.03, 300.0),
        (Policy(max_batch_size=4), None, 400.0),
    ],
)
def test_a_simulated_run_measures_what_was_simulated(policy: Policy, deadline_s: float | None, rate: float) -> None:
    """The same run gives the same figures whether it is called predicted or measured."""
    setup = Setup(policy=policy, num_workers=1)
    stream = replace(workload(rate), deadline_s=deadline_s).draw(np.random.default_rng(0), 20.0)
    run = run_of(subject(), setup, stream)
    expected = figures_of(run, OBJECTIVES)
    measured = dict(measured_figures(window_of(run), setup, OBJECTIVES))
    same = {name: getattr(expected, name) for name in measured}
    # Of what ran after the window the server's count says no more than when it was over.
    assert measured.pop("utilisation") == pytest.approx(same.pop("utilisation"), abs=0.005)
    assert measured == pytest.approx(same)
    assert shares_within(window_of(run), OBJECTIVES) == pytest.approx(expected.shares_within)


def test_the_way_there_and_back_is_in_the_latencies() -> None:
    """As in the predicted ones."""
    setup = Setup()
    run = run_of(subject(), setup, workload().draw(np.random.default_rng(0), 5.0))
    measured = measured_figures(window_of(run, transport_s=0.004), setup)
    assert measured["p99_s"] == pytest.approx(figures_of(run, transport_s=0.004).p99_s)


def test_what_is_not_known_is_not_made_up() -> None:
    """No answer, no batch: no latency and no mean batch, but rates of 0."""
    run = run_of(subject(), Setup(), workload().draw(np.random.default_rng(0), 1.0))
    window = window_of(run)
    lost = replace(window.load, outcome=np.full(len(run.stream), "not connected"))
    measured = measured_figures(replace(window, load=lost, counts=Counts()), Setup())
    assert measured["throughput"] == 0
    assert math.isnan(measured["p99_s"])
    assert math.isnan(measured["mean_batch_size"])
