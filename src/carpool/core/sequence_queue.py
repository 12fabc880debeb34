"""The sequences that wait, in the order in which they are to run.

Between tenants, who has had least service for its weight goes next: prompts count when they are admitted, generated
tokens as they come, tokens that the prefix cache spares not at all. Within a tenant, a sequence is due at its objective
for the first token, or `patience_s` after its arrival where it has none, and each level of priority is worth
`ageing_s` of waiting: a fixed key, so that nothing starves. One whose objective can't be met any more is due like one
that has none: it runs, but not at the price of another's.

Source: the Virtual Token Counter of Sheng et al. 2024, "Fairness in Serving Large Language Models".
"""

import heapq
import math
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from itertools import pairwise

from carpool.core.fairness import StepShares
from carpool.core.sequence import Sequence
from carpool.core.step_policy import StepPolicy

_Entry = tuple[float, int, Sequence]  # (due_at, order, sequence): ties never reach the sequence
LOOK_AHEAD = 64
"""So many are looked through for a short one."""


class SequenceQueue:
    """Waiting sequences, a lane for each tenant.

    Args:
        policy: the limits.
        shares: the service that each tenant has had.
    """

    def __init__(self, policy: StepPolicy, shares: StepShares) -> None:
        self._shares = shares
        self._policy = policy
        self._lanes: dict[str, list[_Entry]] = {}  # never holds an empty lane
        self._turns: list[tuple[float, str]] = []  # a heap of (service, tenant): every lane's, its service or less
        self._in_turns: set[str] = set()
        self._level = 0.0  # the counter of the tenant that was served last
        self._num_waiting = 0

    def __len__(self) -> int:
        return self._num_waiting

    def __iter__(self) -> Iterator[Sequence]:
        return (sequence for lane in self._lanes.values() for _, _, sequence in lane)

    def push(self, sequence: Sequence) -> None:
        """Let a sequence wait."""
        patience_ends_at = sequence.arrived_at + self._policy.patience_s
        self._insert(sequence, min(sequence.first_token_by, patience_ends_at))
        self._num_waiting += 1

    def close_accounts(self) -> None:
        """Forget all service: nobody waits or runs."""
        self._shares.close_accounts()
        self._turns.clear()
        self._in_turns.clear()
        self._level = 0.0

    def _insert(self, sequence: Sequence, wanted_by: float) -> None:
        sequence.due_at = wanted_by - sequence.priority * self._policy.ageing_s
        tenant = sequence.tenant
        lane = self._lanes.get(tenant)
        if lane is None:
            least = self._least_served()
            self._shares.lift(tenant, self._level if least is None else self._shares.served(least))
            lane = self._lanes[tenant] = []
            if tenant not in self._in_turns:
                self._in_turns.add(tenant)
                heapq.heappush(self._turns, (self._shares.served(tenant), tenant))
        insort(lane, (sequence.due_at, sequence.order, sequence))

    def remove(self, sequence: Sequence) -> None:
        """Take out a sequence, wherever it stands."""
        tenant = sequence.tenant
        lane = self._lanes[tenant]
        del lane[bisect_left(lane, (sequence.due_at, sequence.order))]
        self._num_waiting -= 1
        if not lane:
            del self._lanes[tenant]

    def admit(self, sequence: Sequence, num_tokens: int) -> None:
        """Take out a sequence that runs from now on, and charge its tenant for the tokens to be computed."""
        self._level = max(self._level, self._shares.served(sequence.tenant))
        self.remove(sequence)
        self._shares.charge(sequence.tenant, num_tokens)

    def _least_served(self) -> str | None:
        """Return the tenant whose turn it is; None: none waits."""
        turns, lanes, shares = self._turns, self._lanes, self._shares
        while turns:
            served, tenant = turns[0]
            now_served = shares.served(tenant)
            if tenant not in lanes:
                heapq.heappop(turns)
                self._in_turns.remove(tenant)
            elif now_served > served:
                heapq.heapreplace(turns, (now_served, tenant))
            else:
                return tenant
        return None

    def head(self, too_late: Callable[[Sequence], bool]) -> Sequence | None:
        """Return the sequence that is to run next; None: none waits.

        Args:
            too_late: whether a sequence can't have its first token in time, whatever is done.
        """
        tenant = self._least_served()
        if tenant is None:
            return None
        while True:
            sequence = self._lanes[tenant][0][2]
            if sequence.is_late or sequence.first_token_by == math.inf or not too_late(sequence):
                return sequence
            self._give_up_objective(sequence)

    def _give_up_objective(self, sequence: Sequence) -> None:
        """Let a sequence whose objective can't be met be due like one that has none."""
        lane = self._lanes[sequence.tenant]
        del lane[0]
        sequence.is_late = True
        self._insert(sequence, sequence.arrived_at + self._policy.patience_s)

    def shortest(self, most_tokens: int) -> Sequence | None:
        """Return the shortest of those at the head of the lane whose turn it is, no less urgent than the first.

        Args:
            most_tokens: the most tokens that it may have; None is returned where all have more.
        """
        tenant = self._least_served()
        if tenant is None:
            return None
        lane = self._lanes[tenant]
        priority = lane[0][2].priority
        shortest, length = None, most_tokens + 1
        for _, _, sequence in lane[:LOOK_AHEAD]:
            if len(sequence.tokens) < length and sequence.priority >= priority:
                shortest, length = sequence, len(sequence.tokens)
        return shortest

    def check_integrity(self) -> None:
        """Assert the invariants: lanes are sorted and not empty, counts agree, every lane has its turn."""
        assert self._num_waiting == sum(map(len, self._lanes.values()))
        assert set(self._lanes) <= self._in_turns
        assert sorted(self._in_turns) == sorted(tenant for _, tenant in self._turns)
        assert all(served <= self._shares.served(tenant) for served, tenant in self._turns if tenant in self._lanes)
        for tenant, lane in self._lanes.items():
            assert lane, tenant
            assert all(a < b for a, b in pairwise(lane))
            assert all((s.due_at, s.order) == (due_at, order) and s.tenant == tenant for due_at, order, s in lane)
