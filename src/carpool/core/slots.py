"""The sequences that run, and the blocks that they hold."""

import math
from collections import Counter
from collections.abc import Iterator

from carpool.core.fairness import StepShares
from carpool.core.kv_blocks import Blocks
from carpool.core.sequence import Sequence, SequenceState
from carpool.units import counted

_RUNNING = SequenceState.RUNNING


class Slots:
    """The running sequences: those that wait for one token, and those that have more to compute.

    Each holds blocks for all the tokens that it has, or is about to: a prompt is never stuck half-way for want of room.

    Args:
        blocks: the cache.
        shares: the service that each tenant has had; told who generates.

    Attributes:
        decoding: those whose next token follows from computing a single one; by entry.
        prefilling: the others.
    """

    def __init__(self, blocks: Blocks, shares: StepShares) -> None:
        self.decoding: dict[Sequence, None] = {}
        self.prefilling: dict[Sequence, None] = {}
        self._blocks = blocks
        self._shares = shares
        self._intervals: Counter[float] = Counter()  # how many of those decoding want a time between tokens
        self._growing: list[Sequence] = []  # those whose next token needs another block; some have left

    def __len__(self) -> int:
        return len(self.decoding) + len(self.prefilling)

    def __iter__(self) -> Iterator[Sequence]:
        yield from self.decoding
        yield from self.prefilling

    def num_blocks_for(self, sequence: Sequence) -> int:
        """Return how many blocks hold all the tokens that a sequence has."""
        return -(-len(sequence.tokens) // self._blocks.block_size)

    def enter(self, sequence: Sequence, found: list[int]) -> None:
        """Let a sequence run, for which there is room.

        Args:
            sequence: one that waits.
            found: the blocks that hold its first tokens already.
        """
        self._blocks.share(found)  # before any is taken, lest one of these be
        num_more = self.num_blocks_for(sequence) - len(found)
        sequence.blocks = [*found, *self._blocks.take(num_more)]
        sequence.num_published = len(found)
        sequence.num_computed = len(found) * self._blocks.block_size
        sequence.state = _RUNNING
        self._sort_in(sequence)

    def _sort_in(self, sequence: Sequence) -> None:
        sequence.pause_at = 0
        if len(sequence.tokens) - sequence.num_computed == 1:
            self.decoding[sequence] = None
            self._count_interval(sequence.token_interval_s, 1)
            self._shares.generates(sequence.tenant, 1)
        else:
            self.prefilling[sequence] = None

    def _take_out(self, sequence: Sequence) -> None:
        if sequence in self.decoding:
            del self.decoding[sequence]
            self._count_interval(sequence.token_interval_s, -1)
            self._shares.generates(sequence.tenant, -1)
        else:
            del self.prefilling[sequence]

    def _count_interval(self, interval_s: float, change: int) -> None:
        if interval_s < math.inf:
            self._intervals[interval_s] += change
            if not self._intervals[interval_s]:
                del self._intervals[interval_s]

    @property
    def tightest_interval_s(self) -> float:
        """The least time between tokens that any of those wants who wait for one; infinite where none wants any."""
        return min(self._intervals, default=math.inf)

    def leave(self, sequence: Sequence) -> None:
        """Give back a running sequence's slot and blocks; its table stays as it was, for a step that is under way."""
        self._take_out(sequence)
        self._blocks.give_back(sequence)

    def go_on(self, sequence: Sequence) -> None:
        """Take note that a running sequence has been computed farther, and has more tokens to compute."""
        num_tokens, room = len(sequence.tokens), len(sequence.blocks) * self._blocks.block_size
        if num_tokens > room:
            self._growing.append(sequence)
        is_single = num_tokens - sequence.num_computed == 1
        if is_single != (sequence in self.decoding):
            self._take_out(sequence)
            self._sort_in(sequence)
        if is_single:
            sequence.pause_at = min(room, sequence.most_tokens - 1)

    def grow(self) -> tuple[list[Sequence], str]:
        """Give those that need it another block, taken from the least entitled where none is free.

        Returns:
            Those that were preempted, and why, in words.
        """
        if not self._growing:
            return [], ""
        size = self._blocks.block_size
        wanted = {s: -(-len(s.tokens) // size) - len(s.blocks) for s in self._growing if s.state is _RUNNING}
        self._growing.clear()
        preempted, why = self._make_room(wanted) if sum(wanted.values()) > self._blocks.num_free else ([], "")
        fresh = self._blocks.take(sum(wanted.values()))
        for sequence, num_blocks in wanted.items():
            blocks = sequence.blocks
            for _ in range(num_blocks):
                blocks.append(fresh.pop())
            if sequence in self.decoding:
                sequence.pause_at = min(len(blocks) * size, sequence.most_tokens - 1)
        return preempted, why

    def _make_room(self, wanted: dict[Sequence, int]) -> tuple[list[Sequence], str]:
        """Preempt until as many blocks are free as are wanted by those that are left."""
        num_wanted, num_free = sum(wanted.values()), self._blocks.num_free
        why = f"{counted(num_wanted, 'block')} wanted by {counted(len(wanted), 'sequence')}, {num_free} free"
        preempted: list[Sequence] = []
        while num_wanted > self._blocks.num_free:
            victim = self._least_entitled()
            preempted.append(victim)
            num_wanted -= wanted.pop(victim, 0)
            self._preempt(victim)
        return preempted, why

    def _preempt(self, sequence: Sequence) -> None:
        self.leave(sequence)
        sequence.blocks = []
        sequence.num_computed = 0
        sequence.num_preemptions += 1
        sequence.state = SequenceState.WAITING

    def _least_entitled(self) -> Sequence:
        """Return who gives way: of the lowest priority, then of the tenant that holds most, then who is due last."""
        held: dict[str, float] = {}
        for sequence in self:
            share = len(sequence.blocks) / self._shares.weight(sequence.tenant)
            held[sequence.tenant] = held.get(sequence.tenant, 0.0) + share
        return max(self, key=lambda s: (-s.priority, held[s.tenant], s.due_at, s.order))

    def check_integrity(self) -> None:
        """Assert the invariants: every sequence is in the right place, and holds the blocks that it needs."""
        assert not self.decoding.keys() & self.prefilling.keys()
        assert self.tightest_interval_s == min([s.token_interval_s for s in self.decoding], default=math.inf)
        growing = {sequence for sequence in self._growing if sequence.state is _RUNNING}
        for sequence in self:
            assert sequence.state is _RUNNING
            num_left = len(sequence.tokens) - sequence.num_computed
            assert num_left >= 1
            assert (num_left == 1) == (sequence in self.decoding)
            needed = self.num_blocks_for(sequence)
            assert len(sequence.blocks) == needed or (sequence in growing and len(sequence.blocks) < needed)
        self._blocks.check_integrity(sequence.blocks for sequence in self)
