"""A single server against queueing theory: formulas that we did not write."""

import numpy as np
import pytest
from numpy.typing import NDArray

from carpool.core import AffineCost, Item, Policy
from tests.core.simulation import Simulation

OVERHEAD_S, ITEM_S = 1.0, 1.0
COST = AffineCost(overhead_s=OVERHEAD_S, token_s=ITEM_S)
NUM_ITEMS = 5_000


def simulate(rate: float, max_batch_size: int, chances: NDArray[np.float64]) -> tuple[float, float]:
    """Return mean latency and mean batch size of a run of Poisson arrivals, dispatched on idle.

    Args:
        rate: arrivals a second.
        max_batch_size: the cap.
        chances: uniform in (0, 1), one an arrival: where in its distribution each gap lies.
    """
    arrivals = np.cumsum(-np.log(chances) / rate)
    simulation = Simulation(Policy(max_batch_size=max_batch_size, max_queue=NUM_ITEMS), COST)
    simulation.arrive_all(Item(arrived_at=float(at)) for at in arrivals)
    outcome = simulation.run()
    warm = len(outcome.sizes) // 20
    return float(np.mean(outcome.latencies_s[NUM_ITEMS // 20 :])), float(np.mean(outcome.sizes[warm:]))


def interval(rate: float, max_batch_size: int, seed: int) -> NDArray[np.float64]:
    """Return mean and half the 99 % confidence interval of latency and batch size: (2, 2).

    Each of five samples is the mean of two runs on opposite chances, long gaps in one being short in the other: most
    of the noise cancels. Student's t with 4 degrees of freedom is 4.604 there.
    """
    generator = np.random.default_rng(seed)
    samples = []
    for _ in range(5):
        chances = generator.uniform(1e-12, 1.0, NUM_ITEMS)
        pair = [simulate(rate, max_batch_size, chances), simulate(rate, max_batch_size, 1.0 + 1e-12 - chances)]
        samples.append(np.mean(pair, axis=0))
    return np.stack([np.mean(samples, axis=0), 4.604 * np.std(samples, axis=0, ddof=1) / np.sqrt(5)])


def poisson_pmf(mean: float, size: int) -> NDArray[np.float64]:
    """Return P(0), ..., P(size - 1), the rest of the mass in the last."""
    counts = np.arange(size)
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, size)))])
    pmf: NDArray[np.float64] = np.exp(counts * np.log(mean) - mean - log_factorial)
    pmf[-1] += max(0.0, 1 - pmf.sum())
    return pmf


def solve_chain(rate: float, cap: int, size: int = 250) -> tuple[float, float]:
    """Solve the Markov chain on the queue length q at completions; return mean latency and mean batch size.

    A cycle goes from one completion to the next: where q = 0 it begins idle; then `b = min(max(q, 1), cap)`
    run for t(b), while Poisson(rate t(b)) arrive. Mean latency is E[area under the number present] / (rate E[cycle]).
    """
    moves = np.zeros((size, size))
    batch, cycle_s, area = np.zeros(size), np.zeros(size), np.zeros(size)
    for queue in range(size):
        present = max(queue, 1)
        running = min(present, cap)
        run_s = OVERHEAD_S + ITEM_S * running
        left = present - running
        moves[queue, left:] = poisson_pmf(rate * run_s, size - left)
        batch[queue] = running
        cycle_s[queue] = run_s + (1 / rate if queue == 0 else 0.0)
        area[queue] = present * run_s + rate * run_s**2 / 2
    system = np.vstack([moves.T - np.eye(size), np.ones(size)])
    stationary = np.linalg.lstsq(system, np.append(np.zeros(size), 1.0))[0]
    return float(stationary @ area / (rate * (stationary @ cycle_s))), float(stationary @ batch)


@pytest.mark.parametrize(("utilisation", "cap"), [(0.3, 2), (0.8, 2), (0.6, 8), (0.85, 8), (0.7, 64)])
def test_simulated_batches_agree_with_the_markov_chain(utilisation: float, cap: int) -> None:
    """Mean latency and mean batch size lie within the runs' own confidence, which is narrow."""
    rate = utilisation * cap / COST.time_s(cap, 1)
    (latency_s, size), (latency_error, size_error) = interval(rate, cap, cap)
    chain_latency_s, chain_size = solve_chain(rate, cap)
    assert latency_error < 0.1 * latency_s
    assert latency_s == pytest.approx(chain_latency_s, abs=latency_error)
    assert size == pytest.approx(chain_size, abs=size_error)


@pytest.mark.parametrize("utilisation", [0.5, 0.8])
def test_batches_of_one_agree_with_pollaczek_and_khinchine(utilisation: float) -> None:
    """M/D/1: the mean latency is s + rho s / (2 (1 - rho)) for a service of s seconds."""
    service_s = COST.time_s(1, 1)
    (latency_s, _), (error, _) = interval(utilisation / service_s, 1, 1)
    expected_s = service_s + utilisation * service_s / (2 * (1 - utilisation))
    assert error < 0.1 * latency_s
    assert latency_s == pytest.approx(expected_s, abs=error)


@pytest.mark.parametrize("load", [0.3, 0.6])
def test_unbounded_batches_keep_the_bound_of_inoue(load: float) -> None:
    """Mean latency is at most min(phi0, phi1); Inoue, "Queueing analysis of GPU-based inference servers", 2021."""
    rate = load / ITEM_S
    a, c = OVERHEAD_S, ITEM_S
    phi0 = (a + c) / (2 * (1 - load)) * (1 + 2 * rate * a + (1 - rate * a) / (1 + load))
    phi1 = 3 * a / (2 * (1 - load)) + c / 2 * (load + 2) / (1 - load**2)
    (latency_s, _), (error, _) = interval(rate, 4096, 0)
    assert latency_s <= min(phi0, phi1) + error


def test_batches_of_one_agree_with_lindleys_recursion() -> None:
    """On the same arrivals every single latency is that of `finish = max(arrival, finish before) + service`."""
    arrivals = np.cumsum(np.random.default_rng(0).exponential(2.5, 2000))
    simulation = Simulation(Policy(max_batch_size=1), COST)
    simulation.arrive_all(Item(arrived_at=float(at)) for at in arrivals)
    expected, finished_at = [], 0.0
    for at in arrivals:
        finished_at = max(float(at), finished_at) + COST.time_s(1, 1)
        expected.append(finished_at - float(at))
    assert simulation.run().latencies_s == pytest.approx(expected)
