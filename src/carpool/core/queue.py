"""The waiting items, in the order in which they are served.

Within a tenant, items go by `due_at`: the deadline, or arrival plus patience where there is none, moved ahead by
`ageing_s` for each level of priority. Between tenants, who has had least service for its weight goes next. A single
fixed key gives earliest deadline first, priorities that age, and no starvation: whatever arrives `patience_s` later
with no deadline of its own is due later.
"""

import heapq
import math
from bisect import bisect_left, insort
from collections.abc import Iterator
from itertools import pairwise

from carpool.core.fairness import FairShares
from carpool.core.item import Item, State
from carpool.core.lane_heights import LaneHeights
from carpool.core.policy import Policy

_WAITING, _RUNNING = State.WAITING, State.RUNNING  # looked up once: they are asked for with every item
_Entry = tuple[float, int, Item]  # (due_at, sequence, item): ties never reach the item


class ItemQueue:
    """Waiting items, ordered; every item in it is in state WAITING."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._lanes: dict[str, list[_Entry]] = {}  # never holds an empty lane
        self._deadlines: list[_Entry] = []  # (deadline_at, sequence, item), rising; some of them have left
        self._shares = FairShares(policy.tenant_weights)
        self._heights: dict[float, LaneHeights] = {}  # by weight; empty until somebody asks
        self._num_items = self._num_tokens = 0
        self._num_pushed = 0

    def __len__(self) -> int:
        return self._num_items

    @property
    def mean_length(self) -> int:
        """The mean length of the waiting items, in whole tokens; 1 where none waits."""
        return round(self._num_tokens / self._num_items) if self._num_items else 1

    def __iter__(self) -> Iterator[Item]:
        return (item for lane in self._lanes.values() for _, _, item in lane)

    def set_policy(self, policy: Policy) -> None:
        """Order what comes from now on by another policy; what waits keeps its place."""
        self._policy = policy
        self._shares.set_weights(policy.tenant_weights)
        self._heights.clear()

    def push(self, item: Item) -> None:
        """Let an item wait."""
        self._num_pushed += 1
        item.sequence = self._num_pushed
        item.due_at = self._due_at(item)
        item.state = _WAITING
        lane = self._lanes.get(item.tenant)
        if lane is None:
            if not self._lanes:
                self._shares.close_accounts()
                self._heights.clear()  # they cost a little for every item, and may not be asked for again
            self._shares.activate(item.tenant)
            lane = self._lanes[item.tenant] = []
        if self._heights:
            self._heights.setdefault(self._shares.weight(item.tenant), LaneHeights()).grow(len(lane))
        entry = (item.due_at, item.sequence, item)
        if not lane or lane[-1] < entry:
            lane.append(entry)
        else:
            insort(lane, entry)
        self._num_items += 1
        self._num_tokens += item.length
        if item.deadline_at < math.inf:
            self._watch_deadline((item.deadline_at, item.sequence, item))

    def _watch_deadline(self, entry: _Entry) -> None:
        deadlines = self._deadlines
        if not deadlines or deadlines[-1] < entry:
            deadlines.append(entry)
        else:
            insort(deadlines, entry)
        if len(deadlines) > 2 * self._num_items + 64:  # far deadlines must not keep departed items alive
            self._deadlines = [entry for entry in deadlines if entry[2].state is _WAITING]

    def _due_at(self, item: Item) -> float:
        patience_ends_at = item.arrived_at + self._policy.patience_s
        return min(item.deadline_at, patience_ends_at) - item.priority * self._policy.ageing_s

    def num_ahead(self, item: Item) -> int:
        """Return about how many waiting items would be served before an item that is not in the queue yet.

        While those of its own tenant are served, every other tenant gets its share too.
        """
        lane = self._lanes.get(item.tenant)
        if lane is None:
            return 0
        own = bisect_left(lane, (self._due_at(item), math.inf))
        if len(self._lanes) == 1 or not own:
            return own
        weight = self._shares.weight(item.tenant)
        return sum(  # its own lane included, with those of it that are ahead
            heights.num_in_first(own if other == weight else int(own / weight * other))
            for other, heights in self._known_heights().items()
        )

    def _known_heights(self) -> dict[float, LaneHeights]:
        """Return the heights of the lanes by their weight; counted anew when there were none, and kept from then on."""
        if not self._heights:
            for tenant, lane in self._lanes.items():
                heights = self._heights.setdefault(self._shares.weight(tenant), LaneHeights())
                for length in range(len(lane)):
                    heights.grow(length)
        return self._heights

    def _shrank(self, tenant: str, before: int) -> None:
        if self._heights:
            self._heights[self._shares.weight(tenant)].shrink(before, len(self._lanes[tenant]))

    def remove(self, item: Item) -> None:
        """Take out one waiting item, wherever it stands."""
        lane = self._lanes[item.tenant]
        del lane[bisect_left(lane, (item.due_at, item.sequence))]
        self._left(item)
        self._shrank(item.tenant, len(lane) + 1)
        self._drop_if_empty(item.tenant)

    def take(self, items: list[Item]) -> None:
        """Take out items that go into a batch, which run from now on, and charge their tenants for them."""
        for item in items:
            item.state = _RUNNING
        num_tokens = sum([item.length for item in items])
        self._num_items -= len(items)
        self._num_tokens -= num_tokens
        if len(self._lanes) != 1 or self.head(len(items)) != items:
            self._pick(items)
            return
        ((tenant, lane),) = self._lanes.items()
        self._shares.charge(tenant, num_tokens)
        before = len(lane)
        del lane[: len(items)]
        self._shrank(tenant, before)
        self._drop_if_empty(tenant)

    def _pick(self, items: list[Item]) -> None:
        """Take items that run out of the middle of their lanes."""
        tokens: dict[str, int] = {}
        last: dict[str, tuple[float, int]] = {}
        for item in items:
            tenant, key = item.tenant, (item.due_at, item.sequence)
            tokens[tenant] = tokens.get(tenant, 0) + item.length
            if tenant not in last or key > last[tenant]:
                last[tenant] = key
        for tenant, key in last.items():
            self._shares.charge(tenant, tokens[tenant])
            lane = self._lanes[tenant]
            end = bisect_left(lane, key) + 1
            before = len(lane)
            lane[:end] = [entry for entry in lane[:end] if entry[2].state is _WAITING]
            self._shrank(tenant, before)
            self._drop_if_empty(tenant)

    def head(self, num_items: int) -> list[Item]:
        """Return the first items in the order of service, leaving them in the queue."""
        if len(self._lanes) == 1:
            (lane,) = self._lanes.values()
            return [entry[2] for entry in lane[:num_items]]
        return self._merged_head(num_items)

    def _merged_head(self, num_items: int) -> list[Item]:
        turns = [(self._shares.served(tenant), tenant, 0) for tenant in self._lanes]
        heapq.heapify(turns)
        head: list[Item] = []
        while turns and len(head) < num_items:
            served, tenant, position = turns[0]
            item = self._lanes[tenant][position][2]
            head.append(item)
            if position + 1 < len(self._lanes[tenant]):
                served += item.length / self._shares.weight(tenant)
                heapq.heapreplace(turns, (served, tenant, position + 1))
            else:
                heapq.heappop(turns)
        return head

    def next_deadline_at(self) -> float:
        """Return the earliest deadline of a waiting item; infinite when none has one."""
        self._forget_departed()
        return self._deadlines[0][0] if self._deadlines else math.inf

    def pop_expired(self, now: float) -> list[Item]:
        """Take out the items whose deadline has passed."""
        expired = []
        while self.next_deadline_at() <= now:
            item = self._deadlines[0][2]
            self.remove(item)
            expired.append(item)
        return expired

    def _forget_departed(self) -> None:
        num_departed = 0
        for entry in self._deadlines:
            if entry[2].state is _WAITING:
                break
            num_departed += 1
        if num_departed:
            del self._deadlines[:num_departed]

    def _left(self, item: Item) -> None:
        item.state = State.DONE
        self._num_items -= 1
        self._num_tokens -= item.length

    def _drop_if_empty(self, tenant: str) -> None:
        if not self._lanes[tenant]:
            del self._lanes[tenant]

    def check_integrity(self) -> None:
        """Assert the invariants: lanes are sorted and not empty, counts agree, every item waits."""
        assert self._num_items == sum(map(len, self._lanes.values()))
        assert self._num_tokens == sum(item.length for item in self)
        assert all(a < b for a, b in pairwise(self._deadlines))
        assert not self._heights or self._num_items == sum(
            h.num_in_first(self._num_items) for h in self._heights.values()
        )
        for tenant, lane in self._lanes.items():
            assert lane, tenant
            assert all(a < b for a, b in pairwise(lane))
            assert all(item.state is State.WAITING and item.tenant == tenant for _, _, item in lane)
