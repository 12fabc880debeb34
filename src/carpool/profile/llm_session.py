"""A model that generates being profiled: peaks, steps of every kind, and the scheduler and the model together."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from math import inf
from typing import TYPE_CHECKING, Protocol

import numpy as np

from carpool.core.step_policy import StepPolicy
from carpool.cost.kv_memory import KvMemory
from carpool.cost.step_cost import StepCost, StepMeasurement, fit_step_cost
from carpool.errors import CarpoolError, ConfigError
from carpool.profile.artefact import Trust
from carpool.profile.budget import Budget
from carpool.profile.llm_artefact import LlmProfile, Rehearsal, SkippedStep, StepPoint
from carpool.profile.llm_rehearse import Rehearser
from carpool.profile.llm_sentences import sentences_about
from carpool.profile.llm_step import StepCaller, StepShape, steps_to_time
from carpool.profile.llm_trust import judge
from carpool.profile.machine import Machine
from carpool.profile.measure import Sweep, Timing, time_shapes
from carpool.profile.options import DEFAULT_BATCH_SIZES, ProfileOptions
from carpool.profile.other_load import OtherLoad
from carpool.profile.peaks import MeasuredPeaks
from carpool.units import counted

if TYPE_CHECKING:
    from carpool.llm.runner import Runner
    from carpool.profile.shape import Shape

BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
CONTEXTS = (64, 256, 1024)
CHUNKS = (32, 128, 512)
MOST_CACHED = 65_536
# When each phase must be over, as a share of the budget; what one leaves over, the next ones have.
PEAKS_UNTIL, SWEEP_UNTIL, REHEARSAL_UNTIL = 0.04, 0.78, 0.96
PEAKS_MOST_S = 1.5
NUM_REHEARSED, SLOTS_REHEARSED, BUDGET_REHEARSED = 48, 32, 256


class Loaded(Protocol):
    """A model on its device, ready to compute steps: what `carpool.llm.parts.Parts` is, as far as it is needed here."""

    @property
    def runner(self) -> Runner:
        """Computes steps."""

    @property
    def name(self) -> str:
        """What the model is called."""


@dataclass(slots=True)
class LlmSession:
    """One model that generates being profiled.

    Args:
        target: The TARGET.
        loaded: The model, warmed up on the thread.
        options: What to measure.
        machine: What the figures will hold for.
        caller: Runs steps on the thread.
        num_blocks: Blocks of keys and values that a server would have here.
        measure: Measures the peaks within so many seconds.
        budget: Seconds for all of it.
        other_load: Counts what other programs use from its making on.
    """

    target: str
    loaded: Loaded
    options: ProfileOptions
    machine: Machine
    caller: StepCaller
    num_blocks: int
    measure: Callable[[float], MeasuredPeaks]
    budget: Budget
    other_load: Callable[[], OtherLoad] = OtherLoad
    sweep: Sweep = field(default_factory=Sweep)
    peaks: MeasuredPeaks | None = None
    cost: StepCost | None = None
    rehearsal: Rehearsal | None = None
    other_load_cores: float = 0.0

    def run(self) -> LlmProfile:
        """Go through all phases, and put together what they found.

        Raises:
            ModelError: No step could be measured; says what the model did.
            KeyboardInterrupt: Stopped before anything was measured.
        """
        complete, others = False, self.other_load()
        try:
            self._peaks(PEAKS_UNTIL)
            self._sweep()
            self._fit()
            self._rehearse()
            self._peaks(1.0)
            complete = True
        except KeyboardInterrupt:
            if not self.sweep.timings():
                raise
            self._fit()
        self.sweep.require_timings(f"step of {self.target}")
        self.other_load_cores = others.cores()
        self.budget.tell("")
        return self._profile(complete=complete)

    def _peaks(self, share: float) -> None:
        """Measure the peaks, before and after everything else: interference only lowers them, so the best counts."""
        self.budget.tell("peaks of the machine")
        budget_s = min(
            PEAKS_MOST_S, max(0.0, self.budget.until(share) - self.budget.clock()), 0.04 * self.options.budget_s
        )
        found = self.caller.thread.call(lambda: self.measure(budget_s))
        self.peaks = found if self.peaks is None else self.peaks.best_of(found)

    def _sweep(self) -> None:
        time_shapes(
            shapes_of(self.options, self.loaded.runner.max_length),
            self.caller,
            sweep=self.sweep,
            clock=self.budget.clock,
            until=self.budget.until(SWEEP_UNTIL),
            rng=np.random.default_rng(self.options.seed),
            watch=self._tell_samples,
        )

    def _tell_samples(self, sweep: Sweep) -> None:
        timing = f"timing: {counted(len(sweep.points), 'kind')} of step, {counted(sweep.num_samples, 'sample')}"
        self.budget.tell(timing if sweep.num_samples else "warming up")

    def _fit(self) -> None:
        points = [_as_measurement(timing) for timing in self.sweep.timings()]
        try:
            self.cost = fit_step_cost(points, measured_on=self.machine.as_measured_on())
        except ConfigError:  # too few steps: the profile says so by having no fit
            self.cost = None

    def _rehearse(self) -> None:
        """Let the scheduler and the model generate together for a while."""
        if self.cost is None:
            return
        self.budget.tell("the scheduler and the model together")
        most = max(point.shape.batch_size for point in self.sweep.points)
        slots = max(1, min(SLOTS_REHEARSED, most))
        runner = self.loaded.runner
        rehearser = Rehearser(
            runner=runner,
            time_s=self.caller.time_s,
            cost=self.cost,
            policy=StepPolicy(num_slots=slots, token_budget=max(BUDGET_REHEARSED, slots), block_size=runner.block_size),
            rng=np.random.default_rng(self.options.seed),
            clock=self.budget.clock,
        )
        until = self.budget.until(REHEARSAL_UNTIL)
        with suppress(CarpoolError):  # a model that fails at some step is told of by the sweep
            self.rehearsal = self.caller.thread.call(lambda: rehearser.run(NUM_REHEARSED, until=until))

    def _profile(self, *, complete: bool) -> LlmProfile:
        runner, samples = self.loaded.runner, self.sweep.timings()
        profile = LlmProfile(
            trust=Trust(),
            target=self.target,
            name=self.loaded.name,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            took_s=self.budget.gone_s,
            budget_s=self.options.budget_s,
            complete=complete,
            machine=self.machine,
            max_length=runner.max_length,
            vocabulary_size=runner.vocabulary_size,
            memory=KvMemory(
                weights_bytes=runner.weights_bytes,
                block_bytes=runner.cache_bytes // runner.num_blocks,
                block_size=runner.block_size,
            ),
            num_blocks=self.num_blocks,
            points=tuple(_point(timing, self.cost) for timing in samples),
            skipped=tuple(
                SkippedStep(step=str(one.shape), kind=one.kind, reason=one.reason) for one in self.sweep.dropped
            ),
            drift=self.sweep.drift(),
            other_load_cores=self.other_load_cores,
            step_cost=self.cost,
            call_spread=self.sweep.call_spread(),
            peaks=self.peaks,
            rehearsal=self.rehearsal,
            sentences=(),
        )
        profile = replace(profile, trust=judge(profile, self.options))
        return replace(profile, sentences=tuple(sentences_about(profile)))


def shapes_of(options: ProfileOptions, max_length: int) -> list[StepShape]:
    """Return the steps to time; where nobody says which, none that needs a very large cache.

    Args:
        options: What was asked for.
        max_length: The longest sequence that the model takes.
    """
    as_by_default = options.batch_sizes == DEFAULT_BATCH_SIZES
    return steps_to_time(
        BATCH_SIZES if as_by_default else tuple(sorted(options.batch_sizes)),
        tuple(sorted(options.lengths)) or CONTEXTS,
        tuple(sorted(options.chunks)) or CHUNKS,
        max_length,
        most_cached=MOST_CACHED if as_by_default and not options.lengths else inf,
    )


def _step(shape: Shape) -> StepShape:
    assert isinstance(shape, StepShape), "only steps were timed"
    return shape


def _as_measurement(timing: Timing) -> StepMeasurement:
    return StepMeasurement(
        work=_step(timing.shape).work, time_s=timing.time_s, low_s=timing.low_s, high_s=timing.high_s
    )


def _point(timing: Timing, cost: StepCost | None) -> StepPoint:
    shape = _step(timing.shape)
    return StepPoint(
        batch_size=shape.batch_size,
        context=shape.length,
        chunk=shape.chunk,
        start=shape.start,
        time_s=timing.time_s,
        low_s=timing.low_s,
        high_s=timing.high_s,
        confidence=timing.confidence,
        num_samples=timing.num_samples,
        num_calls=timing.num_calls,
        fitted_s=None if cost is None else cost.line_s(shape.work),
    )
