"""Where waiting sequences get a slot and blocks: those that were preempted first, then as the queue says.

A sequence enters only where there are blocks for its whole prompt, and one more for each that runs, so that those can
grow; else those that entered would soon be preempted, and their work done twice. The most entitled lets as many tokens
of shorter ones pass as it needs itself, and after that nobody.
"""

from bisect import insort

from carpool.core.cost import StepTimeModel
from carpool.core.kv_blocks import Blocks
from carpool.core.prefill import num_left
from carpool.core.sequence import Sequence
from carpool.core.sequence_queue import SequenceQueue
from carpool.core.slots import Slots
from carpool.core.step import StepWork
from carpool.core.step_policy import StepPolicy


class Entrance:
    """Lets sequences in, while it is open.

    Args:
        policy: the limits.
        queue: the sequences that wait for the first time.
        slots: those that run.
        blocks: the cache.
        time_model: predicts how long a prompt takes; None: no time at all.

    Attributes:
        returning: those that were preempted, as (due_at, order, sequence), rising.
        num_admitted: since it was opened.
        prefix_queries: tokens of prompts that were looked up in the prefix cache so far.
        prefix_hits: tokens of prompts that were found there.
    """

    def __init__(
        self,
        policy: StepPolicy,
        queue: SequenceQueue,
        slots: Slots,
        blocks: Blocks,
        time_model: StepTimeModel | None,
    ) -> None:
        self.returning: list[tuple[float, int, Sequence]] = []
        self.num_admitted = self.prefix_queries = self.prefix_hits = 0
        self._policy = policy
        self._queue = queue
        self._slots = slots
        self._blocks = blocks
        self._time_model = time_model
        self._now = 0.0
        self._is_open = False
        self._blocked: Sequence | None = None  # there was no room for it in this step, nor will there be

    def open(self, now: float, *, may_enter: bool) -> bool:
        """Open for a step, or close; return whether anybody may enter."""
        self._now = now
        self.num_admitted = 0
        self._is_open = may_enter
        self._blocked = None
        return self._has_place and bool(self._queue or self.returning)

    @property
    def _has_place(self) -> bool:
        return self._is_open and len(self._slots) < self._policy.num_slots

    def send_back(self, sequence: Sequence) -> None:
        """Let a sequence that was preempted wait, before all who have not run yet."""
        insort(self.returning, (sequence.due_at, sequence.order, sequence))

    def admit_next(self, most_tokens: int | None) -> Sequence | None:
        """Let in the most entitled; None: there is none, or no room, or it has more left to compute than this."""
        if not self._has_place:
            return None
        sequence = self.returning[0][2] if self.returning else self._queue.head(self._is_too_late)
        return sequence if sequence is not None and self._enter(sequence, most_tokens) else None

    def admit_shortest(self, most_tokens: int) -> Sequence | None:
        """Let in a short one with no more left to compute than this, or the most entitled if enough have passed it."""
        if most_tokens < 1 or not self._has_place or self.returning:
            return None
        head, sequence = self._queue.head(self._is_too_late), self._queue.shortest(most_tokens)
        if head is None or sequence is None:
            return None
        if head.num_passed >= head.most_tokens:  # enough: its turn, or nobody's
            return head if self._enter(head, None if self._policy.chunked_prefill else most_tokens) else None
        if not self._enter(sequence, most_tokens):
            return None
        if sequence is not head:
            head.num_passed += sequence.most_tokens
        return sequence

    def _is_too_late(self, sequence: Sequence) -> bool:
        """Return whether a sequence's first token would come too late if the next step were its alone."""
        if self._time_model is None or self._now > sequence.first_token_by:
            return self._now > sequence.first_token_by
        start = len(self._find(sequence)) * self._blocks.block_size
        num_tokens = len(sequence.tokens) - start
        work = StepWork(
            num_tokens=num_tokens,
            num_sequences=1,
            num_sampled=1,
            kv_read=0,
            prefill_pairs=num_tokens * (start + num_tokens / 2),
        )
        return self._now + self._time_model.time_s(work) > sequence.first_token_by

    def _find(self, sequence: Sequence) -> list[int]:
        """Return the blocks that a sequence may share; its last token is computed in any case."""
        if not (self._policy.prefix_caching or sequence.is_fork):
            return []
        if sequence.wants_prompt_logits and not sequence.num_generated:
            return []
        return self._blocks.find(sequence, (len(sequence.tokens) - 1) // self._blocks.block_size)

    def _room(self, sequence: Sequence) -> list[int] | None:
        """Return the blocks that a sequence that may enter shares; None: there is no room for it."""
        num_free = self._blocks.num_free - len(self._slots)  # one more for each that runs, so that it can grow
        if num_free <= 0:
            return None
        found = self._find(sequence)
        num_more = self._slots.num_blocks_for(sequence) - len(found)
        return found if num_more + self._blocks.num_unheld(found) <= num_free else None

    def _enter(self, sequence: Sequence, most_tokens: int | None) -> bool:
        found = self._room(sequence) if sequence is not self._blocked else None
        if found is None:
            self._blocked = sequence
            return False
        num_found = len(found) * self._blocks.block_size
        if most_tokens is not None and len(sequence.tokens) - num_found > most_tokens:
            return False
        self._slots.enter(sequence, found)
        self.num_admitted += 1
        if sequence.num_preemptions:
            self.returning.remove((sequence.due_at, sequence.order, sequence))
            return True
        prompt_left = num_left(sequence)
        self._queue.admit(sequence, prompt_left if prompt_left > 1 else 0)  # single tokens count as they come
        sequence.num_cached = min(num_found, sequence.num_prompt)
        if self._policy.prefix_caching and not (sequence.is_fork or sequence.wants_prompt_logits):
            self.prefix_queries += sequence.num_prompt
            self.prefix_hits += sequence.num_cached
        return True

    def check_integrity(self) -> None:
        """Assert the invariants."""
        assert self.returning == sorted(self.returning)
        assert all((s.due_at, s.order) == (due_at, order) for due_at, order, s in self.returning)
        assert all(s.num_preemptions and not s.num_computed and not s.blocks for _, _, s in self.returning)
