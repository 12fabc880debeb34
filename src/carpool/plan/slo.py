"""How far each objective is from being met."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from carpool.plan.predict import Interval
from carpool.signals.objective import Objective


class Verdict(StrEnum):
    """Whether an objective is kept."""

    MET = "met"
    """In at least 95 % of the simulated runs: the whole interval lies within the objective."""
    LIKELY = "likely"
    """In more than half of them."""
    MISSED = "missed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """An objective beside what is predicted.

    Args:
        objective: What was promised.
        predicted_s: The latency at its percentile.
        verdict: Whether it is kept.
        attainment: Share of all that arrive which is answered within it.
        sentence: How far it is from being met, and which knob moves it.
    """

    objective: Objective
    predicted_s: Interval
    verdict: Verdict
    attainment: Interval
    sentence: str
