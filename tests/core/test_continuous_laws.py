"""The laws of continuous batching, under any sequence of events."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from carpool.core.continuous import Continuous
from carpool.core.cost import LinearStepTime
from carpool.core.sequence import Sequence, SequenceState
from carpool.core.step import StepPlan
from carpool.core.step_policy import StepPolicy
from carpool.errors import InvalidItem, QueueFull
from tests.core.fake_llm import VOCABULARY, FakeLM, alone

MAX_LENGTH = 40
COST = LinearStepTime(step_s=0.01, token_s=0.001, kv_s=1e-5, pair_s=1e-6)


@st.composite
def step_policies(draw: st.DrawFn) -> StepPolicy:
    """Policies of every kind."""
    num_slots = draw(st.integers(1, 6))
    return StepPolicy(
        num_slots=num_slots,
        token_budget=draw(st.integers(num_slots, 50)),
        block_size=draw(st.integers(1, 5)),
        prefix_caching=draw(st.booleans()),
        chunked_prefill=draw(st.booleans()),
        max_waiting=draw(st.integers(1, 20)),
        tenant_weights=draw(st.sampled_from([{}, {"a": 2.0}])),
    )


@st.composite
def sequences(draw: st.DrawFn, now: float) -> Sequence:
    """Sequences that often begin alike, and at times are too long."""
    return Sequence(
        tokens=draw(st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=30)),
        max_new_tokens=draw(st.integers(0, 15)),
        arrived_at=now,
        priority=draw(st.integers(-1, 1)),
        tenant=draw(st.sampled_from(["", "a", "b"])),
        cache_salt=draw(st.sampled_from(["", "", "salt"])),
        first_token_by=now + draw(st.sampled_from([float("inf"), 0.05, 0.5])),
        token_interval_s=draw(st.sampled_from([float("inf"), 0.02])),
        wants_prompt_logits=draw(st.integers(0, 5)) == 0,
    )


class EngineMachine(RuleBasedStateMachine):
    """Adds, forks, plans, loses, commits and finishes; each sequence must get the tokens that it would have alone."""

    @initialize(
        policy=step_policies(), num_blocks=st.integers(4, 40), ahead=st.sampled_from([1, 1, 3]), timed=st.booleans()
    )
    def start(self, policy: StepPolicy, num_blocks: int, ahead: int, timed: bool) -> None:
        """Begin with nothing."""
        self.policy, self.num_blocks = policy, num_blocks
        self.engine = Continuous(
            policy, num_blocks=num_blocks, max_length=MAX_LENGTH, time_model=COST if timed else None
        )
        self.model = FakeLM(policy.block_size, ahead=ahead)
        self.now = 0.0
        self.expected: dict[Sequence, list[int]] = {}  # the tokens that each is to have in the end
        self.live: list[Sequence] = []
        self.plan: StepPlan | None = None

    @rule(data=st.data())
    def add(self, data: st.DataObject) -> None:
        """A sequence arrives; it is accepted, or refused for a reason that is true."""
        sequence = data.draw(sequences(self.now))
        if not self.fits(sequence):
            with pytest.raises(InvalidItem):
                self.engine.add(sequence, self.now)
        elif self.engine.num_waiting >= self.policy.max_waiting:
            with pytest.raises(QueueFull) as refusal:
                self.engine.add(sequence, self.now)
            assert refusal.value.retry_after_s is None or refusal.value.retry_after_s > 0
        else:
            self.engine.add(sequence, self.now)
            self.accepted(sequence)

    def fits(self, sequence: Sequence) -> bool:
        """Whether a sequence could run alone."""
        most_computed = sequence.num_prompt + max(0, sequence.max_new_tokens - 1)
        return (
            sequence.num_prompt + sequence.max_new_tokens <= MAX_LENGTH
            and most_computed <= self.num_blocks * self.policy.block_size
            and (self.policy.chunked_prefill or most_computed <= self.policy.token_budget)
        )

    def accepted(self, sequence: Sequence) -> None:
        """Take note of what is to come of a sequence."""
        self.expected[sequence] = alone(sequence.tokens, sequence.max_new_tokens)
        self.live.append(sequence)

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def fork(self, data: st.DataObject) -> None:
        """A sequence gets a sibling, or even one that begins with but a part of its tokens."""
        parent = data.draw(st.sampled_from(self.live))
        length = data.draw(st.just(len(parent.tokens)) | st.integers(1, len(parent.tokens)))
        child = Sequence(
            tokens=parent.tokens[:length],
            max_new_tokens=max(0, parent.most_tokens - length),
            arrived_at=parent.arrived_at,
            tenant=parent.tenant,
        )
        self.engine.fork(parent, child)
        self.accepted(child)

    @precondition(lambda self: self.plan is None)
    @rule()
    def look(self) -> None:
        """The engine plans: the plan keeps every limit."""
        running = self.running()
        returning = [s for s in self.live if s.state is SequenceState.WAITING and s.num_preemptions]
        self.plan = self.engine.plan(self.now)
        assert self.plan is not None or not self.engine.has_work
        if self.plan is not None:
            self.check_limits(self.plan)
            self.check_admission(self.plan, self.running() - running, returning)

    def running(self) -> set[Sequence]:
        """Return those that have a slot."""
        return {sequence for sequence in self.live if sequence.state is SequenceState.RUNNING}

    def check_limits(self, plan: StepPlan) -> None:
        """No limit is passed, every chunk goes on where the sequence is, and writes what nobody else holds."""
        assert 1 <= plan.work.num_tokens <= self.policy.token_budget
        assert plan.work.num_tokens == sum(chunk.num_tokens for chunk in plan.chunks)
        assert plan.work.num_sequences == len(plan.chunks) <= self.engine.num_running <= self.policy.num_slots
        assert plan.work.num_sampled == sum(chunk.samples for chunk in plan.chunks)
        assert plan.work.kv_read == sum(chunk.end for chunk in plan.chunks if chunk.num_tokens == 1)
        assert len({chunk.sequence for chunk in plan.chunks}) == len(plan.chunks)
        is_single = [chunk.num_tokens == 1 and chunk.samples for chunk in plan.chunks]
        assert is_single == sorted(is_single, reverse=True)
        for chunk in plan.chunks:
            sequence = chunk.sequence
            assert chunk.start == sequence.num_computed
            assert chunk.samples == (chunk.end == sequence.num_tokens)
            assert chunk.samples or self.policy.chunked_prefill
        self.check_written(plan)

    def check_written(self, plan: StepPlan) -> None:
        """No block that a step writes is held by two."""
        size = self.policy.block_size
        held = [block for sequence in self.running() for block in sequence.blocks]
        for chunk in plan.chunks:
            written = chunk.sequence.blocks[chunk.start // size : (chunk.end - 1) // size + 1]
            assert all(held.count(block) == 1 for block in written)

    def check_admission(self, plan: StepPlan, entered: set[Sequence], returning: list[Sequence]) -> None:
        """Nobody enters in a step that preempted, and those that were preempted before come back first, in order."""
        assert not (plan.preempted and entered)
        assert bool(plan.preempted) == bool(plan.preempted_because)
        returning.sort(key=lambda sequence: (sequence.due_at, sequence.order))
        assert {sequence for sequence in returning if sequence in entered} == set(returning[: len(entered)])
        assert all(not s.num_computed or not s.wants_prompt_logits or s.num_generated for s in entered)

    @precondition(lambda self: self.plan is not None)
    @rule()
    def run(self) -> None:
        """The step is computed, and told to the engine."""
        assert self.plan is not None
        gone = {c.sequence for c in self.plan.chunks if c.sequence.state is SequenceState.FINISHED}
        was = {sequence: list(sequence.tokens) for sequence in gone}
        tokens = self.model.run(self.plan)
        self.now += COST.time_s(self.plan.work)
        self.engine.commit(self.plan, tokens, self.now)
        self.plan = None
        assert all(sequence.tokens == was[sequence] for sequence in gone)
        for sequence in [s for s in self.live if s.state is SequenceState.FINISHED]:
            assert sequence.tokens == self.expected[sequence]
            self.live.remove(sequence)

    @precondition(lambda self: self.plan is not None)
    @rule()
    def lose_the_step(self) -> None:
        """Nothing comes of the step."""
        self.plan = None

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        """A sequence is ended, wherever it is."""
        sequence = data.draw(st.sampled_from(self.live))
        self.engine.finish(sequence)
        self.engine.finish(sequence)
        assert sequence.state is SequenceState.FINISHED
        self.live.remove(sequence)

    @invariant()
    def everything_is_in_its_place(self) -> None:
        """Sequences, blocks and counts agree; what runs has the tokens that it should have so far, and in the cache."""
        if not hasattr(self, "engine"):
            return
        self.engine.check_integrity()
        assert self.engine.num_running + self.engine.num_waiting == len(self.live)
        for sequence in self.live:
            assert sequence.tokens == self.expected[sequence][: sequence.num_tokens]
            assert self.model.read(sequence, sequence.num_computed) == sequence.tokens[: sequence.num_computed]

    def teardown(self) -> None:
        """Whatever happened, all that is left runs to its end, and every block is given back."""
        if not hasattr(self, "engine"):
            return
        most_steps = 200 + 20 * sum(sequence.most_tokens for sequence in self.live)
        while self.engine.has_work:
            most_steps -= 1
            assert most_steps, "no end"
            self.plan = None
            self.look()
            self.run()
            self.everything_is_in_its_place()
        assert not self.live
        assert self.engine.num_free_blocks == self.num_blocks
        assert self.engine.usage == 0.0


TestEngine = EngineMachine.TestCase
TestEngine.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
