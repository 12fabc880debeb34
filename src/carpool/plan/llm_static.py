"""Static batching: a batch is formed once, its prompts are padded to the longest, and it runs until its longest answer.

That is what `generate` of a library does with a list of prompts; it stands beside continuous batching for comparison.
Whatever favours it is taken for granted: tokens reach their clients as they come, and a batch never waits for company.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from carpool.core.sequence import Sequence, SequenceState
from carpool.core.step import Chunk, StepPlan, StepWork
from carpool.errors import InvalidItem, QueueFull
from carpool.units import counted

if TYPE_CHECKING:
    from collections.abc import Sequence as Many

    from carpool.core.step_policy import StepPolicy


class StaticBatches:
    """Decides as `carpool.core.continuous.Continuous` does, as far as a simulation asks, but batch by batch.

    Args:
        policy: Of it `num_slots` sequences make a batch, and `max_waiting` may wait for one.
        num_blocks: Blocks in the cache.
    """

    def __init__(self, policy: StepPolicy, *, num_blocks: int) -> None:
        self._policy = policy
        self._num_blocks = num_blocks
        self._waiting: deque[Sequence] = deque()
        self._batch: list[Sequence] = []
        self._length = 0  # what its prompts are padded to
        self._num_steps = 0  # that it has run
        self.prefix_queries = 0
        self.prefix_hits = 0

    @property
    def usage(self) -> float:
        """The share of the blocks that the batch holds, for its longest prompt and answer from the beginning."""
        return self._blocks_of(self._batch) / self._num_blocks

    def add(self, sequence: Sequence, now: float) -> None:  # noqa: ARG002 - as the other scheduler is called
        """Let a sequence wait for the next batch.

        Raises:
            InvalidItem: It does not fit, even alone.
            QueueFull: As many wait as may.
        """
        needed = self._blocks_of([sequence])
        if needed > self._num_blocks:
            raise InvalidItem(
                f"a sequence needs {counted(needed, 'block')}, and there are {self._num_blocks}: give more memory"
            )
        if len(self._waiting) >= self._policy.max_waiting:
            raise QueueFull(f"{len(self._waiting)} sequences wait, as many as may: come back later")
        self._waiting.append(sequence)

    def plan(self, now: float) -> StepPlan | None:  # noqa: ARG002 - as the other scheduler is called
        """Say what the next step computes: all prompts of a new batch, or a token for every row of the running one."""
        if not self._batch:
            self._form()
            if not self._batch:
                return None
            chunks = [Chunk(one, 0, one.num_prompt, samples=True) for one in self._batch]
            return StepPlan(chunks=tuple(chunks), preempted=(), work=self._work(self._length))
        running = [one for one in self._batch if one.state is SequenceState.RUNNING]
        chunks = [Chunk(one, one.num_tokens - 1, 1, samples=True) for one in running]
        return StepPlan(chunks=tuple(chunks), preempted=(), work=self._work(1))

    def commit(self, plan: StepPlan, tokens: Many[Many[int]], now: float) -> None:  # noqa: ARG002 - as above
        """Take in what a step computed; the batch ends with its longest answer."""
        self._num_steps += 1
        for chunk, new in zip(plan.chunks, tokens, strict=True):
            sequence = chunk.sequence
            sequence.num_computed = chunk.end
            sequence.tokens += new
            if sequence.num_generated >= sequence.max_new_tokens:
                sequence.state = SequenceState.FINISHED
        if all(one.state is SequenceState.FINISHED for one in self._batch):
            self._batch = []

    def _form(self) -> None:
        """Take those that waited longest, as many as there are slots and blocks for."""
        self._batch, self._num_steps = [], 0
        while self._waiting and len(self._batch) < self._policy.num_slots:
            if self._blocks_of([*self._batch, self._waiting[0]]) > self._num_blocks:
                break
            sequence = self._waiting.popleft()
            sequence.state = SequenceState.RUNNING
            self._batch.append(sequence)
        self._length = max((one.num_prompt for one in self._batch), default=0)

    def _blocks_of(self, batch: Many[Sequence]) -> int:
        """Return the blocks of a batch whose rows are all as long as its longest prompt and answer together."""
        if not batch:
            return 0
        longest = max(one.num_prompt for one in batch) + max(one.max_new_tokens for one in batch)
        return len(batch) * -(-longest // self._policy.block_size)

    def _work(self, num_tokens: int) -> StepWork:
        """Return what a step costs by: every row computes as many tokens, whether anyone still waits for it or not."""
        rows, single = len(self._batch), num_tokens == 1
        return StepWork(
            num_tokens=rows * num_tokens,
            num_sequences=rows,
            num_sampled=rows,
            kv_read=rows * (self._length + self._num_steps) if single else 0,
            prefill_pairs=0.0 if single else rows * num_tokens * num_tokens / 2,
        )
