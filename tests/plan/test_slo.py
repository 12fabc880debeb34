"""Objectives: which are known, and whether they are kept."""

from __future__ import annotations

from dataclasses import replace

import pytest

from carpool.core.policy import Policy
from carpool.errors import ConfigError
from carpool.plan.predict import Interval
from carpool.plan.setup import Setup
from carpool.plan.slo import Verdict, read_objectives, verdict_of
from carpool.signals.objective import Objective
from tests.plan.scenes import affine, poisson, scene

SETUP = Setup(policy=Policy(max_batch_size=8))
CALM = scene(affine(), poisson(50.0), "p99=50ms").predict(SETUP, 4)


def test_objectives_come_in_the_order_of_their_percentiles() -> None:
    """However they were given."""
    assert read_objectives(["p99=50ms", "p50=0.01"]) == (Objective(0.5, 0.01), Objective(0.99, 0.05))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("throughput=400", "'throughput=400' is not an objective: write a percentile and a latency, such as p99=50ms"),
        ("p99=fast", "'fast' is not a duration"),
        ("p90=50ms", "'p90=50ms' is not an objective that can be kept to: write one of p50=50ms, p95=50ms, p99=50ms"),
        ("p99=0", "'p99=0' allows no time at all"),
    ],
)
def test_an_objective_that_is_not_known_is_refused_with_those_that_are(text: str, message: str) -> None:
    """The message names the forms."""
    with pytest.raises(ConfigError, match="^" + message):
        read_objectives([text])


def test_two_objectives_for_one_percentile_are_refused() -> None:
    """Which of them was meant can't be known."""
    with pytest.raises(ConfigError, match="'p99=20ms' and 'p99 within 50 ms' are for one percentile"):
        read_objectives(["p99=50ms", "p99=20ms"])


def share(low: float, value: float) -> Interval:
    """Return an interval of a share."""
    return Interval(value=value, low=low, high=1.0)


@pytest.mark.parametrize(
    ("within", "verdict"),
    [
        (share(0.99, 0.995), Verdict.MET),
        (share(0.98, 0.995), Verdict.LIKELY),
        (share(0.98, 0.985), Verdict.MISSED),
    ],
)
def test_a_verdict_is_as_sure_as_the_interval(within: Interval, verdict: Verdict) -> None:
    """Kept for sure, in most windows, or not."""
    assert verdict_of(replace(CALM, shares_within=(within,))) is verdict


def test_the_worst_objective_decides() -> None:
    """All have to be kept."""
    both = replace(
        CALM,
        objectives=(Objective(0.5, 0.01), Objective(0.99, 0.05)),
        shares_within=(share(0.4, 0.45), share(1.0, 1.0)),
    )
    assert verdict_of(both) is Verdict.MISSED


def test_a_queue_without_end_keeps_nothing() -> None:
    """What is in time only because the window ends is not kept."""
    assert verdict_of(CALM) is Verdict.MET
    assert verdict_of(replace(CALM, stable=False)) is Verdict.MISSED


def test_without_objectives_the_load_has_to_be_answered() -> None:
    """Refusals count against it."""
    free = replace(CALM, objectives=(), shares_within=())
    assert verdict_of(free) is Verdict.MET
    assert verdict_of(replace(free, attainment=share(0.7, 0.8))) is Verdict.MISSED
