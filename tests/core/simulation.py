"""A discrete-event simulation of servers that run what a real batch former hands them, in virtual time."""

import heapq
import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from carpool.core import Batch, BatchFormer, Dispatch, Item, Policy, TimeModel, VirtualClock
from carpool.errors import Rejected

Event = tuple[float, int, Callable[[], None]]


@dataclass(slots=True)
class Outcome:
    """What came of a run; `latencies_s` counts answered items from arrival to answer, in order of completion."""

    batches: list[Batch] = field(default_factory=list)
    answered: list[Item] = field(default_factory=list)
    latencies_s: list[float] = field(default_factory=list)
    expired: list[Item] = field(default_factory=list)
    refused: list[Item] = field(default_factory=list)
    ended_at: float = 0.0

    @property
    def sizes(self) -> list[int]:
        """Items in each batch, in the order of dispatch."""
        return [len(batch.items) for batch in self.batches]

    @property
    def rate(self) -> float:
        """Answered items a second."""
        return len(self.answered) / self.ended_at


class Simulation:
    """Drives a `BatchFormer`; executors take exactly what the cost model says.

    Args:
        policy: how batches are formed.
        cost: how long a batch runs.
        num_workers: batches that run at a time.
        believed: what the former believes a batch to cost; the truth where None.
    """

    def __init__(
        self, policy: Policy, cost: TimeModel, *, num_workers: int = 1, believed: TimeModel | None = None
    ) -> None:
        self.former = BatchFormer(policy, believed or cost, num_workers=num_workers)
        self.clock = VirtualClock()
        self.outcome = Outcome()
        self._cost = cost
        self._num_idle = num_workers
        self._events: list[Event] = []
        self._order = itertools.count()
        self._when_answered: dict[int, Callable[[Item], None]] = {}
        self._woken_at = math.inf  # the earliest timer that is set

    def at(self, instant: float, action: Callable[[], None]) -> None:
        """Let something happen at an instant; what happens at one instant happens in the order in which it was said."""
        heapq.heappush(self._events, (instant, next(self._order), action))

    def arrive(self, item: Item, then: Callable[[Item], None] | None = None) -> None:
        """Let an item arrive at its `arrived_at`; `then` is called when it is answered."""
        if then:
            self._when_answered[id(item)] = then
        self.at(item.arrived_at, lambda: self._add(item))

    def arrive_all(self, items: Iterable[Item]) -> None:
        """Let items arrive."""
        for item in items:
            self.arrive(item)

    def closed_loop(self, num_clients: int, think_s: float = 0.0, stagger_s: float = 0.0) -> None:
        """Let clients send, wait for the answer, think, and send again, without end."""

        def send(at: float) -> None:
            self.arrive(Item(arrived_at=at), lambda _: send(self.clock.now() + think_s))

        for client in range(num_clients):
            send(client * stagger_s)

    def _add(self, item: Item) -> None:
        try:
            self.former.add(item, self.clock.now())
        except Rejected:
            self.outcome.refused.append(item)

    def run(self, until: float = math.inf) -> Outcome:
        """Let everything happen up to an instant; arrivals of one instant are seen before a batch is formed."""
        while self._events and self._events[0][0] <= until:
            instant = self._events[0][0]
            self.clock.advance_to(instant)
            while self._events and self._events[0][0] == instant:
                heapq.heappop(self._events)[2]()
            self._let_workers_work()
        self.outcome.ended_at = self.clock.now()
        return self.outcome

    def _let_workers_work(self) -> None:
        now = self.clock.now()
        self.outcome.expired += self.former.expire(now)
        while self._num_idle:
            answer = self.former.poll(now)
            if not isinstance(answer, Dispatch):
                self._wake_at(min(answer.until, self.former.next_deadline_at()))
                return
            self._start(answer.batch)

    def _wake_at(self, instant: float) -> None:
        if instant < math.inf and not self.clock.now() < self._woken_at <= instant:
            self._woken_at = instant
            self.at(instant, lambda: None)

    def _start(self, batch: Batch) -> None:
        self._num_idle -= 1
        self.outcome.batches.append(batch)
        self.at(self.clock.now() + self._cost.time_s(batch.size, batch.length), lambda: self._finish(batch))

    def _finish(self, batch: Batch) -> None:
        now = self.clock.now()
        self._num_idle += 1
        self.former.succeeded(batch, now)
        for item in batch.items:
            self.outcome.answered.append(item)
            self.outcome.latencies_s.append(now - item.arrived_at)
            if then := self._when_answered.pop(id(item), None):
                then(item)


def run_until_done(former: BatchFormer, is_guilty: Callable[[Item], bool], now: float = 0.0) -> tuple[list[Item], int]:
    """Run all that waits; a batch that holds a guilty item fails. Return the items that failed, and the calls made."""
    failed: list[Item] = []
    for num_calls in itertools.count():
        answer = former.poll(now)
        former.check_integrity()
        if not isinstance(answer, Dispatch):
            return failed, num_calls
        if any(is_guilty(item) for item in answer.batch.items):
            failed += former.failed(answer.batch, now)
        else:
            former.succeeded(answer.batch, now)
    raise AssertionError
