"""Other ways to the same figures: what the exact solution is held against."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]


def line(overhead_s: float, item_s: float, cap: int) -> Floats:
    """Return the seconds of batches of 1, ..., cap items that take `overhead_s + item_s b`."""
    return overhead_s + item_s * np.arange(1, cap + 1, dtype=np.float64)


def rate_at(load: float, times_s: Floats) -> float:
    """Return the rate that is such a share of what full batches sustain."""
    return load * len(times_s) / float(times_s[-1])


def cut_off(rate: float, times_s: Floats, num: int) -> tuple[float, float, Floats]:
    """Solve the chain with queues of less than `num` items and no others, by brute force.

    Returns:
        Mean latency, mean batch size, and the probabilities of 0, 1, ... items waiting at completions.
    """
    waiting = np.arange(num)
    sizes = np.minimum(np.maximum(waiting, 1), len(times_s))
    run_s = times_s[sizes - 1]
    arrivals = np.asarray(stats.poisson.pmf(waiting, rate * times_s[:, None]))
    moves = np.zeros((num, num))
    for q in range(num):
        left = max(q, 1) - sizes[q]
        moves[q, left:] = arrivals[sizes[q] - 1, : num - left]
        moves[q, -1] += 1 - moves[q].sum()
    shares = eliminated(moves)
    area = shares @ (np.maximum(waiting, 1) * run_s + rate * run_s**2 / 2)
    cycle_s = shares @ run_s + shares[0] / rate
    return float(area / (rate * cycle_s)), float(shares @ sizes), shares


def eliminated(moves: Floats) -> Floats:
    """Return a chain's stationary probabilities, watching it in ever fewer states (Grassmann, Taksar, Heyman, 1985)."""
    moves, num = moves.copy(), len(moves)
    for k in range(num - 1, 0, -1):
        moves[:k, k] /= moves[k, :k].sum()
        moves[:k, :k] += np.outer(moves[:k, k], moves[k, :k])
    shares = np.ones(num)
    for k in range(1, num):
        shares[k] = shares[:k] @ moves[:k, k]
    stationary: Floats = shares / shares.sum()
    return stationary


def by_roots(rate: float, times_s: Floats) -> tuple[float, float]:
    """Solve the chain by generating functions, for small caps.

    With A_b(z) the arrivals' transform while b items run, the transform of the queue at completions is
    `sum over q < B of p(q) (z^B A_q(z) - z^q A_B(z)) / (z^B - A_B(z))`. It is finite for |z| <= 1, so the numerator is
    0 at each of the denominator's B roots there, one of which is 1, where the whole has to come to 1.

    Source: Bailey, "On queueing processes with bulk service", 1954.

    Returns:
        Mean latency and mean batch size.
    """
    cap, means = len(times_s), rate * times_s
    roots = np.zeros(cap, dtype=complex)
    turns = np.exp(2j * np.pi * np.arange(cap) / cap)
    for _ in range(200):  # Newton on z = turn exp(-load (1 - z)), which holds exactly the roots
        powers = turns * np.exp(-means[-1] / cap * (1 - roots))
        roots -= (roots - powers) / (1 - means[-1] / cap * powers)
    waiting = np.arange(cap)
    mine = means[np.maximum(waiting, 1) - 1]  # mean arrivals while the batch of a queue of q runs
    others = roots[1:, None]  # turn 1 is the root 1
    system = np.vstack([np.exp(-mine * (1 - others)) - others**waiting, mine + cap - waiting - means[-1]])
    below = np.linalg.solve(system, np.append(np.zeros(cap - 1), cap - means[-1])).real
    above = 1 - below.sum()
    spare = cap - means[-1]
    # Second derivatives at 1 give the mean of longer queues.
    square = means[-1] + spare**2
    long = (square * above + below @ (mine + mine**2 - waiting**2)) / (2 * spare)
    run_s, present = times_s[np.maximum(waiting, 1) - 1], np.maximum(waiting, 1)
    items = below @ present + above * cap
    area = below @ (present * run_s + rate * run_s**2 / 2) + long * times_s[-1] + above * rate * times_s[-1] ** 2 / 2
    return float(area / items), float(items)


def many_workers_apart(
    rate: float, times_s: Floats, call_spread: Floats, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Simulate 4,000 servers that know nothing of each other, batch by batch, after some to warm up.

    Returns:
        Mean latency and mean batch size of each group of 400 servers [10].
    """
    waiting = np.zeros(4_000, dtype=np.int64)
    areas, items = np.zeros(4_000), np.zeros(4_000)
    for step in range(300):
        present = np.maximum(waiting, 1)
        sizes = np.minimum(present, len(times_s))
        places = rng.uniform(0, len(call_spread) - 1, len(waiting))
        run_s = times_s[sizes - 1] * np.interp(places, np.arange(len(call_spread)), call_spread)
        arrivals = rng.poisson(rate * run_s)
        if step >= 100:
            # Given their number, the arrivals of a run are spread evenly over it, and wait for half of it on average.
            areas += present * run_s + arrivals * run_s / 2
            items += sizes
        waiting = present - sizes + arrivals
    grouped = items.reshape(10, -1).sum(axis=1)
    return areas.reshape(10, -1).sum(axis=1) / grouped, grouped / (200 * 400)
