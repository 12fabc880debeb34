"""Objectives of a plan: which are known, and whether they are kept."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum
from typing import TYPE_CHECKING

from carpool.config.tables import ObjectiveTable
from carpool.errors import ConfigError
from carpool.plan.predict import Interval, Prediction
from carpool.signals.objective import Objective

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carpool.plan.llm_predict import LlmPrediction

# Without an objective the load counts as carried where this share of it is answered.
CARRIED = 0.99


class Verdict(StrEnum):
    """Whether an objective is kept."""

    MET = "met"
    """For sure: the whole interval lies within the objective."""
    LIKELY = "likely"
    """In more than half of the simulated windows."""
    MISSED = "missed"

    @property
    def rank(self) -> int:
        """Higher is better."""
        return [Verdict.MISSED, Verdict.LIKELY, Verdict.MET].index(self)


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


def read_objectives(texts: Sequence[str]) -> tuple[Objective, ...]:
    """Read objectives as they are written on a command line, `p99=50ms`.

    Raises:
        ConfigError: One is not of that form, is for a percentile that `carpool.toml` does not know, or comes twice.

    >>> [str(one) for one in read_objectives(["p99=50ms", "p50=10ms"])]
    ['p50 within 10 ms', 'p99 within 50 ms']
    """
    known = {name: round(float(name[1:]) / 100, 12) for name in (field.name for field in fields(ObjectiveTable))}
    found: dict[float, Objective] = {}
    for text in texts:
        objective = Objective.parse(text)
        if objective.quantile not in known.values():
            forms = ", ".join(f"{name}=50ms" for name in known)
            raise ConfigError(f"{text!r} is not an objective that can be kept to: write one of {forms}")
        if objective.quantile in found:
            raise ConfigError(
                f"{text!r} and {str(found[objective.quantile])!r} are for one percentile: give one of them"
            )
        found[objective.quantile] = objective
    return tuple(found[quantile] for quantile in sorted(found))


def verdict_of(prediction: Prediction | LlmPrediction) -> Verdict:
    """Say whether every objective is kept; without any, whether the load is carried.

    What keeps its objectives only because the window ends before its queue has grown keeps none.
    """
    if not prediction.stable:
        return Verdict.MISSED
    if not prediction.objectives:
        return kept(prediction.attainment, CARRIED)
    wanted = [one.quantile for one in prediction.objectives]
    each = zip(prediction.shares_within, wanted, strict=True)
    return min((kept(share, quantile) for share, quantile in each), key=lambda verdict: verdict.rank)


def kept(share: Interval, wanted: float) -> Verdict:
    """Say whether a share that is predicted is at least the one wanted."""
    if share.low >= wanted:
        return Verdict.MET
    return Verdict.LIKELY if share.value >= wanted else Verdict.MISSED
