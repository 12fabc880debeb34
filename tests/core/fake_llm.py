"""A language model of a few lines with a cache that is really written and read, and what drives an engine with it.

Its next token is a function of all the tokens before it, as it reads them from the cache: a wrong block, a lost token
or one in the wrong place changes all that follows.
"""

import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import chain

from carpool.core.continuous import Continuous
from carpool.core.cost import LinearStepTime, StepTimeModel
from carpool.core.sequence import Sequence, SequenceState
from carpool.core.step import StepPlan
from carpool.core.step_policy import StepPolicy

COST = LinearStepTime(step_s=0.010, token_s=0.001)
VOCABULARY = 3  # few, so that sequences often begin alike
Entry = tuple[str, int, int]  # (salt, position, token)


def next_token(tokens: Iterable[int]) -> int:
    """Return what the model says after these tokens."""
    return zlib.crc32(bytes(tokens)) % VOCABULARY


def alone(prompt: list[int], max_new_tokens: int) -> list[int]:
    """Return the prompt and what the model generates after it, computed with no engine."""
    tokens = list(prompt)
    for _ in range(max_new_tokens):
        tokens.append(next_token(tokens))
    return tokens


class FakeLM:
    """The model and its cache.

    Args:
        block_size: tokens in a block.
        ahead: the most tokens that a sampling adds.
    """

    def __init__(self, block_size: int, *, ahead: int = 1) -> None:
        self.block_size = block_size
        self.ahead = ahead
        self.cache: dict[tuple[int, int], Entry] = {}  # by (block, place in it)

    def run(self, plan: StepPlan) -> list[tuple[int, ...]]:
        """Compute a step: write what it computes, read it back, and say what follows."""
        for chunk in plan.chunks:
            for position in range(chunk.start, chunk.end):
                sequence = chunk.sequence
                entry = (sequence.cache_salt, position, sequence.tokens[position])
                self.cache[self._place(sequence, position)] = entry
        return [self._follow(self.read(c.sequence, c.end)) if c.samples else () for c in plan.chunks]

    def _place(self, sequence: Sequence, position: int) -> tuple[int, int]:
        return sequence.blocks[position // self.block_size], position % self.block_size

    def _follow(self, tokens: list[int]) -> tuple[int, ...]:
        return tuple(alone(tokens, 1 + len(tokens) % self.ahead)[len(tokens) :])

    def read(self, sequence: Sequence, end: int) -> list[int]:
        """Return the first tokens of a sequence as the cache has them; they are those that it should have."""
        entries = [self.cache[self._place(sequence, position)] for position in range(end)]
        assert all(entry[:2] == (sequence.cache_salt, position) for position, entry in enumerate(entries))
        return [entry[2] for entry in entries]


@dataclass(slots=True)
class Times:
    """When a sequence was answered."""

    sequence: Sequence
    first_at: float = 0.0
    ended_at: float = 0.0
    longest_gap_s: float = 0.0
    latest_at: float = 0.0

    @property
    def ttft_s(self) -> float:
        """Seconds from the arrival to the first token."""
        return self.first_at - self.sequence.arrived_at


@dataclass(slots=True)
class Loop:
    """Drives an engine in virtual time.

    Args:
        engine: whose steps.
        model: computes them.
        time_model: says how long they take.
    """

    engine: Continuous
    model: FakeLM
    time_model: StepTimeModel
    now: float = 0.0
    plans: list[StepPlan] = field(default_factory=list)
    times: dict[Sequence, Times] = field(default_factory=dict)

    def step(self) -> StepPlan | None:
        """Run a step; None: there was nothing to do."""
        plan = self.engine.plan(self.now)
        if plan is None:
            return None
        tokens = self.model.run(plan)
        self.now += self.time_model.time_s(plan.work)
        self.engine.commit(plan, tokens, self.now)
        self.engine.check_integrity()
        self.plans.append(plan)
        for chunk in plan.chunks:
            if chunk.samples:
                self._note(chunk.sequence)
        return plan

    def _note(self, sequence: Sequence) -> None:
        times = self.times.setdefault(sequence, Times(sequence, first_at=self.now, latest_at=self.now))
        times.longest_gap_s = max(times.longest_gap_s, self.now - times.latest_at)
        times.latest_at = self.now
        if sequence.state is SequenceState.FINISHED:
            times.ended_at = self.now

    def run(
        self, arrivals: Iterable[Sequence] = (), *, then: Callable[[Sequence], Sequence | None] | None = None
    ) -> None:
        """Let sequences arrive, and run until nothing is left to do.

        Args:
            arrivals: by `arrived_at`.
            then: returns who arrives once a sequence has ended, if anybody.
        """
        coming = sorted(arrivals, key=lambda sequence: sequence.arrived_at)[::-1]
        while coming or self.engine.has_work:
            while coming and coming[-1].arrived_at <= self.now:
                self.engine.add(coming.pop(), self.now)
            plan = self.step()
            if plan is None:
                assert coming, "the engine has work, and does none"
                self.now = max(self.now, coming[-1].arrived_at)
            elif then is not None:
                ended = [c.sequence for c in plan.chunks if c.sequence.state is SequenceState.FINISHED]
                coming += [new for sequence in ended if (new := then(sequence)) is not None]


def tokens_of(plan: StepPlan, sequence: Sequence) -> int:
    """Return how many tokens of a sequence a step computes."""
    return sum(chunk.num_tokens for chunk in plan.chunks if chunk.sequence is sequence)


def sequences_of(plans: Iterable[StepPlan]) -> list[Sequence]:
    """Return the sequences of steps, each once, in the order in which they first appear."""
    return list(dict.fromkeys(chunk.sequence for chunk in chain.from_iterable(plan.chunks for plan in plans)))


def prompt(length: int, *, first: int = 0) -> list[int]:
    """Return a prompt that no other begins like."""
    return [first, *[position % 2 for position in range(length - 1)]]


def loop(
    policy: StepPolicy, *, num_blocks: int = 1000, max_length: int = 10_000, timed: bool = False, ahead: int = 1
) -> Loop:
    """Return an engine with a model in virtual time; it predicts its steps exactly, or not at all."""
    engine = Continuous(policy, num_blocks=num_blocks, max_length=max_length, time_model=COST if timed else None)
    return Loop(engine, FakeLM(policy.block_size, ahead=ahead), COST)


def step(engine_loop: Loop) -> StepPlan:
    """Run a step that there is."""
    plan = engine_loop.step()
    assert plan is not None
    return plan
