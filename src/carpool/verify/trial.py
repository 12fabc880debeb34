"""One served plan, loaded as planned: the single client before, the prediction, and the windows after it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from carpool.plan.changed_cost import ChangedCost
from carpool.plan.predict import Prediction, predict
from carpool.plan.setup import Setup
from carpool.plan.subject import Subject
from carpool.plan.workload import Workload
from carpool.report.progress import Progress
from carpool.signals.objective import Objective
from carpool.verify.explain import Steps, explain
from carpool.verify.measured import measured_figures
from carpool.verify.transport import Overheads, overheads
from carpool.verify.window import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from carpool.loadgen.generator import Progress as LoadProgress
    from carpool.loadgen.http import Requests
    from carpool.plan.stream import Stream

ALONE_SHARE, LEAST_ALONE_S, MOST_ALONE_S = 0.2, 5.0, 12.0
WARM_SHARE = 0.4  # of the time alone goes by before, unmeasured: first calls of a shape are slow, and never come again
NUM_PAUSES, LONGEST_PAUSE_S = 1000, 0.2  # what a longer rest does to the machine, this one does too
ROUGH_WINDOWS = 5
# Windows that are simulated: as many as take about half a minute, within bounds.
ITEMS_SIMULATED, FEWEST_WINDOWS, MOST_WINDOWS = 2_000_000, 20, 40
OF_CHECKS, OF_PAUSES = 1, 2  # set what is sent apart from what is simulated


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialOptions:
    """How a plan is tried.

    Args:
        duration_s: length of a window.
        num_windows: how many windows are measured, one after another, each with arrivals of its own.
        seed: draws arrivals, bodies and simulations.
        as_profiled: whether batches are predicted to take what the profile says, and not what a single client finds.
    """

    duration_s: float = 60.0
    num_windows: int = 1
    seed: int = 0
    as_profiled: bool = False

    @property
    def alone_s(self) -> float:
        """How long one client is alone with the server, until it is warm and then measured."""
        return min(self.duration_s, MOST_ALONE_S, max(LEAST_ALONE_S, ALONE_SHARE * self.duration_s))

    @property
    def total_s(self) -> float:
        """How long all of it takes."""
        return self.alone_s + self.num_windows * self.duration_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """A window that was served.

    Args:
        window: what its clients and the server saw.
        overheads: what of that was not the model's own time.
        steps: where differences from the prediction come from.
    """

    window: Window
    overheads: Overheads
    steps: tuple[Steps, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What a trial brought.

    Args:
        alone: what a single client found before the load.
        expected: what of that the prediction assumed.
        prediction: what was predicted for one window, before any was measured.
        observed: the windows, in order; fewer than were asked for where it was stopped.
    """

    alone: Overheads
    expected: Overheads
    prediction: Prediction
    observed: tuple[Observed, ...]


class Site(Protocol):
    """Where a plan is served: the one seam between a trial and the network."""

    def requests(self, stream: Stream) -> Requests:
        """Return a request for each item of a stream."""
        ...

    def drive_alone(self, requests: Requests, duration_s: float, pauses_s: Sequence[float]) -> Window:
        """Be the only client for a while, resting before each request."""
        ...

    def drive(self, stream: Stream, requests: Requests, watch: Callable[[LoadProgress], None]) -> Window:
        """Send a stream's requests at its times."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A plan that is being served: what is known before, and what is done.

    Args:
        site: where it is served.
        subject: the measured model.
        workload: what arrives, within what the model takes.
        setup: what serves it.
        objectives: what latencies are held against.
        options: for how long, and how often.
        bar: told the seconds that have gone.
    """

    site: Site
    subject: Subject
    workload: Workload
    setup: Setup
    objectives: tuple[Objective, ...]
    options: TrialOptions
    bar: Progress

    def run(self) -> Findings:
        """Learn from a single client how fast everything is today, predict, and only then drive the load.

        Raises:
            KeyboardInterrupt: stopped before a window was whole.
        """
        options = self.options
        streams = [self._stream(number) for number in range(options.num_windows)]
        requests = [self.site.requests(stream) for stream in streams]
        self.bar.note("one client alone")
        self.site.drive_alone(requests[0], WARM_SHARE * options.alone_s, ())
        alone = self._overheads(
            self.site.drive_alone(requests[0], (1 - WARM_SHARE) * options.alone_s, self._pauses_s())
        )
        expected, subject = self._assumed(alone)
        self.bar.advance(options.alone_s)
        self.bar.note("predicting")
        prediction = self._predict(subject, expected)
        observed: list[Observed] = []
        for stream, bodies in zip(streams, requests, strict=True):
            window = self._drive(stream, bodies, len(observed))
            if window.load.interrupted:
                break
            observed.append(self._observe(subject, stream, window, prediction, expected))
        if not observed:
            raise KeyboardInterrupt
        return Findings(alone=alone, expected=expected, prediction=prediction, observed=tuple(observed))

    def _assumed(self, alone: Overheads) -> tuple[Overheads, Subject]:
        """Return what the prediction takes for granted; the pace of a client that rested holds what pauses add."""
        if self.options.as_profiled or alone.pace is None:
            return replace(alone, pace=1.0), self.subject
        return alone, replace(self.subject, idle_penalties=())

    def _overheads(self, window: Window) -> Overheads:
        return overheads(window, self.subject.call_spread)

    def _stream(self, number: int) -> Stream:
        rng = np.random.default_rng((self.options.seed, OF_CHECKS, number))
        return self.workload.draw(rng, self.options.duration_s)

    def _pauses_s(self) -> list[float]:
        """Draw rests that leave the server idle as often, and for as long, as the plan will.

        After a rest caches are cold and threads asleep, so that a batch takes longer than one right behind another.
        """
        rough = predict(
            self.subject,
            self.workload,
            self.setup,
            window_s=self.options.duration_s,
            num_runs=ROUGH_WINDOWS,
            seed=self.options.seed,
        )
        rng = np.random.default_rng((self.options.seed, OF_PAUSES))
        rests_s = np.minimum(rng.exponential(1 / self.workload.rate, NUM_PAUSES), LONGEST_PAUSE_S)
        idle = rng.random(NUM_PAUSES) >= rough.utilisation.value
        return [float(rest_s) for rest_s in np.where(idle, rests_s, 0.0)]

    def _predict(self, subject: Subject, expected: Overheads) -> Prediction:
        num_items = max(1.0, self.workload.rate * self.options.duration_s)
        return predict(
            subject,
            self.workload,
            self.setup,
            objectives=self.objectives,
            window_s=self.options.duration_s,
            num_runs=int(min(MOST_WINDOWS, max(FEWEST_WINDOWS, ITEMS_SIMULATED / num_items))),
            seed=self.options.seed,
            cost=ChangedCost(measured=subject.cost.clipped(), time_factor=expected.pace or 1.0),
            transport_s=expected.transport_s,
        )

    def _drive(self, stream: Stream, requests: Requests, number: int) -> Window:
        self.bar.note(f"window {number + 1} of {self.options.num_windows}")
        told_s = 0.0

        def watch(progress: LoadProgress) -> None:
            nonlocal told_s
            gone_s = min(progress.elapsed_s, self.options.duration_s)
            self.bar.advance(gone_s - told_s)
            told_s = gone_s

        window = self.site.drive(stream, requests, watch)
        self.bar.advance(self.options.duration_s - told_s)
        return window

    def _observe(
        self, subject: Subject, stream: Stream, window: Window, prediction: Prediction, expected: Overheads
    ) -> Observed:
        found = self._overheads(window)
        steps = explain(
            subject,
            self.setup,
            stream,
            prediction=prediction,
            expected=expected,
            found=found,
            measured=measured_figures(window, self.setup, self.objectives),
            seed=self.options.seed,
        )
        return Observed(window=window, overheads=found, steps=steps)
