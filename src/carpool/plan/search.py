"""The cheapest policy that keeps the objectives, found without choosing on noise."""

from __future__ import annotations

from dataclasses import dataclass

from carpool.plan.predict import Prediction
from carpool.plan.setup import Setup
from carpool.plan.slo import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """One way to serve the load, as far as the search looked at it.

    Args:
        setup: The policy and the workers.
        prediction: What they would do, by as many runs as it took to tell.
        verdict: Whether every objective is kept.
        tie: Whether it is as good as the best, as far as the runs can tell.
    """

    setup: Setup
    prediction: Prediction
    verdict: Verdict
    tie: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontierPoint:
    """A setup under one load.

    Args:
        label: What the setup is called in a legend.
        setup: The policy and the workers.
        rate: Items a second that arrive.
        prediction: What they would do.
    """

    label: str
    setup: Setup
    rate: float
    prediction: Prediction
