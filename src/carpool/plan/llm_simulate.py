"""A server of a model that generates that never runs: the real scheduler, driven through arrivals in virtual time.

What forms the steps here is the very object that forms them in a live server; only the model is replaced, by what the
cost of a step says that it takes. So what is predicted is what is served, step by step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from carpool.core.continuous import Continuous
from carpool.core.sequence import Sequence, SequenceState
from carpool.errors import InvalidItem, Rejected
from carpool.plan.llm_setup import LlmSetup
from carpool.plan.llm_static import StaticBatches
from carpool.plan.llm_workload import LlmStream
from carpool.plan.simulate import Factors, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Sequence as Many

    from carpool.core.cost import StepTimeModel
    from carpool.core.step import StepPlan

Floats = NDArray[np.float64]
# Where more arrives than can be served, what is left is not waited for longer than so many windows.
_MOST_WINDOWS = 3.0
_SAMPLED, _NOTHING = (0,), ()


class Scheduler(Protocol):
    """Decides which tokens of which sequences the next step computes."""

    @property
    def usage(self) -> float:
        """The share of the blocks that is held."""

    @property
    def prefix_queries(self) -> int:
        """Tokens of prompts that were looked up in the prefix cache."""

    @property
    def prefix_hits(self) -> int:
        """Tokens of prompts that were found there."""

    def add(self, sequence: Sequence, now: float) -> None:
        """Accept a sequence."""

    def plan(self, now: float) -> StepPlan | None:
        """Say what the next step computes."""

    def commit(self, plan: StepPlan, tokens: Many[Many[int]], now: float) -> None:
        """Take in what it computed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """What each request is to have, as it is told to the scheduler.

    Args:
        ttft_s: Seconds to its first token.
        tpot_s: Seconds between its tokens.
    """

    ttft_s: float = math.inf
    tpot_s: float = math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmRun:
    """What happened to n generations in m steps.

    Args:
        stream: What arrived.
        setup: What served it.
        ttft_s: Arrival to the first token of each, in seconds; NaN where none came [n].
        latency_s: Arrival to the last token; NaN where it did not come [n].
        num_preemptions: How often each was computed anew [n].
        outcomes: An `Outcome` for each [n]; what never was answered has `LEFT`.
        gaps_s: Every time between two tokens of one generation, of all [g].
        gaps_of: Whose each of those is [g].
        started_at: When each step began [m].
        took_s: How long it took [m].
        num_tokens: Tokens that it computed [m].
        num_sequences: Sequences that they belong to [m].
        usage: Share of the blocks that were held during it [m].
        prefix_hits: Tokens of prompts that were found in the prefix cache.
        prefix_queries: Tokens of prompts that were looked for.
    """

    stream: LlmStream
    setup: LlmSetup
    ttft_s: Floats
    latency_s: Floats
    num_preemptions: NDArray[np.int64]
    outcomes: NDArray[np.int8]
    gaps_s: Floats
    gaps_of: NDArray[np.int64]
    started_at: Floats
    took_s: Floats
    num_tokens: NDArray[np.int64]
    num_sequences: NDArray[np.int64]
    usage: Floats
    prefix_hits: int
    prefix_queries: int

    @property
    def tpot_s(self) -> Floats:
        """Seconds a token after the first of each; NaN where there was none, or it was not answered [n]."""
        after = np.maximum(self.stream.output_lengths - 1, 1)
        tpot_s = (self.latency_s - self.ttft_s) / after
        tpot_s[self.stream.output_lengths == 1] = math.nan
        return tpot_s


def simulate_llm(
    stream: LlmStream,
    setup: LlmSetup,
    cost: StepTimeModel,
    *,
    max_length: int,
    promise: Promise | None = None,
    rng: np.random.Generator | None = None,
    step_spread: Many[float] = (),
    slowdown: float = 1.0,
    on_step: Callable[[StepPlan, float], object] = lambda _plan, _at: None,
) -> LlmRun:
    """Let generations arrive, and return what becomes of each; the run ends when the last one is settled.

    Args:
        stream: What arrives.
        setup: The policy, the memory and the workers.
        cost: How long a step takes, which the scheduler believes too.
        max_length: The longest sequence that the model takes.
        promise: What each request is to have; the scheduler heeds it.
        rng: Draws the scatter of steps; not needed without any.
        step_spread: Quantiles, evenly spaced from 0 to 1, of the time of single steps over the median of their kind.
        slowdown: Every step takes so many times as long as `cost` says.
        on_step: Told of every step with the instant that it began at.

    Example:
        >>> from carpool.core.cost import LinearStepTime
        >>> from carpool.core.step_policy import StepPolicy
        >>> stream = LlmStream(
        ...     times_s=np.array([0.0, 0.5]),
        ...     prompt_lengths=np.array([4, 4]),
        ...     output_lengths=np.array([3, 1]),
        ...     window_s=10.0,
        ... )
        >>> run = simulate_llm(stream, LlmSetup(num_blocks=8), LinearStepTime(step_s=1.0), max_length=64)
        >>> run.ttft_s.tolist(), run.latency_s.tolist(), run.num_sequences.tolist()
        ([1.0, 1.5], [3.0, 1.5], [1, 2, 1])
    """
    factors = Factors(step_spread, slowdown, rng)

    def took_s(plan: StepPlan) -> float:
        return cost.time_s(plan.work) * factors.next()

    parts = []
    for number in range(setup.num_workers):
        part = stream if setup.num_workers == 1 else stream.part(number, setup.num_workers)
        engine = _scheduler(setup, cost, max_length)
        parts.append(_Worker(part, engine, took_s, promise or Promise(), on_step).run())
    return _joined(stream, setup, parts)


def _scheduler(setup: LlmSetup, cost: StepTimeModel, max_length: int) -> Scheduler:
    if setup.static:
        return StaticBatches(setup.policy, num_blocks=setup.num_blocks)
    return Continuous(setup.policy, num_blocks=setup.num_blocks, max_length=max_length, time_model=cost)


@dataclass(slots=True)
class _Log:
    """What one worker did: an entry a generation, a step, a gap between tokens."""

    first_at: list[float]
    last_at: list[float]
    outcomes: bytearray
    num_preemptions: list[int]
    gaps_s: list[float] = field(default_factory=list)
    gaps_of: list[int] = field(default_factory=list)
    started_at: list[float] = field(default_factory=list)
    took_s: list[float] = field(default_factory=list)
    num_tokens: list[int] = field(default_factory=list)
    num_sequences: list[int] = field(default_factory=list)
    usage: list[float] = field(default_factory=list)
    prefix_hits: int = 0
    prefix_queries: int = 0

    @classmethod
    def of(cls, num: int) -> _Log:
        """Begin the log of so many generations."""
        outcomes = bytearray([Outcome.LEFT]) * num
        return cls(first_at=[math.nan] * num, last_at=[math.nan] * num, outcomes=outcomes, num_preemptions=[0] * num)


class _Worker:
    """Drives a scheduler; a sequence's `handle` is its number in the stream.

    What arrives while a step runs is accepted when it arrives, and has its first step when that one is over.
    """

    def __init__(
        self,
        stream: LlmStream,
        engine: Scheduler,
        took_s: Callable[[StepPlan], float],
        promise: Promise,
        on_step: Callable[[StepPlan, float], object],
    ) -> None:
        self._stream = stream
        self._engine = engine
        self._took_s = took_s
        self._promise = promise
        self._on_step = on_step
        self._times_s: list[float] = stream.times_s.tolist()
        self._next = 0
        self._sequences: list[Sequence | None] = [None] * len(stream)
        self._log = _Log.of(len(stream))

    def run(self) -> _Log:
        now, until = 0.0, _MOST_WINDOWS * self._stream.window_s
        while now < until:
            plan = self._engine.plan(now)
            if plan is not None:
                now = self._step(plan, now)
            elif self._next < len(self._times_s):
                now = self._times_s[self._next]
                self._let_arrive(now)
            else:
                break
        log = self._log
        log.prefix_hits, log.prefix_queries = self._engine.prefix_hits, self._engine.prefix_queries
        log.num_preemptions = [0 if one is None else one.num_preemptions for one in self._sequences]
        return log

    def _step(self, plan: StepPlan, now: float) -> float:
        """Let a step run, and return when it is over."""
        log = self._log
        took_s = self._took_s(plan)
        self._on_step(plan, now)
        log.started_at.append(now)
        log.took_s.append(took_s)
        log.num_tokens.append(plan.work.num_tokens)
        log.num_sequences.append(plan.work.num_sequences)
        log.usage.append(self._engine.usage)
        over = now + took_s
        self._let_arrive(over)
        self._engine.commit(plan, [_SAMPLED if chunk.samples else _NOTHING for chunk in plan.chunks], over)
        self._note(plan, over)
        return over

    def _note(self, plan: StepPlan, over: float) -> None:
        """Note the tokens of a step, and the answers that are whole with them."""
        log = self._log
        first_at, last_at = log.first_at, log.last_at
        for chunk in plan.chunks:
            if not chunk.samples:
                continue
            number: int = chunk.sequence.handle
            if first_at[number] == first_at[number]:
                log.gaps_s.append(over - last_at[number])
                log.gaps_of.append(number)
            else:
                first_at[number] = over
            last_at[number] = over
            if chunk.sequence.state is SequenceState.FINISHED:
                log.outcomes[number] = Outcome.ANSWERED
                chunk.sequence.tokens.clear()  # a window holds a great many of them

    def _let_arrive(self, now: float) -> None:
        """Let the scheduler have what arrives up to an instant."""
        while self._next < len(self._times_s) and self._times_s[self._next] <= now:
            number = self._next
            self._next += 1
            sequence = self._sequence(number)
            try:
                self._engine.add(sequence, sequence.arrived_at)
            except (Rejected, InvalidItem):
                self._log.outcomes[number] = Outcome.REFUSED
                continue
            self._sequences[number] = sequence

    def _sequence(self, number: int) -> Sequence:
        """Make a sequence whose tokens are its own, but for what its prompt has in common with others."""
        stream, promise, at = self._stream, self._promise, self._times_s[number]
        length = int(stream.prompt_lengths[number])
        shared = 0 if stream.prefixes is None else min(stream.shared_prefix, length - 1)
        common = [] if stream.prefixes is None else [-1 - int(stream.prefixes[number])] * shared
        return Sequence(
            tokens=common + [number] * (length - shared),
            max_new_tokens=int(stream.output_lengths[number]),
            arrived_at=at,
            first_token_by=at + promise.ttft_s,
            token_interval_s=promise.tpot_s,
            handle=number,
        )


def _joined(stream: LlmStream, setup: LlmSetup, parts: Many[_Log]) -> LlmRun:
    """Put what the workers did together, steps in the order of workers."""
    of, num = len(parts), len(stream)
    first_at, last_at = np.full(num, math.nan), np.full(num, math.nan)
    preemptions, outcomes = np.zeros(num, np.int64), np.zeros(num, np.int8)
    for number, log in enumerate(parts):
        first_at[number::of], last_at[number::of] = log.first_at, log.last_at
        preemptions[number::of] = log.num_preemptions
        outcomes[number::of] = np.frombuffer(bytes(log.outcomes), np.int8)
    last_at[outcomes != Outcome.ANSWERED] = math.nan
    return LlmRun(
        stream=stream,
        setup=setup,
        ttft_s=first_at - stream.times_s,
        latency_s=last_at - stream.times_s,
        num_preemptions=preemptions,
        outcomes=outcomes,
        gaps_s=np.concatenate([np.array(log.gaps_s, np.float64) for log in parts]),
        gaps_of=np.concatenate([np.array(log.gaps_of, np.int64) * of + n for n, log in enumerate(parts)]),
        started_at=np.concatenate([np.array(log.started_at, np.float64) for log in parts]),
        took_s=np.concatenate([np.array(log.took_s, np.float64) for log in parts]),
        num_tokens=np.concatenate([np.array(log.num_tokens, np.int64) for log in parts]),
        num_sequences=np.concatenate([np.array(log.num_sequences, np.int64) for log in parts]),
        usage=np.concatenate([np.array(log.usage, np.float64) for log in parts]),
        prefix_hits=sum(log.prefix_hits for log in parts),
        prefix_queries=sum(log.prefix_queries for log in parts),
    )
