"""The profile of a model that generates, as it is written to a file: what its steps take, and what its memory holds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from carpool.config import document
from carpool.config.document import Migrations
from carpool.cost.kv_memory import KvMemory
from carpool.cost.step_cost import StepCost
from carpool.profile.artefact import Trust, checked
from carpool.profile.llm_step import StepShape
from carpool.profile.machine import Machine
from carpool.profile.measure import DropKind
from carpool.profile.peaks import MeasuredPeaks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from carpool.core.step import StepWork

GENERATOR: Literal["generator"] = "generator"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPoint:
    """One measured step: sequences that got a token each, a piece of another's prompt, or both.

    Args:
        batch_size: Sequences that got a token.
        context: Tokens of each in the cache, that one included; 1 where there were none.
        chunk: Tokens of the piece; 0 for none.
        start: Tokens of that prompt before it.
        time_s: Median seconds of the step.
        low_s: Lower end of its confidence interval.
        high_s: Upper end.
        confidence: Probability that the interval covers the median.
        num_samples: Independent samples.
        num_calls: Timed steps in them.
        fitted_s: Seconds by the fit; None without one.
    """

    batch_size: int
    context: int
    chunk: int
    start: int
    time_s: float
    low_s: float
    high_s: float
    confidence: float
    num_samples: int
    num_calls: int
    fitted_s: float | None = None

    @property
    def shape(self) -> StepShape:
        """The step."""
        return StepShape(self.batch_size, self.context, self.chunk, self.start)

    @property
    def work(self) -> StepWork:
        """What it costs by."""
        return self.shape.work

    @property
    def tokens_per_s(self) -> float:
        """Tokens computed a second, whether they are of prompts or of what is generated."""
        return self.work.num_tokens / self.time_s


@dataclass(frozen=True, slots=True, kw_only=True)
class SkippedStep:
    """A step that was to be measured and has no time, and why: the budget, memory, or an error of the model."""

    step: str
    kind: DropKind
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """A small load that the scheduler and the model ran together, beside what the fit says of the same steps.

    Args:
        num_requests: Prompts, all there from the beginning.
        prompt_tokens: Of all of them.
        output_tokens: Generated for all of them.
        num_slots: Most sequences that ran at a time.
        token_budget: Most tokens in a step.
        num_steps: Steps that it took.
        wall_s: Seconds from the first step to the last.
        in_model_s: Those spent in the model.
        predicted_s: Seconds in the model by the fit.
    """

    num_requests: int
    prompt_tokens: int
    output_tokens: int
    num_slots: int
    token_budget: int
    num_steps: int
    wall_s: float
    in_model_s: float
    predicted_s: float

    @property
    def host_s(self) -> float:
        """Seconds of a step outside the model: forming it, laying it out, taking the tokens back."""
        return max(0.0, self.wall_s - self.in_model_s) / self.num_steps

    @property
    def error_pct(self) -> float:
        """How far the fit was off over the whole, in per cent of what was measured."""
        return 100.0 * (self.predicted_s / self.in_model_s - 1.0)

    @property
    def output_tokens_per_s(self) -> float:
        """Tokens generated a second."""
        return self.output_tokens / self.wall_s


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmProfile:
    """Everything that `carpool profile` found out about a model that generates, on one machine.

    Args:
        kind: Tells this file from the profile of any other model.
        trust: Whether to rely on it: look here first.
        target: The TARGET that was profiled.
        name: The model's short name.
        created_at: When, in UTC, as ISO 8601.
        took_s: Seconds that all of it took, loading not counted.
        budget_s: Seconds that it was given.
        complete: False where it was broken off: what is there was measured before.
        machine: What the figures hold for.
        max_length: The longest sequence that the model takes, in tokens.
        vocabulary_size: Tokens that there are.
        memory: Weights, and keys and values.
        num_blocks: Blocks of keys and values that a server would have on this machine.
        points: The measured steps: of sequences alone, of prompts alone, of both.
        skipped: The others.
        drift: How much slower the machine was in the later half of the samples: 0.02 is 2 %.
        other_load_cores: Cores' worth of time that other programs used while it was timed.
        step_cost: The fit to the time in the model; None where there were too few points.
        call_spread: How single steps scatter: quantiles, evenly spaced from 0 to 1, over the step's median.
        peaks: What the machine can do; None where it was broken off before.
        rehearsal: The scheduler and the model together; None where it was not come to.
        sentences: What all that means, in words.
    """

    MIGRATIONS: ClassVar[Migrations] = {}

    schema_version: int = 1
    kind: Literal["generator"] = GENERATOR
    trust: Trust
    target: str
    name: str
    created_at: str
    took_s: float
    budget_s: float
    complete: bool
    machine: Machine
    max_length: int
    vocabulary_size: int
    memory: KvMemory
    num_blocks: int
    points: tuple[StepPoint, ...]
    skipped: tuple[SkippedStep, ...]
    drift: float
    other_load_cores: float
    step_cost: StepCost | None
    call_spread: tuple[float, ...]
    peaks: MeasuredPeaks | None
    rehearsal: Rehearsal | None
    sentences: tuple[str, ...]

    @property
    def failed(self) -> bool:
        """Whether the model itself failed at some step."""
        return any(one.kind == "error" for one in self.skipped)

    @property
    def decodes(self) -> tuple[StepPoint, ...]:
        """Steps of sequences alone, by context and batch size."""
        found = (point for point in self.points if not point.chunk)
        return tuple(sorted(found, key=lambda point: (point.context, point.batch_size)))

    @property
    def prefills(self) -> tuple[StepPoint, ...]:
        """Steps of one piece of a prompt alone, by what lies before it and its size."""
        found = (point for point in self.points if not point.batch_size)
        return tuple(sorted(found, key=lambda point: (point.start, point.chunk)))

    @property
    def mixed(self) -> tuple[StepPoint, ...]:
        """Steps of both, by batch size and chunk."""
        found = (point for point in self.points if point.batch_size and point.chunk)
        return tuple(sorted(found, key=lambda point: (point.batch_size, point.chunk)))

    @property
    def typical_context(self) -> int:
        """The context that single figures are for: the middle one of those measured."""
        contexts = sorted({point.context for point in self.decodes})
        return contexts[len(contexts) // 2] if contexts else 1

    @property
    def host_s(self) -> float:
        """Seconds of a step outside the model; 0 where that was not measured."""
        return 0.0 if self.rehearsal is None else self.rehearsal.host_s

    @property
    def whole_cost(self) -> StepCost | None:
        """What a step takes, in the model and besides; None where too little was measured."""
        return None if self.step_cost is None else replace(self.step_cost, step_s=self.step_cost.step_s + self.host_s)

    def figures(self) -> Iterator[tuple[str, float, float]]:
        """Give the figures that everything is predicted from, each with what it must be above."""
        for point in self.points:
            yield f"time_s of {point.shape}", point.time_s, 0.0
        yield "block_bytes", self.memory.block_bytes, 0.0
        yield "block_size", self.memory.block_size, 0.0
        yield "num_blocks", self.num_blocks, 0.0
        yield "max_length", self.max_length, 0.0
        yield "drift", self.drift, -1.0
        cost = self.step_cost
        if cost is not None:
            terms = (cost.step_s, cost.token_s, cost.sequence_s, cost.kv_s, cost.pair_s)
            yield "the time of a step by the fit", sum(terms) if min(terms) >= 0 else -1.0, 0.0


def load_llm_profile(path: Path | str) -> LlmProfile:
    """Read the profile of a model that generates.

    Args:
        path: The file, as `save_profile` wrote it.

    Raises:
        ConfigError: It cannot be read, or was changed.
        SchemaError: It is not such a profile, or one of an unknown version.
    """
    return checked(document.read(path, LlmProfile), str(path))
