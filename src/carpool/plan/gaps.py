"""How far each objective is from being met, and which knob moves it, in plain sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carpool.plan.slo import Gap, Verdict, kept
from carpool.plan.words import among, describe_setup
from carpool.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from carpool.plan.predict import Interval, Prediction
    from carpool.plan.search import Tried
    from carpool.signals.objective import Objective

# A setup that lowers the latency by less than this is not worth naming.
_WORTH_NAMING = 0.05
# More than this share of the latency spent waiting makes the wait the thing to shorten.
_MOSTLY = 0.5
# Workers that are busy for this share of their time have queues; batches larger than this could be smaller.
_BUSY, _SOME = 0.8, 1.5


def gaps(prediction: Prediction, tried: Sequence[Tried]) -> tuple[Gap, ...]:
    """Hold each objective against what is predicted.

    Args:
        prediction: What the chosen setup will do.
        tried: What was compared, the chosen setup first.
    """
    return tuple(_gap(prediction, tried, index) for index in range(len(prediction.objectives)))


def _gap(prediction: Prediction, tried: Sequence[Tried], index: int) -> Gap:
    objective, share = prediction.objectives[index], prediction.shares_within[index]
    verdict = kept(share, objective.quantile) if prediction.stable else Verdict.MISSED
    found = prediction.at_objectives_s[index]
    parts = [_distance(objective, found, share, verdict, stable=prediction.stable)]
    if verdict is not Verdict.MET:
        parts += _what_moves_it(prediction, tried, index)
    return Gap(objective=objective, predicted_s=found, verdict=verdict, attainment=share, sentence=" ".join(parts))


def _distance(objective: Objective, found: Interval, share: Interval, verdict: Verdict, *, stable: bool) -> str:
    name = f"p{objective.quantile * 100:g}"
    said = f"{name} is predicted at {among(found, format_duration)}"
    limit = format_duration(objective.latency_s)
    if not stable:
        return f"{said} and keeps growing, for more arrives than can be answered: {limit} is out of reach."
    off = found.value / objective.latency_s - 1.0
    if verdict is Verdict.MET:
        return f"{said}, {-off:.0%} below the {limit} promised."
    if found.value <= objective.latency_s and verdict is Verdict.LIKELY:
        return f"{said}: {limit} is kept in most windows but not for sure."
    if found.value <= objective.latency_s:
        missing = (
            f"{share.value:.1%} of what arrives is answered within {limit}, and {objective.quantile:.1%} should be"
        )
        return f"{said} of what is answered, but only {missing}."
    times = f"{off + 1:.2g} times" if off >= 1 else f"{off:.0%} above"
    return f"{said}, {times} the {limit} promised."


def _what_moves_it(prediction: Prediction, tried: Sequence[Tried], index: int) -> Iterator[str]:
    """Say where the latency comes from, and which of the knobs that were tried lowers it."""
    yield _where_it_comes_from(prediction)
    best = min(tried, key=lambda one: one.prediction.at_objectives_s[index].value, default=None)
    if best is None:
        return
    lower = 1 - best.prediction.at_objectives_s[index].value / tried[0].prediction.at_objectives_s[index].value
    if lower >= _WORTH_NAMING:
        yield f"Of what was tried, {describe_setup(best.setup)}, has it lowest, {lower:.0%} lower."
    else:
        yield "No other batch size, wait, token budget or padding that was tried brings it lower."


def _where_it_comes_from(prediction: Prediction) -> str:
    busy, mean_s = prediction.utilisation.value, prediction.mean_s.value
    waiting = prediction.queue_delay_s.value / mean_s if mean_s else 0.0
    if busy >= _BUSY:
        return (
            f"Workers are busy {busy:.0%} of the time, so items queue and batches grow: more workers, a faster device "
            "or fewer items move it."
        )
    if waiting >= _MOSTLY:
        return (
            f"{waiting:.0%} of the mean latency is waiting: more workers, a faster device or steadier arrivals move it."
        )
    smaller = "smaller batches, " if prediction.mean_batch_size.value > _SOME else ""
    return (
        f"{1 - waiting:.0%} of the mean latency is the batch itself ({format_duration(prediction.compute_s.value)} on "
        f"average): {smaller}shorter items or a faster device move it."
    )
