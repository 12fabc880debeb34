"""Where a difference between predicted and measured comes from.

The simulation is repeated with more and more of what really happened put in place of what was assumed: first the
arrivals as they were sent, then the time that batches really took, then the way to the server and back as it really
was. What each step moves is due to that; what is left over is the simulation's own error, or chance.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from carpool.plan.figures import figures_of
from carpool.plan.predict import fitted
from carpool.plan.simulate import simulate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from carpool.plan.figures import Figures
    from carpool.plan.predict import Prediction
    from carpool.plan.setup import Setup
    from carpool.plan.stream import Stream
    from carpool.plan.subject import Subject
    from carpool.verify.transport import Overheads

EXPLAINED = ("throughput", "mean_batch_size", "p50_s", "p99_s")
NUM_REPEATS = 5  # with another scatter of calls each, so that a percentile does not hang on one draw


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """One figure on its way from what was predicted to what was measured.

    Args:
        name: of the field in `Prediction`.
        predicted: before anything had happened.
        with_arrivals: for the arrivals that were really sent, nothing else changed.
        with_pace: for these, with batches as slow as they really were.
        with_transport: for all that, with the way to the server and back as long as it really was.
        measured: what was measured.
    """

    name: str
    predicted: float
    with_arrivals: float
    with_pace: float
    with_transport: float
    measured: float

    @property
    def parts(self) -> tuple[float, float, float, float]:
        """What is due to the arrivals, to the batches, to the way there and back, and to none of these."""
        return (
            self.with_arrivals - self.predicted,
            self.with_pace - self.with_arrivals,
            self.with_transport - self.with_pace,
            self.measured - self.with_transport,
        )


def explain(
    subject: Subject,
    setup: Setup,
    stream: Stream,
    *,
    prediction: Prediction,
    expected: Overheads,
    found: Overheads,
    measured: Mapping[str, float],
    seed: int,
) -> tuple[Steps, ...]:
    """Repeat the simulation with what really happened in a window.

    Args:
        subject: the measured model.
        setup: what served it.
        stream: what was sent.
        prediction: what had been predicted for such a window.
        expected: the overheads that it assumed.
        found: those of the window.
        measured: the window's figures.
        seed: draws the scatter of calls.
    """
    as_slow = replace(expected, pace=found.pace)
    as_ran = replace(subject, idle_penalties=())  # the pace that was found holds what pauses added
    with_arrivals = _simulated(subject, setup, stream, seed, expected)
    with_pace = _simulated(as_ran, setup, stream, seed, as_slow)
    with_transport = _simulated(as_ran, setup, stream, seed, found)
    return tuple(
        Steps(
            name=name,
            predicted=getattr(prediction, name).value,
            with_arrivals=_mean(with_arrivals, name),
            with_pace=_mean(with_pace, name),
            with_transport=_mean(with_transport, name),
            measured=measured[name],
        )
        for name in EXPLAINED
    )


def _simulated(subject: Subject, setup: Setup, stream: Stream, seed: int, assumed: Overheads) -> list[Figures]:
    """Simulate one stream a few times; the same seed scatters the calls alike."""
    live = replace(setup, policy=fitted(setup.policy, subject))
    cost = subject.cost.clipped()
    return [
        figures_of(
            simulate(
                stream,
                live,
                cost,
                rng=np.random.default_rng((seed, number)),
                call_spread=subject.call_spread,
                idle_penalties=subject.idle_penalties,
                slowdown=assumed.pace or 1.0,
            ),
            transport_s=assumed.transport_s,
        )
        for number in range(NUM_REPEATS if len(subject.call_spread) else 1)
    ]


def _mean(found: Sequence[Figures], name: str) -> float:
    return statistics.fmean(getattr(one, name) for one in found)


def typical(steps: Sequence[Sequence[Steps]]) -> tuple[Steps, ...]:
    """Bring the explanations of several windows together, each value by its median over them."""
    values = ("predicted", "with_arrivals", "with_pace", "with_transport", "measured")
    return tuple(
        Steps(name=of_one[0].name, **{key: statistics.median(getattr(one, key) for one in of_one) for key in values})
        for of_one in zip(*steps, strict=True)
    )
