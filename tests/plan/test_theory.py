"""What queueing theory says of a plan."""

from __future__ import annotations

from dataclasses import replace

import pytest

from carpool.core import Policy
from carpool.plan.predict import predict
from carpool.plan.setup import Setup
from carpool.plan.theory import theory_of
from tests.plan.scenes import affine, poisson

MODEL = affine(0.004, 0.001)
SETUP = Setup(policy=Policy(max_batch_size=8))


def test_the_simulation_is_held_against_the_exact_answer() -> None:
    """Both are said, and are alike."""
    theory = theory_of(SETUP, poisson(150.0), MODEL)
    found = predict(MODEL, poisson(150.0), SETUP, window_s=60.0, num_runs=10)
    assert theory.mean_latency_s == pytest.approx(found.mean_s.value, rel=0.03)
    assert theory.mean_batch_size == pytest.approx(found.mean_batch_size.value, rel=0.03)
    assert theory.load == pytest.approx(150 * 0.012 / 8)
    said = theory.sentence(found)
    assert said.startswith("Queueing theory has an exact answer here, which no simulation enters: a mean latency of ")
    assert said.endswith("at 22% of the largest rate that can be sustained.")


def test_where_it_does_not_hold_it_says_why_and_nothing_else() -> None:
    """Two workers, and pauses that slow a batch down."""
    slow_starts = replace(MODEL, idle_penalties=((0.01, 0.002),))
    theory = theory_of(replace(SETUP, num_workers=2), poisson(150.0), slow_starts)
    assert theory.mean_latency_s is None
    assert theory.broken == (
        "there is one worker, and there are 2",
        "a batch takes as long after a pause as at once, and pauses add up to 2 ms",
    )
    assert theory.sentence(predict(MODEL, poisson(50.0), SETUP, window_s=1.0, num_runs=1)) == ""
