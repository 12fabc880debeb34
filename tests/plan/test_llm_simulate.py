"""The simulation of a model that generates: it runs the live engine's own decisions, and no token is lost in it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carpool.core.clock import VirtualClock
from carpool.core.cost import LinearStepTime
from carpool.core.step_policy import StepPolicy
from carpool.llm.request import Generation
from carpool.llm.sampling_params import SamplingParams
from carpool.llm.stepper import Stepper
from carpool.plan.llm_setup import LlmSetup
from carpool.plan.llm_simulate import LlmRun, Promise, simulate_llm
from carpool.plan.llm_workload import LlmStream
from carpool.plan.simulate import Outcome
from tests.llm.fake_runner import FakeRunner, parts
from tests.llm.stepping import AtOnce, Diary

if TYPE_CHECKING:
    from carpool.core.step import StepPlan, StepWork
    from carpool.llm.runner import StepBatch

COST = LinearStepTime(step_s=0.010, token_s=0.0005, kv_s=0.00001, pair_s=0.00001)
BLOCK_SIZE = 4


def stream_of(
    requests: list[tuple[float, int, int]], prefixes: list[int] | None = None, shared: int = 0, window_s: float = 20.0
) -> LlmStream:
    """Requests, each with the instant of its arrival, its prompt's tokens and its answer's."""
    ordered = sorted(requests)
    return LlmStream(
        times_s=np.array([at for at, _, _ in ordered], np.float64),
        prompt_lengths=np.array([prompt for _, prompt, _ in ordered], np.int64),
        output_lengths=np.array([output for _, _, output in ordered], np.int64),
        window_s=window_s,
        prefixes=None if prefixes is None else np.array(prefixes, np.int64),
        shared_prefix=shared,
    )


def simulated(stream: LlmStream, policy: StepPolicy, num_blocks: int, promise: Promise) -> tuple[LlmRun, list[Any]]:
    """Simulate; return the run and every step: when it began, whose tokens it had, from where on, and how many."""
    steps: list[Any] = []

    def note(plan: StepPlan, at: float) -> None:
        chunks = [(chunk.sequence.handle, chunk.start, chunk.num_tokens, chunk.samples) for chunk in plan.chunks]
        steps.append((round(at, 9), chunks, len(plan.preempted)))

    setup = LlmSetup(policy=policy, num_blocks=num_blocks)
    return simulate_llm(stream, setup, COST, max_length=128, promise=promise, on_step=note), steps


def prompt_of(stream: LlmStream, number: int) -> list[int]:
    """Tokens that have in common with others what the simulation's have."""
    length = int(stream.prompt_lengths[number])
    shared = 0 if stream.prefixes is None else min(stream.shared_prefix, length - 1)
    common = [] if stream.prefixes is None else [int(stream.prefixes[number])] * shared
    return common + [3 + number] * (length - shared)


class Live:
    """The live engine's stepper on the same arrivals, in virtual time.

    A step takes what the cost says; what arrives while it runs is submitted when it arrives, as callers do.
    """

    def __init__(self, stream: LlmStream, policy: StepPolicy, num_blocks: int, promise: Promise) -> None:
        self.stream = stream
        self.promise = promise
        self.clock = VirtualClock()
        self.steps: list[Any] = []
        self.numbers: dict[Any, int] = {}
        self.next = 0
        runner = FakeRunner(num_blocks, BLOCK_SIZE, before=self.compute)
        self.stepper = Stepper(parts(runner), policy, self.clock, Diary(), time_model=COST)
        # The plan itself is looked at: a batch no longer says whose its tokens are.
        self.scheduler = self.stepper._scheduler
        self.plan_step, self.scheduler.plan = self.scheduler.plan, self.plan  # type: ignore[method-assign]

    def plan(self, now: float) -> StepPlan | None:
        """Take note of a plan."""
        plan = self.plan_step(now)
        if plan is not None:
            chunks = [
                (self.numbers[chunk.sequence], chunk.start, chunk.num_tokens, chunk.samples) for chunk in plan.chunks
            ]
            self.steps.append((round(now, 9), chunks, len(plan.preempted)))
            self.work: StepWork = plan.work
        return plan

    def compute(self, _: StepBatch) -> None:
        """Let the time of a step pass, and what arrives meanwhile arrive."""
        over = self.clock.now() + COST.time_s(self.work)
        while self.next < len(self.stream) and self.stream.times_s[self.next] <= over:
            self.submit()
        self.clock.advance_to(over)

    def submit(self) -> None:
        """Let the next one arrive."""
        number, self.next = self.next, self.next + 1
        self.clock.advance_to(max(self.clock.now(), float(self.stream.times_s[number])))
        generation = Generation(
            prompt=tuple(prompt_of(self.stream, number)),
            params=SamplingParams(temperature=0.0, max_tokens=int(self.stream.output_lengths[number]), ignore_eos=True),
            ttft_s=None if self.promise.ttft_s == math.inf else self.promise.ttft_s,
            tpot_s=None if self.promise.tpot_s == math.inf else self.promise.tpot_s,
        )
        (job,) = self.stepper.submit(generation, lambda _: None, AtOnce())
        self.numbers[job.sequence] = number

    def run(self) -> list[Any]:
        """Run until all is answered; return the steps."""
        while True:
            if self.stepper.step():
                continue
            if self.next == len(self.stream):
                return self.steps
            self.submit()
            while self.next < len(self.stream) and self.stream.times_s[self.next] <= self.clock.now():
                self.submit()


requests = st.lists(
    st.tuples(st.integers(0, 40).map(lambda tenth: tenth / 10), st.integers(1, 40), st.integers(1, 12)),
    min_size=1,
    max_size=20,
)


@given(
    requests,
    st.integers(1, 6),
    st.integers(6, 48),
    st.integers(14, 60),
    st.booleans(),
    st.integers(0, 12),
    st.sampled_from([Promise(), Promise(ttft_s=0.2, tpot_s=0.03)]),
)
def test_the_simulation_forms_the_live_engines_steps(  # noqa: PLR0917 - what is drawn
    arrivals: list[tuple[float, int, int]],
    num_slots: int,
    token_budget: int,
    num_blocks: int,
    prefix_caching: bool,
    shared: int,
    promise: Promise,
) -> None:
    """The same arrivals through the engine's own loop and through the simulation: step by step the same tokens."""
    stream = stream_of(arrivals, [number % 2 for number in range(len(arrivals))] if shared else None, shared)
    policy = StepPolicy(
        num_slots=num_slots, token_budget=token_budget, block_size=BLOCK_SIZE, prefix_caching=prefix_caching
    )
    run, steps = simulated(stream, policy, num_blocks, promise)
    assert Live(stream, policy, num_blocks, promise).run() == steps
    assert (run.outcomes == Outcome.ANSWERED).all()


@given(requests, st.integers(1, 6), st.integers(14, 60), st.booleans(), st.integers(1, 3))
def test_every_token_comes_once_and_in_order(
    arrivals: list[tuple[float, int, int]], num_slots: int, num_blocks: int, static: bool, num_workers: int
) -> None:
    """As many gaps as tokens after the first; what is answered began after it came; steps do not overlap."""
    stream = stream_of(arrivals)
    policy = StepPolicy(num_slots=num_slots, token_budget=48, block_size=BLOCK_SIZE)
    setup = LlmSetup(policy=policy, num_blocks=num_blocks, static=static, num_workers=num_workers)
    run = simulate_llm(stream, setup, COST, max_length=128)
    assert (run.outcomes == Outcome.ANSWERED).all()
    assert np.bincount(run.gaps_of, minlength=len(stream)).tolist() == (stream.output_lengths - 1).tolist()
    assert (run.ttft_s > 0).all()
    assert (run.latency_s >= run.ttft_s).all()
    spans = np.bincount(run.gaps_of, run.gaps_s, len(stream))
    np.testing.assert_allclose(run.ttft_s + spans, run.latency_s, atol=1e-9)
    assert run.usage.max() <= 1.0
    if num_workers == 1:
        assert (np.diff(run.started_at) >= run.took_s[:-1] - 1e-9).all()


def test_a_static_batch_runs_until_its_longest_answer_is_done() -> None:
    """What comes meanwhile waits for all of it, and those that are done keep their rows."""
    stream = stream_of([(0.0, 4, 2), (0.0, 8, 5), (0.001, 4, 1)])
    cost = LinearStepTime(step_s=1.0)
    setup = LlmSetup(policy=StepPolicy(num_slots=2), num_blocks=8, static=True)
    run = simulate_llm(stream, setup, cost, max_length=64)
    assert run.num_sequences.tolist() == [2, 2, 2, 2, 2, 1]
    assert run.num_tokens.tolist() == [16, 2, 2, 2, 2, 4]  # prompts padded to 8
    assert run.ttft_s.round(3).tolist() == [1.0, 1.0, 5.999]
    assert run.latency_s.round(3).tolist() == [2.0, 5.0, 5.999]
    continuous = simulate_llm(stream, LlmSetup(policy=StepPolicy(num_slots=2), num_blocks=8), cost, max_length=64)
    assert continuous.ttft_s.round(3).tolist() == [1.0, 1.0, 2.999]


def test_what_can_never_fit_is_refused_and_what_is_too_much_is_left() -> None:
    """A prompt beyond the memory is refused at once; of a load that grows for ever the rest is never answered."""
    policy = StepPolicy(num_slots=1, token_budget=64, block_size=16)
    for static in (False, True):
        setup = LlmSetup(policy=policy, num_blocks=4, static=static)
        run = simulate_llm(stream_of([(0.0, 60, 10), (0.1, 8, 4)]), setup, COST, max_length=128)
        assert run.outcomes.tolist() == [Outcome.REFUSED, Outcome.ANSWERED]
        many = stream_of([(0.01 * number, 8, 4) for number in range(100)], window_s=1.0)
        run = simulate_llm(many, setup, LinearStepTime(step_s=0.1), max_length=128)
        assert 0 < np.count_nonzero(run.outcomes == Outcome.LEFT) < 100
        assert np.isnan(run.latency_s[run.outcomes == Outcome.LEFT]).all()


def test_a_common_beginning_is_found_in_the_prefix_cache() -> None:
    """The second prompt of a kind has the first one's blocks; of another kind, or without a cache, it has not."""
    requests = [(0.0, 40, 2), (5.0, 40, 2), (10.0, 40, 2)]
    setup = LlmSetup(policy=StepPolicy(block_size=BLOCK_SIZE), num_blocks=60)
    stream = stream_of(requests, [0, 0, 1], shared=24)
    found = simulate_llm(stream, setup, COST, max_length=128)
    assert found.prefix_hits == 24
    assert found.ttft_s[1] < found.ttft_s[0] == pytest.approx(found.ttft_s[2])


def test_a_slower_machine_and_scatter_stretch_every_step() -> None:
    """A factor for all, and another for each."""
    stream = stream_of([(0.0, 8, 4)])
    setup = LlmSetup(num_blocks=8)
    plain = simulate_llm(stream, setup, COST, max_length=64)
    twice = simulate_llm(stream, setup, COST, max_length=64, slowdown=2.0)
    np.testing.assert_allclose(twice.took_s, 2 * plain.took_s)
    rng = np.random.default_rng(0)
    scattered = simulate_llm(stream, setup, COST, max_length=64, step_spread=(0.5, 1.0, 1.5), rng=rng)
    ratios = scattered.took_s / plain.took_s
    assert (ratios >= 0.5).all()
    assert (ratios <= 1.5).all()
    assert len(set(ratios.round(6).tolist())) == 4
