"""What a setup of a model that generates would do: many simulated windows, each figure with an interval.

As for batches: a window is finite, so its arrivals and the scatter of its steps are chance, and the fit is wrong by a
factor that nobody knows, drawn from its own error. The interval of a figure is what the middle 90 % of windows span.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Protocol

from carpool.cost.kv_memory import KvMemory
from carpool.cost.step_cost import StepCost
from carpool.errors import ConfigError
from carpool.plan.llm_figures import LlmFigures, LlmObjective, figures_of_llm
from carpool.plan.llm_simulate import Promise, simulate_llm
from carpool.plan.predict import Interval, chances, joined, require_windows, slowdown_of
from carpool.plan.subject import MeasuredModel

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from carpool.core.cost import StepTimeModel
    from carpool.plan.llm_setup import LlmSetup
    from carpool.plan.llm_simulate import LlmRun
    from carpool.plan.llm_workload import LlmStream


class MeasuredGenerator(MeasuredModel, Protocol):
    """The part of a profile that plans are made from; `carpool.profile.llm_artefact.LlmProfile` has it."""

    @property
    def whole_cost(self) -> StepCost | None:
        """What a step takes, all told."""

    @property
    def max_length(self) -> int:
        """Longest sequence that the model takes."""

    @property
    def memory(self) -> KvMemory:
        """Weights, and keys and values."""

    @property
    def num_blocks(self) -> int:
        """Blocks that were allotted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmSubject:
    """A measured model that generates.

    Args:
        target: The TARGET that was profiled.
        name: The model's short name.
        cost: What a step takes, all told, with its error and its range.
        step_spread: How single steps of one kind scatter: quantiles, evenly spaced from 0 to 1, over the median.
        drift: How much slower the machine became while it was measured: 0.02 is 2 %.
        max_length: Longest sequence that the model takes.
        memory: Weights, and keys and values.
        num_blocks: Blocks that were allotted when it was measured.
    """

    target: str
    name: str
    cost: StepCost
    step_spread: tuple[float, ...] = ()
    drift: float = 0.0
    max_length: int
    memory: KvMemory
    num_blocks: int

    @classmethod
    def of(cls, profile: MeasuredGenerator) -> LlmSubject:
        """Take what a plan needs from a profile.

        Raises:
            ConfigError: The profile has no fit, because too little was measured.
        """
        if profile.whole_cost is None:
            raise ConfigError(
                f"the profile of {profile.target} says nothing of what a step costs, because too few were measured: "
                f"profile it again with more time (carpool profile {profile.target} --budget 60s)"
            )
        return cls(
            target=profile.target,
            name=profile.name,
            cost=profile.whole_cost,
            step_spread=profile.call_spread,
            drift=profile.drift,
            max_length=profile.max_length,
            memory=profile.memory,
            num_blocks=profile.num_blocks,
        )


class DrawableLlm(Protocol):
    """A workload of generations."""

    @property
    def rate(self) -> float:
        """Mean generations a second."""

    def draw(self, rng: np.random.Generator, window_s: float) -> LlmStream:
        """Draw the arrivals of one window."""

    def scaled(self, factor: float) -> DrawableLlm:
        """Return the same with so many times the rate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmPrediction:
    """What a setup would do, each figure as defined in `carpool.plan.llm_figures.LlmFigures`.

    Args:
        num_runs: Simulated windows.
        window_s: Seconds in each.
        objectives: What times were held against.
        stable: Whether the queue has an end: False where it still grew at the end of most windows.
    """

    num_runs: int
    window_s: float
    offered: Interval
    throughput: Interval
    goodput: Interval
    attainment: Interval
    output_rate: Interval
    ttft_p50_s: Interval
    ttft_p99_s: Interval
    tpot_p50_s: Interval
    tpot_p99_s: Interval
    itl_p50_s: Interval
    itl_p99_s: Interval
    latency_p50_s: Interval
    latency_p99_s: Interval
    mean_batch: Interval
    mean_tokens: Interval
    kv_usage: Interval
    kv_peak: Interval
    preemptions: Interval
    prefix_hits: Interval
    utilisation: Interval
    refused: Interval
    objectives: tuple[LlmObjective, ...]
    at_objectives_s: tuple[Interval, ...]
    shares_within: tuple[Interval, ...]
    stable: bool

    @property
    def is_finite(self) -> bool:
        """Whether something was answered in every window: a time without end can't be written down."""
        return isfinite(self.ttft_p99_s.high) and isfinite(self.latency_p99_s.high)


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmScene:
    """Everything that a simulated window needs but the setup: what is compared in one scene meets the same windows.

    Args:
        subject: The measured model.
        load: What arrives.
        objectives: What is promised.
        window_s: Seconds of a simulated window.
        seed: Draws the windows.
        warm_s: Seconds before each window that fill the server, so that no window begins with an empty one.
        slowdown: Every step takes so many times as long as was measured, for a question of what would be if.
    """

    subject: LlmSubject
    load: DrawableLlm
    objectives: tuple[LlmObjective, ...] = ()
    window_s: float
    seed: int = 0
    warm_s: float = 0.0
    slowdown: float = 1.0

    def run(self, setup: LlmSetup, number: int) -> LlmRun:
        """Simulate one window; the same number is the same window for every setup."""
        arrivals, steps = chances(self.seed, number)
        error = slowdown_of(self.subject.cost, self.subject.drift, seed=self.seed, number=number)
        cost: StepTimeModel = self.subject.cost.clipped()
        return simulate_llm(
            self.load.draw(arrivals, self.warm_s + self.window_s),
            setup,
            cost,
            max_length=self.subject.max_length,
            promise=promise_of(self.objectives),
            rng=steps,
            step_spread=self.subject.step_spread,
            slowdown=self.slowdown * error,
        )

    def figures(self, setup: LlmSetup, number: int) -> LlmFigures:
        """Simulate one window, and work out its figures."""
        return figures_of_llm(self.run(setup, number), self.objectives, warm_s=self.warm_s)

    def predict(self, setup: LlmSetup, num_runs: int) -> LlmPrediction:
        """Simulate so many windows, and bring them together.

        Raises:
            ConfigError: There is no window, or it has no length.
        """
        require_windows(num_runs, self.window_s)
        return self.together([self.figures(setup, number) for number in range(num_runs)])

    def together(self, found: Sequence[LlmFigures]) -> LlmPrediction:
        """Bring the figures of windows of one setup together."""
        return LlmPrediction(**joined(found, self.objectives, window_s=self.window_s))


def promise_of(objectives: Sequence[LlmObjective]) -> Promise:
    """Return what each request is to have, as the scheduler is told."""
    limits = {f"{one.kind}_s": one.limit_s for one in objectives}
    return Promise(**limits)
