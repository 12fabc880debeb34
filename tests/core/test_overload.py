"""Overload in virtual time: goodput stays near capacity, and what is accepted is answered in time."""

import numpy as np
import pytest

from carpool.core import AffineCost, Item, Policy, TimeModel
from carpool.cost.online import AffineEstimator
from tests.core.simulation import Outcome, Simulation

# An item of 50 tokens takes half of what a call takes.
COST = AffineCost(overhead_s=0.002, token_s=0.00002)
POLICY = Policy(max_batch_size=32)
NUM_ITEMS = 12_000


def lengths_of(kind: str, num_items: int) -> list[int]:
    """Return lengths as they come: all the same, any from 5 to 99, of a long tail, or short ones and a few long."""
    rng = np.random.default_rng(2)
    drawn = {
        "one": np.full(num_items, 50),
        "uniform": rng.integers(5, 100, num_items),
        "tailed": np.clip(rng.lognormal(3.5, 0.8, num_items), 4, 512),
        "two kinds": np.where(rng.random(num_items) < 0.8, rng.integers(8, 20, num_items), 300),
    }
    return [int(length) for length in drawn[kind]]


def capacity(kind: str) -> tuple[float, float]:
    """Return the items and the tokens a second of a queue that is never short of items to choose from."""
    simulation = Simulation(Policy(max_batch_size=32, max_queue=10_000), COST)
    simulation.arrive_all(Item(length=length) for length in lengths_of(kind, 4000))
    outcome = simulation.run()
    return outcome.rate, sum(item.length for item in outcome.answered) / outcome.ended_at


def overload(
    kind: str,
    slack_s: float | None,
    *,
    share: float = 1.0,
    tenants: str = "a",
    believed: TimeModel | None = None,
    factor: float = 5.0,
) -> Outcome:
    """Let items arrive at so many times the capacity; the share of them that have one have this deadline."""
    simulation = Simulation(POLICY, COST, believed=believed)
    rng = np.random.default_rng(3)
    times = np.cumsum(rng.exponential(1 / (factor * capacity(kind)[0]), NUM_ITEMS))
    for number, (at, length) in enumerate(zip(times, lengths_of(kind, NUM_ITEMS), strict=True)):
        item = Item(arrived_at=float(at), length=length, tenant=tenants[number % len(tenants)])
        if slack_s is not None and number % 100 < 100 * share:
            item.deadline_at = item.arrived_at + slack_s
        simulation.arrive(item)
    return simulation.run(until=float(times[-1]))


def goodput(outcome: Outcome, kind: str) -> tuple[float, float]:
    """Return the items and the tokens a second that were answered in time, over what the server can do."""
    in_time = [
        item
        for item, latency_s in zip(outcome.answered, outcome.latencies_s, strict=True)
        if item.arrived_at + latency_s <= item.deadline_at
    ]
    items, tokens = capacity(kind)
    ended_at = outcome.ended_at
    return len(in_time) / ended_at / items, sum(item.length for item in in_time) / ended_at / tokens


@pytest.mark.parametrize("kind", ["one", "uniform", "tailed", "two kinds"])
def test_five_times_capacity_without_deadlines_keeps_goodput(kind: str) -> None:
    """The queue fills up, the rest is refused, and the server does what it can."""
    items, tokens = goodput(overload(kind, None), kind)
    assert min(items, tokens) > 0.93


@pytest.mark.parametrize("kind", ["one", "uniform", "tailed", "two kinds"])
def test_five_times_capacity_with_deadlines_keeps_goodput(kind: str) -> None:
    """Batches stay large though somebody's deadline always is near, and what is accepted is in time."""
    outcome = overload(kind, 10 * COST.time_s(32, 50))
    items, tokens = goodput(outcome, kind)
    assert min(items, tokens) > 0.9
    ended = len(outcome.answered) + len(outcome.expired)
    assert len(outcome.expired) < 0.15 * ended  # half of them before the margin was learned


def test_tight_deadlines_leave_little_to_choose_from() -> None:
    """With time for five batches only, mixed lengths cost a tenth: so few wait that lengths match less well."""
    items, tokens = goodput(overload("uniform", 5 * COST.time_s(32, 50)), "uniform")
    assert min(items, tokens) > 0.87


@pytest.mark.parametrize("factor", [1.2, 2.0])
def test_slight_overload_of_mixed_lengths_keeps_goodput(factor: float) -> None:
    """Where most is accepted, it is not cut into small batches either."""
    items, tokens = goodput(overload("uniform", 10 * COST.time_s(32, 50), factor=factor), "uniform")
    assert min(items, tokens) > 0.9


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_several_tenants_under_overload_keep_goodput_and_share_it(share: float) -> None:
    """With deadlines on some of the items, and a cost model that is learned as it goes."""
    outcome = overload("uniform", 10 * COST.time_s(32, 50), share=share, tenants="abcd", believed=AffineEstimator())
    items, tokens = goodput(outcome, "uniform")
    assert min(items, tokens) > 0.88
    served = [sum(item.tenant == tenant for item in outcome.answered) for tenant in "abcd"]
    assert max(served) < 1.15 * min(served)


def test_wide_margin_of_an_overload_does_not_outlast_it() -> None:
    """When load is low again, nobody is refused for what was learned under overload."""
    simulation = Simulation(POLICY, COST)
    rng = np.random.default_rng(4)
    rate, _ = capacity("uniform")
    gaps = np.concatenate([rng.exponential(0.2 / rate, 8000), [0.5], rng.exponential(5 / rate, 1000)])
    for at, length in zip(np.cumsum(gaps), rng.integers(5, 100, len(gaps)), strict=True):
        simulation.arrive(Item(arrived_at=float(at), length=int(length), deadline_at=float(at) + 0.1))
    outcome = simulation.run()
    calm_at = float(gaps[:8001].sum())
    assert sum(item.arrived_at >= calm_at for item in outcome.refused) < 10
