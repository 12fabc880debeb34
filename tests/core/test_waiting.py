"""Whole servers in virtual time: what waiting, deadlines and fairness come to."""

import itertools
from statistics import fmean

import numpy as np
import pytest

from carpool.core import AffineCost, Item, Policy
from tests.core.simulation import Outcome, Simulation

# As measured: 2 ms a call, 0.02 ms an item.
COST = AffineCost(overhead_s=0.002, token_s=0.00002)


def closed_loop(num_clients: int, max_wait_s: float, *, num_workers: int = 1, think_s: float = 0.0002) -> Outcome:
    """Run clients that start one after another, and think for a random time of the given mean."""
    simulation = Simulation(Policy(max_batch_size=64, max_wait_s=max_wait_s), COST, num_workers=num_workers)
    generator = np.random.default_rng(0)

    def send(at: float) -> None:
        simulation.arrive(Item(arrived_at=at), lambda _: send(simulation.clock.now() + generator.exponential(think_s)))

    for client in range(num_clients):
        send(client * 0.0003)
    return simulation.run(until=1.0)


def poisson(rate: float, num_items: int, *, seed: int = 1) -> list[float]:
    """Return Poisson arrivals."""
    return [float(at) for at in np.cumsum(np.random.default_rng(seed).exponential(1 / rate, num_items))]


def open_loop(policy: Policy, cost: AffineCost, arrivals: list[float], *, slack_s: float | None = None) -> Outcome:
    """Run arrivals, each with a deadline where a slack is given."""
    simulation = Simulation(policy, cost)
    for at in arrivals:
        simulation.arrive(Item(arrived_at=at) if slack_s is None else Item(arrived_at=at, deadline_at=at + slack_s))
    return simulation.run()


def test_closed_loop_of_32_clients_is_not_split_into_halves() -> None:
    """Taking what is there runs 16 and 16; waiting for those who come back runs nearly all, and is worth 25 %."""
    greedy, patient = closed_loop(32, 0.0), closed_loop(32, 0.005)
    assert fmean(greedy.sizes[-50:]) == pytest.approx(16, abs=1)
    assert fmean(patient.sizes[-50:]) > 28
    assert patient.rate > 1.25 * greedy.rate


@pytest.mark.parametrize("num_clients", [2, 3, 8, 64, 100])
def test_waiting_helps_every_closed_loop_of_quick_clients(num_clients: int) -> None:
    """From two clients to more than a batch holds."""
    assert closed_loop(num_clients, 0.005).rate > 1.1 * closed_loop(num_clients, 0.0).rate


def test_single_client_waits_for_nobody() -> None:
    """It is as fast as with no wait."""
    assert closed_loop(1, 0.005).latencies_s == closed_loop(1, 0.0).latencies_s


@pytest.mark.parametrize("num_clients", [3, 8, 32, 100])
def test_waiting_costs_slow_clients_little(num_clients: int) -> None:
    """Clients that think for longer than a batch takes lose at most a tenth, where a fixed wait loses far more."""
    assert closed_loop(num_clients, 0.01, think_s=0.003).rate > 0.9 * closed_loop(num_clients, 0.0, think_s=0.003).rate


def test_waiting_with_two_workers_helps_too() -> None:
    """Their completions do not hide each other's returns."""
    patient, greedy = closed_loop(100, 0.005, num_workers=2), closed_loop(100, 0.0, num_workers=2)
    assert patient.rate > 1.1 * greedy.rate


@pytest.mark.parametrize(("utilisation", "most"), [(0.05, 1.001), (0.3, 1.04), (0.8, 1.04)])
def test_poisson_arrivals_are_hardly_made_to_wait(utilisation: float, most: float) -> None:
    """At low load not at all; a timer of 10 ms that always ran would add 24 % and far more."""
    cost = AffineCost(overhead_s=0.001, token_s=0.001)
    arrivals = poisson(utilisation * 8 / cost.time_s(8, 1), 5000)
    patient = open_loop(Policy(max_batch_size=8, max_wait_s=0.01), cost, arrivals)
    greedy = open_loop(Policy(max_batch_size=8), cost, arrivals)
    assert fmean(patient.latencies_s) <= most * fmean(greedy.latencies_s)


@pytest.mark.parametrize("overload", [1.1, 1.5, 2.5])
def test_overload_with_deadlines_keeps_the_goodput_near_capacity(overload: float) -> None:
    """What cannot be done is refused at arrival; batches stay large, and nearly all that was accepted is in time."""
    cost, policy = AffineCost(overhead_s=0.002, token_s=0.0001), Policy(max_batch_size=32)
    capacity = 32 / cost.time_s(32, 1)
    arrivals = poisson(overload * capacity, 5000)
    outcome = open_loop(policy, cost, arrivals, slack_s=0.025)
    in_time = sum(latency_s <= 0.025 for latency_s in outcome.latencies_s)
    assert in_time / outcome.ended_at > 0.93 * capacity
    assert in_time > 0.99 * (len(arrivals) - len(outcome.refused))
    assert len(outcome.answered) + len(outcome.expired) + len(outcome.refused) == len(arrivals)


def test_low_load_with_deadlines_refuses_nobody() -> None:
    """Everything is accepted and in time."""
    cost = AffineCost(overhead_s=0.002, token_s=0.0001)
    outcome = open_loop(Policy(max_batch_size=32), cost, poisson(2000, 3000), slack_s=0.02)
    assert (len(outcome.answered), max(outcome.latencies_s) <= 0.02) == (3000, True)


@pytest.mark.parametrize(("weight", "share"), [(1.0, 1 / 2), (2.0, 2 / 3), (9.0, 9 / 10)])
def test_saturated_tenants_share_by_weight(weight: float, share: float) -> None:
    """Though the other sends twice as much, each gets its part of what is served."""
    policy = Policy(max_batch_size=8, tenant_weights={"a": weight}, patience_s=1e6)
    simulation = Simulation(policy, AffineCost(overhead_s=0.001, token_s=0.001))
    simulation.arrive_all(Item(tenant="abb"[number % 3]) for number in range(3000))
    served = simulation.run(until=0.9).answered
    assert fmean(item.tenant == "a" for item in served) == pytest.approx(share, abs=0.02)


def test_no_item_starves_among_others_of_better_lengths() -> None:
    """A long item under a steady flood of short ones is served when it is the oldest, not at the end."""
    simulation = Simulation(Policy(max_batch_size=8), AffineCost(overhead_s=0.001, token_s=0.0005))
    for burst in range(100):
        simulation.arrive_all(Item(arrived_at=burst * 0.005, length=2) for _ in range(6))
    simulation.arrive(giant := Item(arrived_at=0.05, length=200))
    outcome = simulation.run()
    position = next(index for index, item in enumerate(outcome.answered) if item is giant)
    older = sum(item.arrived_at <= giant.arrived_at for item in outcome.answered)
    assert position <= older + 8


def test_mixed_lengths_leave_in_batches_of_their_own() -> None:
    """Half short and half long: a tenth of the tokens is padding, where order of arrival would pad nearly half."""
    simulation = Simulation(Policy(max_batch_size=16), AffineCost(overhead_s=0.001, token_s=0.0001))
    generator = np.random.default_rng(3)
    simulation.arrive_all(Item(length=int(length)) for length in generator.choice([10, 12, 190, 200], 2000))
    batches = simulation.run().batches
    real = sum(item.length for batch in batches for item in batch.items)
    assert 1 - real / sum(batch.size * batch.length for batch in batches) < 0.1


def test_items_are_answered_once_each_whatever_happens() -> None:
    """Accounts agree: answered, expired and refused are all that arrived."""
    simulation = Simulation(Policy(max_batch_size=4, max_queue=20, max_wait_s=0.01), COST, num_workers=2)
    generator = np.random.default_rng(5)
    arrivals = itertools.accumulate(generator.exponential(0.0004, 2000))
    items = [Item(arrived_at=at, deadline_at=at + generator.exponential(0.01)) for at in map(float, arrivals)]
    simulation.arrive_all(items)
    outcome = simulation.run()
    ended = [id(item) for item in (*outcome.answered, *outcome.expired, *outcome.refused)]
    assert sorted(ended) == sorted(map(id, items))
