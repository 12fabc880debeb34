"""A server that never runs: the real batch former, driven through a stream of arrivals in virtual time.

What forms the batches here is the very object that forms them in a live server; only the model is replaced, by what
the cost model says that a batch takes. So what is predicted is what is served, batch by batch.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from carpool.core.batch import Batch, Dispatch, Reason
from carpool.core.former import BatchFormer
from carpool.core.item import Item, State
from carpool.errors import InvalidItem, Rejected
from carpool.plan.setup import Setup
from carpool.plan.stream import Stream

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from carpool.core.cost import TimeModel

_NUM_DRAWS = 4096  # of the scatter of calls, drawn at a time


class Outcome(IntEnum):
    """What became of an item."""

    ANSWERED = 0
    """Its batch ran."""
    REFUSED = 1
    """It was not accepted: the queue was full, or its deadline could not be met."""
    EXPIRED = 2
    """Its deadline passed while it waited."""
    LEFT = 3
    """Its client went away before the answer came."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What happened to n items in m batches.

    Args:
        stream: What arrived.
        setup: What served it.
        latencies_s: Arrival to answer of each item, in seconds; NaN where it was not answered [n].
        queue_delay_s: Arrival to dispatch of each; NaN where it never was dispatched [n].
        outcomes: An `Outcome` for each item [n].
        batch_of: The batch that each item ran in, counted from 0; -1 for none [n].
        dispatched_at: When each batch left [m].
        took_s: How long each batch ran [m].
        num_items: Items in each batch [m].
        sizes: Rows that ran, rows of padding included [m].
        padded_lengths: What its items were padded to; of a ragged batch, their mean length [m].
        padded_tokens: Tokens that ran, padding included, rows of padding left out [m].
        real_tokens: Tokens of its items, without padding [m].
        reasons: Why each batch left when it did [m].
    """

    stream: Stream
    setup: Setup
    latencies_s: NDArray[np.float64]
    queue_delay_s: NDArray[np.float64]
    outcomes: NDArray[np.int8]
    batch_of: NDArray[np.int64]
    dispatched_at: NDArray[np.float64]
    took_s: NDArray[np.float64]
    num_items: NDArray[np.int64]
    sizes: NDArray[np.int64]
    padded_lengths: NDArray[np.int64]
    padded_tokens: NDArray[np.int64]
    real_tokens: NDArray[np.int64]
    reasons: tuple[Reason, ...]


def simulate(
    stream: Stream,
    setup: Setup,
    cost: TimeModel,
    *,
    rng: np.random.Generator | None = None,
    believed: TimeModel | None = None,
    call_spread: Sequence[float] = (),
    idle_penalties: Sequence[tuple[float, float]] = (),
    slowdown: float = 1.0,
) -> Run:
    """Let a stream of items arrive, and return what becomes of each; the run ends when the last one is settled.

    Args:
        stream: What arrives.
        setup: The policy and the workers.
        cost: How long a batch runs.
        rng: Draws the scatter of calls; not needed without any.
        believed: What the batch former believes that a batch takes; the same as `cost` where None.
        call_spread: Quantiles, evenly spaced from 0 to 1, of the time of single calls over the median of their shape.
        idle_penalties: Seconds that a worker was idle, and seconds that its next batch takes longer for that, both
            rising; in between in proportion.
        slowdown: Every batch takes so many times as long as `cost` says.

    Example:
        >>> from carpool.core import AffineCost
        >>> from carpool.plan.setup import Setup
        >>> from carpool.plan.stream import Stream
        >>> stream = Stream(times_s=np.array([0.0, 0.1, 0.2]), lengths=np.ones(3, np.int64), window_s=1.0)
        >>> run = simulate(stream, Setup(), AffineCost(overhead_s=1.0, token_s=0.5))
        >>> run.num_items.tolist(), run.latencies_s.round(3).tolist()
        ([1, 2], [1.5, 3.4, 3.3])
    """
    pace = _Pace(cost, Factors(call_spread, slowdown, rng), tuple(idle_penalties))
    return _Simulation(stream, setup, believed or cost, pace).run()


class Factors:
    """What the predicted time of each batch, or step, is multiplied by, one after another.

    Args:
        call_spread: Quantiles, evenly spaced from 0 to 1, of the time of single calls over the median of their shape.
        slowdown: A factor for all of them.
        rng: Draws the scatter; not needed without any.
    """

    def __init__(self, call_spread: Sequence[float], slowdown: float, rng: np.random.Generator | None) -> None:
        assert rng is not None or not len(call_spread), "scatter has to be drawn from something"
        self._spread = np.asarray(call_spread, dtype=np.float64)
        self._slowdown = slowdown
        self._rng = rng
        self._drawn: list[float] = []

    def next(self) -> float:
        """Return the next one."""
        if not self._drawn:
            self._drawn = self._draw()
        return self._drawn.pop()

    def _draw(self) -> list[float]:
        if self._rng is None or not len(self._spread):
            return [self._slowdown] * _NUM_DRAWS
        places = self._rng.random(_NUM_DRAWS) * (len(self._spread) - 1)
        factors = np.interp(places, np.arange(len(self._spread)), self._spread)
        drawn: list[float] = (factors * self._slowdown).tolist()
        return drawn


class _Pace:
    """How long batches take."""

    def __init__(self, cost: TimeModel, factors: Factors, idle_penalties: tuple[tuple[float, float], ...]) -> None:
        self._cost = cost
        self._factors = factors
        self._penalties = ((0.0, 0.0), *idle_penalties)

    def took_s(self, batch: Batch, idle_s: float) -> float:
        """Return the seconds of a batch on a worker that was idle for so long before it."""
        return (self._cost.time_s(batch.size, batch.length) + self._extra_s(idle_s)) * self._factors.next()

    def _extra_s(self, idle_s: float) -> float:
        last_s, most_s = self._penalties[-1]
        if idle_s >= last_s or not idle_s:
            return most_s if idle_s else 0.0
        (low_s, less_s), (high_s, more_s) = next(pair for pair in pairwise(self._penalties) if idle_s < pair[1][0])
        return less_s + (more_s - less_s) * (idle_s - low_s) / (high_s - low_s)


@dataclass(slots=True)
class _Log:
    """One entry for each batch, in the order of dispatch."""

    dispatched_at: list[float] = field(default_factory=list)
    took_s: list[float] = field(default_factory=list)
    num_items: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    padded_lengths: list[int] = field(default_factory=list)
    padded_tokens: list[int] = field(default_factory=list)
    reasons: list[Reason] = field(default_factory=list)
    members: list[int] = field(default_factory=list)  # the items of all batches, one batch after another

    def note(self, batch: Batch, took_s: float) -> None:
        items = batch.items
        self.dispatched_at.append(batch.dispatched_at)
        self.took_s.append(took_s)
        self.num_items.append(len(items))
        self.sizes.append(batch.size)
        self.padded_lengths.append(batch.length)
        self.padded_tokens.append(batch.num_tokens)
        self.reasons.append(batch.reason)
        self.members += [item.handle for item in items]


class _Simulation:
    """Drives a `BatchFormer`; an item's `handle` is its number in the stream.

    At one instant batches come back first, then clients go away, then items arrive, and then batches leave.
    """

    def __init__(self, stream: Stream, setup: Setup, believed: TimeModel, pace: _Pace) -> None:
        self._stream = stream
        self._setup = setup
        self._former = BatchFormer(setup.policy, believed, num_workers=setup.num_workers)
        self._pace = pace
        self._items = _items(stream)
        self._next_item = next(self._items, None)
        self._patience_s = None if stream.patience_s is None else stream.patience_s.tolist()
        self._idle_since = deque([-math.inf] * setup.num_workers)  # of each idle worker; who waits longest goes first
        self._running: list[tuple[float, int, Batch]] = []  # a heap by the instant of completion
        self._leaving: list[tuple[float, int, Item]] = []  # a heap by the instant at which the client has had enough
        self._outcomes = bytearray(len(stream))
        self._log = _Log()
        self._has_deadlines = stream.deadlines_s is not None
        self._shortest_s = _shortest(stream)

    def run(self) -> Run:
        wake_at = math.inf
        while (now := self._next_event_at(wake_at)) < math.inf:
            self._let_arrive(now, including=False)
            self._let_finish(now)
            self._let_leave(now)
            self._let_arrive(now, including=True)
            self._let_expire(now)
            wake_at = self._let_work(now)
        return _settled(self._stream, self._setup, self._outcomes, self._log)

    def _next_event_at(self, wake_at: float) -> float:
        event_at = wake_at
        if self._running:
            event_at = min(event_at, self._running[0][0])
        if self._next_item is not None:
            # While every worker is busy, items just join the queue: nothing happens before the first could leave it.
            event_at = min(event_at, self._next_item.arrived_at + (0.0 if self._idle_since else self._shortest_s))
        if self._leaving:
            event_at = min(event_at, self._leaving[0][0])
        if self._has_deadlines:
            event_at = min(event_at, self._former.next_deadline_at())
        return event_at

    def _let_arrive(self, now: float, *, including: bool) -> None:
        """Let items join the queue that arrive before an instant, or at it too."""
        add = self._former.add
        while (item := self._next_item) is not None and (
            item.arrived_at < now or (including and item.arrived_at == now)
        ):
            self._next_item = next(self._items, None)
            try:
                add(item, item.arrived_at)
            except (Rejected, InvalidItem):
                self._outcomes[item.handle] = Outcome.REFUSED
                continue
            if self._patience_s is not None and self._patience_s[item.handle] < math.inf:
                leaves_at = item.arrived_at + self._patience_s[item.handle]
                heapq.heappush(self._leaving, (leaves_at, item.handle, item))

    def _let_finish(self, now: float) -> None:
        while self._running and self._running[0][0] == now:
            batch = heapq.heappop(self._running)[2]
            self._idle_since.append(now)
            self._former.succeeded(batch, now)

    def _let_leave(self, now: float) -> None:
        """Withdraw items whose client has gone; one that runs goes on, and its answer finds nobody."""
        while self._leaving and self._leaving[0][0] == now:
            item = heapq.heappop(self._leaving)[2]
            if self._former.cancel(item) or item.state is State.RUNNING:
                self._outcomes[item.handle] = Outcome.LEFT

    def _let_expire(self, now: float) -> None:
        if self._has_deadlines:
            for item in self._former.expire(now):
                self._outcomes[item.handle] = Outcome.EXPIRED

    def _let_work(self, now: float) -> float:
        """Give idle workers what there is; return when to look again."""
        while self._idle_since:
            answer = self._former.poll(now)
            if not isinstance(answer, Dispatch):
                return answer.until
            batch = answer.batch
            took_s = self._pace.took_s(batch, now - self._idle_since.popleft())
            self._log.note(batch, took_s)
            heapq.heappush(self._running, (now + took_s, batch.batch_id, batch))
        return math.inf


def _shortest(stream: Stream) -> float:
    """Return the shortest time in which an item may expire, or its client go away; infinite where neither can be."""
    limits = [
        limit_s.min() for limit_s in (stream.deadlines_s, stream.patience_s) if limit_s is not None and len(stream)
    ]
    return float(min(limits, default=math.inf))


def _items(stream: Stream) -> Iterator[Item]:
    """Make the items one by one, as they arrive: a million of them need not be there at once."""
    nothing: list[None] = [None] * len(stream)
    priorities = nothing if stream.priorities is None else stream.priorities.tolist()
    deadlines_s = nothing if stream.deadlines_s is None else stream.deadlines_s.tolist()
    tenants = nothing if stream.tenants is None else stream.tenants
    values = zip(stream.times_s.tolist(), stream.lengths.tolist(), priorities, deadlines_s, tenants, strict=True)
    for number, (at, length, priority, deadline_s, tenant) in enumerate(values):
        item = Item(arrived_at=at, length=length, handle=number)
        if priority is not None:
            item.priority = priority
        if deadline_s is not None:
            item.deadline_at = at + deadline_s
        if tenant is not None:
            item.tenant = tenant
        yield item


def _settled(stream: Stream, setup: Setup, outcomes: bytearray, log: _Log) -> Run:
    """Work out each item's times from the batch that it was in."""
    num_items = np.array(log.num_items, dtype=np.int64)
    members = np.array(log.members, dtype=np.int64)
    batch_of = np.full(len(stream), -1, dtype=np.int64)
    batch_of[members] = np.repeat(np.arange(len(num_items)), num_items)
    dispatched_at, took_s = np.array(log.dispatched_at), np.array(log.took_s)
    delays_s, latencies_s = np.full(len(stream), np.nan), np.full(len(stream), np.nan)
    delays_s[members] = np.repeat(dispatched_at, num_items) - stream.times_s[members]
    latencies_s[members] = delays_s[members] + np.repeat(took_s, num_items)
    settled = np.frombuffer(outcomes, dtype=np.int8)
    latencies_s[settled != Outcome.ANSWERED] = np.nan
    starts = np.cumsum(num_items) - num_items
    return Run(
        stream=stream,
        setup=setup,
        latencies_s=latencies_s,
        queue_delay_s=delays_s,
        outcomes=settled,
        batch_of=batch_of,
        dispatched_at=dispatched_at,
        took_s=took_s,
        num_items=num_items,
        sizes=np.array(log.sizes, dtype=np.int64),
        padded_lengths=np.array(log.padded_lengths, dtype=np.int64),
        padded_tokens=np.array(log.padded_tokens, dtype=np.int64),
        real_tokens=np.add.reduceat(stream.lengths[members], starts) if len(starts) else starts,
        reasons=tuple(log.reasons),
    )
