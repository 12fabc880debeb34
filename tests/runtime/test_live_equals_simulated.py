"""The design's proof: a recorded trace makes the same batches in the live dispatcher and in a simulation."""

import csv
import heapq
import math
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from carpool.core import AffineCost, Batch, BatchFormer, Item, Policy, TimeModel, VirtualClock
from carpool.cost.online import AdaptiveCost
from carpool.errors import CarpoolError
from carpool.plan.setup import Setup
from carpool.plan.simulate import Run, simulate
from carpool.plan.stream import Stream
from carpool.runtime.delivery import nothing
from carpool.runtime.dispatcher import Dispatcher, Idle
from carpool.signals.events import BatchRan
from tests.runtime.fakes import Recorder

TRACE = Path(__file__).parent.parent / "data" / "azure_conversation.csv"
COST = AffineCost(overhead_s=0.2, token_s=0.0005)
Signature = tuple[float, str, tuple[int, ...]]


def recorded(deadline_s: float | None) -> Stream:
    """Return the recorded arrivals and lengths; every third item has a deadline, some have priorities and tenants."""
    with TRACE.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    instants = [datetime.fromisoformat(row["TIMESTAMP"][:26]) for row in rows]
    times_s = np.array([(instant - instants[0]).total_seconds() for instant in instants])
    deadlines_s = [deadline_s if number % 3 == 0 else math.inf for number in range(len(rows))]
    return Stream(
        times_s=times_s,
        lengths=np.array([int(row["ContextTokens"]) for row in rows]),
        window_s=float(times_s[-1]),
        priorities=np.arange(len(rows)) % 3 - 1,
        deadlines_s=None if deadline_s is None else np.array(deadlines_s),
        tenants=tuple("ab"[number % 2] for number in range(len(rows))),
    )


def as_items(stream: Stream) -> list[Item]:
    """Return what a live batcher would be handed."""
    items = []
    for number, at in enumerate(stream.times_s.tolist()):
        item = Item(arrived_at=at, length=int(stream.lengths[number]), handle=number)
        if stream.priorities is not None and stream.tenants is not None:
            item.priority, item.tenant = int(stream.priorities[number]), stream.tenants[number]
        if stream.deadlines_s is not None:
            item.deadline_at = at + float(stream.deadlines_s[number])
        items.append(item)
    return items


class VirtualWorkers:
    """Drives a live dispatcher, its real lock, events and delivery included, with a clock held in the hand."""

    def __init__(self, policy: Policy, num_workers: int, believed: TimeModel) -> None:
        self.clock = VirtualClock()
        self.sink = Recorder()
        self.former = BatchFormer(policy, believed, num_workers=num_workers)
        self.dispatcher = Dispatcher(self.former, self.clock, self.sink, lambda _, then=nothing: then())
        self.running: list[tuple[float, int, Batch]] = []  # a heap by the instant of completion
        self.num_idle = num_workers
        self.batches: list[Batch] = []

    def replay(self, items: list[Item]) -> list[Batch]:
        """Let the items arrive and everything run; return the batches in the order of dispatch."""
        arrivals = sorted(items, key=lambda item: item.arrived_at)
        wake_at = float("inf")
        while arrivals or self.running or wake_at < float("inf"):
            done_at = self.running[0][0] if self.running else float("inf")
            expires_at = self.former.next_deadline_at()  # what a live batcher's timekeeper waits for
            now = min(done_at, wake_at, expires_at, arrivals[0].arrived_at if arrivals else float("inf"))
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
    return [(b.dispatched_at, b.reason.value, tuple(sorted(item.handle for item in b.items))) for b in batches]


def simulated_signatures(run: Run) -> list[Signature]:
    """Return the same of a simulation."""
    members: list[list[int]] = [[] for _ in run.reasons]
    for number, batch in enumerate(run.batch_of.tolist()):
        if batch >= 0:
            members[batch].append(number)
    return [
        (at, reason.value, tuple(who))
        for at, reason, who in zip(run.dispatched_at.tolist(), run.reasons, members, strict=True)
    ]


@pytest.mark.parametrize("num_workers", [1, 2])
@pytest.mark.parametrize("deadline_s", [None, 3.0])
@pytest.mark.parametrize(
    "policy",
    [
        Policy(max_batch_size=1),
        Policy(max_batch_size=16),
        Policy(max_batch_size=16, max_wait_s=0.1, length_buckets=(256, 512, 1024, 2048, 4096)),
        Policy(max_batch_size=32, token_budget=8192, max_queue=20, tenant_weights={"a": 2.0}),
        Policy(
            max_batch_size=32, token_budget=8192, max_wait_s=0.1, ragged=True, token_buckets=(1024, 2048, 4096, 8192)
        ),
    ],
    ids=["unbatched", "batched", "waiting", "budgeted", "ragged"],
)
def test_a_recorded_trace_makes_the_same_batches_live_and_simulated(
    policy: Policy, deadline_s: float | None, num_workers: int
) -> None:
    """Instant by instant, reason by reason, member by member."""
    stream = recorded(deadline_s)
    simulated = simulated_signatures(simulate(stream, Setup(policy=policy, num_workers=num_workers), COST))
    live = VirtualWorkers(policy, num_workers, COST)
    assert signatures(live.replay(as_items(stream))) == simulated
    assert len(simulated) >= 300 / policy.max_batch_size / 2
    ran = [event for event in live.sink.events if isinstance(event, BatchRan)]
    assert sorted((e.dispatched_at, e.reason) for e in ran) == sorted((at, why) for at, why, _ in simulated)


def test_a_profile_that_is_corrected_while_serving_makes_the_same_batches_too() -> None:
    """Live and simulated learn the same of a profile that promised twice the speed, and decide by what they learned."""
    stream, policy = recorded(3.0), Policy(max_batch_size=16, max_wait_s=0.1)
    profiles = [AdaptiveCost(AffineCost(overhead_s=0.1, token_s=0.00025)) for _ in range(2)]
    simulated = simulated_signatures(simulate(stream, Setup(policy=policy), COST, believed=profiles[0]))
    live = VirtualWorkers(policy, 1, profiles[1])
    assert signatures(live.replay(as_items(stream))) == simulated
    assert profiles[0].drift == profiles[1].drift == pytest.approx(2.0, rel=0.1)
    last = [event for event in live.sink.events if isinstance(event, BatchRan)][-1]
    assert (last.drift, last.num_drift_batches) == (profiles[1].drift, profiles[1].num_fitted)
