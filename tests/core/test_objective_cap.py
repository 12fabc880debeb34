"""The cap on the time of a batch: it keeps objectives, keeps up with what arrives, and keeps still."""

import itertools

import numpy as np
import pytest

from carpool.core import AffineCost, BatchFormer, Item, Policy, Reason, TimeModel
from carpool.core.objective_cap import ObjectiveCap, longest_batch_s
from carpool.cost.online import AdaptiveCost, AffineEstimator
from carpool.errors import ConfigError
from tests.core.simulation import Outcome, Simulation

# Slow, so that an hour of virtual time is some thousand batches: half a second a call, a tenth an item.
COST = AffineCost(overhead_s=0.5, token_s=0.1)
MOST = 64
FULL_RATE = MOST / COST.time_s(MOST, 1)
OBJECTIVE_S = 5.0
POLICY = Policy(max_batch_size=MOST, objectives_s={"p99": OBJECTIVE_S})


class Scattered:
    """Takes what another model says, times a lognormal factor; and from some call on so many times as long."""

    def __init__(self, cost: TimeModel, *, slower_from: int = 10**9, slower: float = 1.0) -> None:
        self._cost = cost
        self._rng = np.random.default_rng(8)
        self._num_calls = 0
        self._slower_from, self._slower = slower_from, slower

    def time_s(self, batch_size: int, length: int) -> float:
        """Return how long the next batch takes."""
        self._num_calls += 1
        factor = self._slower if self._num_calls > self._slower_from else 1.0
        return self._cost.time_s(batch_size, length) * factor * float(np.exp(self._rng.normal(0.0, 0.05)))


def poisson(rate: float, duration_s: float, seed: int = 0) -> list[float]:
    """Return Poisson arrivals."""
    times = np.cumsum(np.random.default_rng(seed).exponential(1 / rate, int(1.2 * rate * duration_s) + 50))
    return [float(at) for at in times if at < duration_s]


def within(outcome: Outcome) -> int:
    """Count the answers within the objective."""
    return sum(latency_s <= OBJECTIVE_S for latency_s in outcome.latencies_s)


def cap_of(former: BatchFormer) -> ObjectiveCap:
    """Return the cap of a former that has one."""
    assert former.budget.cap is not None
    return former.budget.cap


def test_a_share_of_each_objective_is_left_to_the_batch() -> None:
    """What waits behind a batch and then runs for as long is in time at its quantile."""
    assert longest_batch_s({"p50": 3.0}) == 2.0
    assert longest_batch_s({"p95": 3.9, "p50": 9.0}) == pytest.approx(2.0)
    assert longest_batch_s({}) == float("inf")


@pytest.mark.parametrize("objectives_s", [{"p0": 1.0}, {"p100": 1.0}, {"fast": 1.0}, {"p99": 0.0}, {"p50": -1.0}])
def test_objectives_that_are_none_are_refused(objectives_s: dict[str, float]) -> None:
    """With the name and the value."""
    with pytest.raises(ConfigError, match="objectives_s"):
        Policy(objectives_s=objectives_s)


def test_without_an_objective_nothing_is_capped() -> None:
    """A full batch leaves, however long it takes."""
    former = BatchFormer(Policy(max_batch_size=MOST), COST)
    assert (former.budget.cap, former.budget.most_items(1)) == (None, (MOST, Reason.FULL))


def test_a_burst_leaves_in_batches_that_keep_the_objective() -> None:
    """Sixty at once take 6.5 s together, where the first two batches of capped ones are in time."""
    capped, free = Simulation(POLICY, COST), Simulation(Policy(max_batch_size=MOST), COST)
    for simulation in (capped, free):
        simulation.arrive_all(Item() for _ in range(60))
    sizes = capped.run().sizes
    assert max(COST.time_s(size, 1) for size in sizes) <= OBJECTIVE_S / 1.99
    assert {batch.reason for batch in capped.outcome.batches[:-1]} == {Reason.BUDGET}
    assert (within(capped.outcome), within(free.run())) == (2 * sizes[0], 0)


def test_longer_items_are_capped_to_fewer() -> None:
    """It is time that is bounded."""
    former = BatchFormer(POLICY, COST)
    assert [former.budget.most_items(length)[0] for length in (1, 5, 100)] == [20, 4, 1]


@pytest.mark.parametrize("believed", ["truth", "learned", "corrected"])
@pytest.mark.parametrize("utilisation", [0.2, 0.4, 0.55, 0.7, 0.85, 0.95])
def test_it_keeps_still_for_an_hour_of_steady_load(utilisation: float, believed: str) -> None:
    """After the first ten minutes it never changes, whatever the load, with calls that scatter by 5 %.

    A model that was never told what a batch of twenty takes, and sees none, guesses that a little anew at times.
    """
    models: dict[str, TimeModel] = {"truth": COST, "learned": AffineEstimator(), "corrected": AdaptiveCost(COST)}
    simulation = Simulation(POLICY, Scattered(COST), believed=models[believed])
    for at in poisson(utilisation * FULL_RATE, 3600.0):
        simulation.arrive(Item(arrived_at=at))
    simulation.run(until=600.0)
    before = cap_of(simulation.former).num_changes
    simulation.run(until=3600.0)
    assert cap_of(simulation.former).num_changes - before <= (2 if believed == "learned" else 0)


def test_a_model_that_slows_down_is_followed_within_fifty_batches() -> None:
    """Twice as slow: batches are held to the same time, and so to fewer items."""
    simulation = Simulation(POLICY, Scattered(COST, slower_from=100, slower=2.0), believed=AdaptiveCost(COST))
    simulation.arrive_all(Item(arrived_at=float(at)) for at in range(0, 6000, 40) for _ in range(21))
    sizes = simulation.run().sizes
    assert max(sizes[:100]) == pytest.approx(20, abs=2)
    assert max(sizes[150:]) == pytest.approx(7.5, abs=1.5)


@pytest.mark.parametrize("utilisation", [0.5, 0.7, 0.8, 0.9])
def test_steady_load_loses_no_goodput_by_it(utilisation: float) -> None:
    """Where capped batches would not keep up, they are let grow."""
    arrivals = poisson(utilisation * FULL_RATE, 1500.0, seed=1)
    outcomes = []
    for policy in (POLICY, Policy(max_batch_size=MOST)):
        simulation = Simulation(policy, COST)
        simulation.arrive_all(Item(arrived_at=at) for at in arrivals)
        outcomes.append(simulation.run())
    capped, free = outcomes
    assert within(capped) >= 0.97 * within(free)


@pytest.mark.parametrize("slack_s", [None, 20.0])
def test_overload_loses_no_goodput_by_it(slack_s: float | None) -> None:
    """At five times capacity, with deadlines and without, as much is answered as without an objective."""
    outcomes = []
    for policy in (POLICY, Policy(max_batch_size=MOST)):
        simulation = Simulation(policy, COST)
        for at in poisson(5 * FULL_RATE, 400.0, seed=2):
            simulation.arrive(Item(arrived_at=at, deadline_at=at + slack_s if slack_s else float("inf")))
        outcomes.append(simulation.run(until=400.0))
    capped, free = outcomes
    assert len(capped.answered) > 0.97 * len(free.answered)


def test_a_sudden_overload_is_not_held_to_what_is_lost() -> None:
    """When calm has gone before, the rate says nothing yet: batches of items that are all too late are full."""
    simulation = Simulation(POLICY, COST)
    calm = poisson(0.2 * FULL_RATE, 1500.0)
    simulation.arrive_all(Item(arrived_at=at) for at in calm)
    simulation.arrive_all(Item(arrived_at=1500.0) for _ in range(700))
    simulation.run(until=1500.0)
    before = len(simulation.outcome.batches)
    batches = simulation.run().batches[before:]
    sizes = [len(batch.items) for batch in batches if batch.dispatched_at > 1500.0 + OBJECTIVE_S]
    assert set(sizes[:-1]) == {MOST}


def test_a_closed_loop_ends_at_full_batches() -> None:
    """Clients that wait for their answers arrive as slowly as they are served; they get batches of all the same."""
    simulation = Simulation(POLICY, COST)
    simulation.closed_loop(64, stagger_s=0.01)
    outcome = simulation.run(until=2500.0)
    assert outcome.sizes[-1] > 28  # waiting for nobody, half of a closed loop runs while the other half waits


def test_an_overload_that_ends_lowers_it_again() -> None:
    """Once a thousand items have arrived at a low rate."""
    simulation = Simulation(POLICY, COST)
    overload, calm = poisson(2 * FULL_RATE, 300.0), [300.0 + at for at in poisson(0.1 * FULL_RATE, 3000.0)]
    simulation.arrive_all(Item(arrived_at=at) for at in itertools.chain(overload, calm))
    simulation.run(until=300.0)
    assert cap_of(simulation.former).limit_s == float("inf")
    simulation.run()
    assert cap_of(simulation.former).limit_s == pytest.approx(OBJECTIVE_S / 1.99)
