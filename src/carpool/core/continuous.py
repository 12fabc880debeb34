"""Continuous batching: decides, step by step, which tokens of which sequences an LLM computes.

There is no prefill phase and no decode phase: each sequence has `num_computed` chasing `num_tokens`. A step computes a
token of every sequence that lacks but one, and pieces of those that lack more, up to the token budget. Every shell
drives this object: the live engine with a real clock and a model, a simulation with neither.
"""

import collections.abc
import math
from functools import partial
from itertools import repeat
from typing import TypeAlias

from carpool.core.admission import Limits, Pace
from carpool.core.cost import LearningStepTimeModel, StepTimeModel
from carpool.core.entrance import Entrance
from carpool.core.fairness import StepShares
from carpool.core.kv_blocks import Blocks
from carpool.core.prefill import Division, num_left
from carpool.core.sequence import Sequence, SequenceState
from carpool.core.sequence_queue import SequenceQueue
from carpool.core.slots import Slots
from carpool.core.step import Chunk, StepPlan, StepWork
from carpool.core.step_policy import StepPolicy
from carpool.core.time_limit import LEAST_SHARE, most_tokens_in_time, work_of

Tokens: TypeAlias = collections.abc.Sequence[int]
_WAITING, _RUNNING, _FINISHED = SequenceState.WAITING, SequenceState.RUNNING, SequenceState.FINISHED
_ONE, _TRUE = repeat(1), repeat(object=True)
_chunk: collections.abc.Callable[[tuple[Sequence, int, int, bool]], Chunk] = partial(tuple.__new__, Chunk)


class Continuous:
    """The decisions of one LLM engine; it holds no clock and computes nothing.

    `plan` says what the next step computes, `commit` takes what came of it. In between, and at any other time,
    sequences may be added, forked and finished. A step that is lost is planned again by the next `plan`.

    Args:
        policy: the limits.
        num_blocks: blocks in the cache, of `policy.block_size` tokens each.
        max_length: the longest that a sequence may get, in tokens, generated ones included.
        time_model: predicts how long a step runs, for objectives between tokens; one that learns is told by `commit`
            how long each took. None: nothing is predicted.

    Attributes:
        policy: the limits.
        num_preemptions: so far.

    >>> engine = Continuous(StepPolicy(num_slots=2, token_budget=8), num_blocks=4, max_length=64)
    >>> sequence = Sequence(tokens=[5, 6, 7], max_new_tokens=2)
    >>> engine.add(sequence, now=0.0)
    >>> plan = engine.plan(now=0.0)
    >>> [(chunk.start, chunk.num_tokens, chunk.samples) for chunk in plan.chunks]
    [(0, 3, True)]
    >>> engine.commit(plan, [(8,)], now=0.1)  # the model says that 8 follows
    >>> [(chunk.start, chunk.num_tokens, chunk.samples) for chunk in engine.plan(now=0.1).chunks]
    [(3, 1, True)]
    """

    def __init__(
        self, policy: StepPolicy, *, num_blocks: int, max_length: int, time_model: StepTimeModel | None = None
    ) -> None:
        self.policy = policy
        self.num_preemptions = 0
        self._limits = Limits(policy, num_blocks, max_length)
        self._time_model = time_model
        self._learning = time_model if isinstance(time_model, LearningStepTimeModel) else None
        self._blocks = Blocks(num_blocks, policy.block_size, keeps=policy.prefix_caching)
        self._shares = StepShares(policy.tenant_weights)
        self._queue = SequenceQueue(policy, self._shares)
        self._slots = Slots(self._blocks, self._shares)
        self._entrance = Entrance(policy, self._queue, self._slots, self._blocks, time_model)
        self._children: dict[Sequence, list[Sequence]] = {}  # those that wait for a parent, by the parent
        self._pace = Pace()
        self._num_accepted = self._num_children = 0
        self._planned_at = 0.0
        self._any_gone = False  # a sequence has ended that ran when the latest step was planned
        self._skipped = False  # the latest step left out some that needed but one token

    @property
    def num_running(self) -> int:
        """Sequences that have a slot."""
        return len(self._slots)

    @property
    def num_waiting(self) -> int:
        """Sequences that have none: new ones, forks, and those that were preempted."""
        return len(self._queue) + len(self._entrance.returning) + self._num_children

    @property
    def num_free_blocks(self) -> int:
        """Blocks that no sequence holds, those included that are kept for prefixes to come."""
        return self._blocks.num_free

    @property
    def usage(self) -> float:
        """The share of the blocks that sequences hold."""
        return 1.0 - self._blocks.num_free / self._blocks.num_blocks

    @property
    def prefix_queries(self) -> int:
        """Tokens of prompts that were looked up in the prefix cache so far."""
        return self._entrance.prefix_queries

    @property
    def prefix_hits(self) -> int:
        """Tokens of prompts that were found there."""
        return self._entrance.prefix_hits

    @property
    def has_work(self) -> bool:
        """Whether any sequence waits or runs."""
        return bool(self.num_running or self.num_waiting)

    # -------------------------------------------------------------------------------------------- sequences

    def add(self, sequence: Sequence, now: float) -> None:
        """Accept a sequence, or refuse it.

        Raises:
            InvalidItem: it can never fit the model, the blocks, or, where prompts run whole, the token budget.
            QueueFull: as many sequences wait as may.
        """
        self._limits.check(sequence)
        if self.num_waiting >= self.policy.max_waiting:
            raise self._pace.queue_full(self.num_waiting, self.policy.max_waiting, now)
        self._accept(sequence)
        if self.policy.prefix_caching:
            self._blocks.prepare(sequence)
        self._queue.push(sequence)

    def fork(self, parent: Sequence, child: Sequence) -> None:
        """Accept a sequence that begins with the same tokens as another, and shares the blocks that they fill.

        The child waits until its parent has computed them; a last block that is not full it computes itself, so that
        no block is ever copied. A parent that ends before is no harm. Children come with the request that their
        parent came with: they are never one too many.

        Args:
            parent: one that was added.
            child: has the tokens that the parent has now.

        Raises:
            InvalidItem: it can never fit.
        """
        assert child.tokens == parent.tokens[: len(child.tokens)]
        self._limits.check(child)
        self._accept(child)
        child.is_fork = True
        child.cache_salt = parent.cache_salt
        if parent.state is _FINISHED:
            self._queue.push(child)
            return
        child.parent = parent
        self._children.setdefault(parent, []).append(child)
        self._num_children += 1
        self._release_children(parent)

    def _accept(self, sequence: Sequence) -> None:
        assert not sequence.order, "a sequence is added once"
        if not self.has_work:
            self._queue.close_accounts()
        self._num_accepted += 1
        sequence.order = self._num_accepted
        sequence.most_tokens = len(sequence.tokens) + sequence.max_new_tokens

    def _release_children(self, parent: Sequence) -> None:
        """Let those children wait for a slot whose blocks have been computed, or never will be."""
        children = self._children.pop(parent)
        is_over = parent.state is _FINISHED
        if not is_over:
            self._blocks.publish(parent)
        size = self.policy.block_size
        left = []
        for child in children:
            if not is_over and parent.num_computed < (len(child.tokens) - 1) // size * size:
                left.append(child)
                continue
            child.parent = None
            child.digests = parent.digests[: len(child.tokens) // size]  # they are of the same tokens
            self._num_children -= 1
            self._queue.push(child)
        if left:
            self._children[parent] = left

    def finish(self, sequence: Sequence) -> None:
        """End a sequence, in whatever state; its blocks are given back, and kept for prefixes to come."""
        state, sequence.state = sequence.state, _FINISHED
        if state is _FINISHED or not sequence.order:
            return
        if state is _RUNNING:
            self._any_gone = True
            self._slots.leave(sequence)
        elif sequence.parent is not None:
            self._forget_child(sequence, sequence.parent)
        elif sequence.num_preemptions:
            self._entrance.returning.remove((sequence.due_at, sequence.order, sequence))
        else:
            self._queue.remove(sequence)
        if sequence in self._children:
            self._release_children(sequence)

    def _forget_child(self, child: Sequence, parent: Sequence) -> None:
        siblings = self._children[parent]
        siblings.remove(child)
        if not siblings:
            del self._children[parent]
        child.parent = None
        self._num_children -= 1

    # ------------------------------------------------------------------------------------------------ steps

    def plan(self, now: float) -> StepPlan | None:
        """Say what the next step computes; None: nothing to do before somebody adds a sequence."""
        self._planned_at, self._any_gone = now, False
        preempted, because = self._slots.grow()
        for sequence in preempted:
            self._entrance.send_back(sequence)
        self.num_preemptions += len(preempted)
        singles, work = self._singles()
        longer: list[Chunk] = []
        if self._entrance.open(now, may_enter=not preempted) or self._slots.prefilling:
            singles, longer, work = self._with_prompts(singles, work, now)
        if not singles and not longer:
            return None
        return StepPlan((*singles, *longer), tuple(preempted), work, because)

    def _singles(self) -> tuple[list[Chunk], StepWork]:
        """Return the chunks of those that need but one token."""
        decoding = self._slots.decoding
        starts = [sequence.num_computed for sequence in decoding]
        chunks = list(map(_chunk, zip(decoding, starts, _ONE, _TRUE)))  # noqa: B905 - some have no end
        count = len(chunks)
        return chunks, StepWork(count, count, count, sum(starts) + count, 0.0)

    def _with_prompts(
        self, singles: list[Chunk], work: StepWork, now: float
    ) -> tuple[list[Chunk], list[Chunk], StepWork]:
        """Return single tokens, longer pieces of prompts, and what all of them cost by.

        Args:
            singles: chunks of those that need but one token.
            work: what they cost by.
            now: the instant.
        """
        budget, whole = self.policy.token_budget, not self.policy.chunked_prefill
        division = Division(self._slots.prefilling, self._entrance, whole=whole)
        if whole:
            division.divide_whole(budget - len(singles), 0 if self._skipped else budget)
        else:
            division.divide(self._num_in_time(work, budget - len(singles)))
        if self._entrance.num_admitted:
            self._pace.admitted(self._entrance.num_admitted, now, left_behind=bool(self._queue))
        room = budget - sum(division.given.values())
        self._skipped = room < len(singles)
        if self._skipped:
            singles = singles[:room]
            work = work_of(singles)
        pieces = [
            Chunk(sequence, sequence.num_computed, count, count == num_left(sequence))
            for sequence, count in division.given.items()
        ]
        longer = [piece for piece in pieces if piece.num_tokens > 1 or not piece.samples]
        singles += [piece for piece in pieces if piece.num_tokens == 1 and piece.samples]
        return singles, longer, work_of(pieces, work)

    def _num_in_time(self, singles: StepWork, most_tokens: int) -> int:
        """Return how many tokens of prompts keep the time between tokens that those who run are to have."""
        limit_s = self._slots.tightest_interval_s
        if self._time_model is None or limit_s == math.inf:
            return most_tokens
        start = max([sequence.num_computed for sequence in self._slots.prefilling], default=0)
        least = max(1, self.policy.token_budget // LEAST_SHARE)
        return most_tokens_in_time(
            self._time_model, limit_s, singles, start=start, least_tokens=least, most_tokens=most_tokens
        )

    def commit(self, plan: StepPlan, tokens: collections.abc.Sequence[Tokens], now: float) -> None:
        """Take in what a step computed.

        A sequence that has all its tokens, or gets none where one was due, is finished. Those that were finished
        since the plan are passed over.

        Args:
            plan: the latest plan.
            tokens: for each of its chunks the tokens that follow, none where it does not sample; further ones than
                the first count as not computed yet.
            now: the instant.
        """
        self._shares.step()
        computed_now: collections.abc.Iterable[tuple[Chunk, Tokens]] = zip(plan.chunks, tokens, strict=True)
        if self._any_gone:
            computed_now = [pair for pair in computed_now if pair[0].sequence.state is _RUNNING]
        for chunk, new in computed_now:
            sequence, start, num_tokens, _ = chunk
            computed = start + num_tokens
            sequence.num_computed = computed
            held = sequence.tokens
            held += new
            if computed >= sequence.pause_at or len(new) != 1:
                self._go_on(chunk, len(new))
        if self._learning is not None:
            self._learning.observe(plan.work, now - self._planned_at)

    def _go_on(self, chunk: Chunk, num_new: int) -> None:
        """Let a sequence go on that has filled a block, or a piece of its prompt, or that has all its tokens."""
        sequence, _, num_tokens, samples = chunk
        assert samples or not num_new, "what follows the last token of a piece is known already"
        if num_tokens > 1 and self.policy.prefix_caching:
            self._blocks.publish(sequence)  # what it generates can be found once it has ended
        is_over = samples and (not num_new or len(sequence.tokens) >= sequence.most_tokens)
        if is_over:
            del sequence.tokens[sequence.most_tokens :]
        if sequence in self._children:
            self._release_children(sequence)
        if is_over:
            self.finish(sequence)
        else:
            self._slots.go_on(sequence)

    def check_integrity(self) -> None:
        """Assert the invariants: every sequence is in one place and every block accounted for."""
        self._queue.check_integrity()
        self._slots.check_integrity()
        self._entrance.check_integrity()
        children = [child for siblings in self._children.values() for child in siblings]
        assert len(children) == self._num_children
        assert all(child.parent is parent for parent, siblings in self._children.items() for child in siblings)
        assert not any(parent.state is _FINISHED for parent in self._children)
        waiting = [*self._queue, *children, *[entry[2] for entry in self._entrance.returning]]
        assert all(sequence.state is _WAITING for sequence in waiting)
        assert len({id(sequence) for sequence in waiting}) == len(waiting) == self.num_waiting
        assert self.num_running <= self.policy.num_slots
