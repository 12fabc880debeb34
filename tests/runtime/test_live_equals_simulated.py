"""The design's proof: a recorded trace makes the same batches in the live dispatcher and in a simulation."""

import csv
import heapq
from datetime import datetime
from pathlib import Path

import pytest

from carpool.core import AffineCost, Batch, BatchFormer, Item, Policy, VirtualClock
from carpool.errors import CarpoolError
from carpool.runtime.dispatcher import Dispatcher, Idle
from carpool.signals.events import BatchRan
from tests.core.simulation import Simulation
from tests.runtime.fakes import Recorder

TRACE = Path(__file__).parent.parent / "data" / "azure_conversation.csv"
COST = AffineCost(overhead_s=0.2, token_s=0.0005)
Signature = tuple[float, str, tuple[float, ...]]


def recorded_items(deadline_s: float | None) -> list[Item]:
    """Return the recorded arrivals and lengths; every third item has a deadline, some have priorities and tenants."""
    with TRACE.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    start = datetime.fromisoformat(rows[0]["TIMESTAMP"][:26])
    items = []
    for number, row in enumerate(rows):
        at = (datetime.fromisoformat(row["TIMESTAMP"][:26]) - start).total_seconds()
        item = Item(arrived_at=at, length=int(row["ContextTokens"]), priority=number % 3 - 1, tenant="ab"[number % 2])
        if deadline_s is not None and number % 3 == 0:
            item.deadline_at = at + deadline_s
        items.append(item)
    return items


class VirtualWorkers:
    """Drives a live dispatcher, its real lock, events and delivery included, with a clock held in the hand."""

    def __init__(self, policy: Policy, num_workers: int) -> None:
        self.clock = VirtualClock()
        self.sink = Recorder()
        former = BatchFormer(policy, COST, num_workers=num_workers)
        self.dispatcher = Dispatcher(former, self.clock, self.sink, lambda _: None)
        self.running: list[tuple[float, int, Batch]] = []  # a heap by the instant of completion
        self.num_idle = num_workers
        self.batches: list[Batch] = []

    def replay(self, items: list[Item]) -> list[Batch]:
        """Let the items arrive and everything run; return the batches in the order of dispatch."""
        arrivals = sorted(items, key=lambda item: item.arrived_at)
        wake_at = float("inf")
        while arrivals or self.running or wake_at < float("inf"):
            done_at = self.running[0][0] if self.running else float("inf")
            now = min(done_at, wake_at, arrivals[0].arrived_at if arrivals else float("inf"))
            self.clock.advance_to(now)
            while self.running and self.running[0][0] == now:
                self.finish(heapq.heappop(self.running)[2])
            while arrivals and arrivals[0].arrived_at == now:
                self.submit(arrivals.pop(0))
            wake_at = self.work()
        return self.batches

    def submit(self, item: Item) -> None:
        """An item arrives; it may be refused."""
        try:
            self.dispatcher.submit_all([item])
        except CarpoolError:
            return

    def finish(self, batch: Batch) -> None:
        """A batch comes back with a result an item."""
        self.num_idle += 1
        self.dispatcher.succeeded(batch, [0] * len(batch.items), worker=0, started_at=batch.dispatched_at)

    def work(self) -> float:
        """Give idle workers what there is; return when to look again."""
        self.dispatcher.expire()
        while self.num_idle:
            answer = self.dispatcher.step()
            if isinstance(answer, Idle):
                return float("inf") if answer.timeout_s is None else self.clock.now() + answer.timeout_s
            assert answer is not None
            self.num_idle -= 1
            self.batches.append(answer)
            done_at = self.clock.now() + COST.time_s(answer.size, answer.length)
            heapq.heappush(self.running, (done_at, answer.batch_id, answer))
        return float("inf")


def signatures(batches: list[Batch]) -> list[Signature]:
    """Return when each batch left, why, and who was in it."""
    return [(b.dispatched_at, b.reason.value, tuple(item.arrived_at for item in b.items)) for b in batches]


@pytest.mark.parametrize("num_workers", [1, 2])
@pytest.mark.parametrize("deadline_s", [None, 3.0])
@pytest.mark.parametrize(
    "policy",
    [
        Policy(max_batch_size=1),
        Policy(max_batch_size=16),
        Policy(max_batch_size=16, max_wait_s=0.1, length_buckets=(256, 512, 1024, 2048, 4096)),
        Policy(max_batch_size=32, token_budget=8192, max_queue=20, tenant_weights={"a": 2.0}),
    ],
    ids=["unbatched", "batched", "waiting", "budgeted"],
)
def test_a_recorded_trace_makes_the_same_batches_live_and_simulated(
    policy: Policy, deadline_s: float | None, num_workers: int
) -> None:
    """Instant by instant, reason by reason, member by member."""
    simulation = Simulation(policy, COST, num_workers=num_workers)
    simulation.arrive_all(recorded_items(deadline_s))
    simulated = signatures(simulation.run().batches)
    live = VirtualWorkers(policy, num_workers)
    assert signatures(live.replay(recorded_items(deadline_s))) == simulated
    assert len(simulated) >= 300 / policy.max_batch_size / 2
    ran = [event for event in live.sink.events if isinstance(event, BatchRan)]
    assert sorted((e.dispatched_at, e.reason) for e in ran) == sorted((at, why) for at, why, _ in simulated)
