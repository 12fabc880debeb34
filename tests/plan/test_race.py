"""Comparing setups: noise decides nothing, what can't be told apart goes to the simpler."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from carpool.core.policy import Policy
from carpool.plan.figures import Figures
from carpool.plan.race import ROUNDS, Race, complexity, surely
from carpool.plan.setup import Setup
from carpool.signals.objective import Objective

FIGURES = Figures(
    offered=1.0,
    throughput=1.0,
    goodput=1.0,
    attainment=1.0,
    mean_batch_size=1.0,
    fill_ratio=1.0,
    padding_waste=0.0,
    utilisation=0.5,
    mean_s=1.0,
    p50_s=1.0,
    p95_s=1.0,
    p99_s=1.0,
    queue_delay_s=0.5,
    compute_s=0.5,
    refused=0.0,
    expired=0.0,
    at_objectives_s=(),
    shares_within=(),
    grows=False,
)
SMALL, LARGE, WAITING = (
    Setup(policy=Policy(max_batch_size=size, max_wait_s=wait_s)) for size, wait_s in ((2, 0.0), (8, 0.0), (8, 0.01))
)


class Luck:
    """Windows of setups with a known mean latency: luck that all share, and luck of each their own."""

    def __init__(self, mean_s: dict[int, float], *, shared: float = 0.5, own: float = 0.0, seed: int = 0) -> None:
        self.mean_s = mean_s
        self.shared, self.own, self.seed = shared, own, seed
        self.num_simulated = 0

    def __call__(self, setup: Setup, number: int) -> Figures:
        """Simulate one window."""
        self.num_simulated += 1
        which = [SMALL, LARGE, WAITING].index(setup)
        common = np.random.default_rng((self.seed, number)).normal()
        mine = np.random.default_rng((self.seed, number, which)).normal()
        return replace(FIGURES, mean_s=float(self.mean_s[which] * np.exp(self.shared * common + self.own * mine)))


def race(luck: Luck, *setups: Setup, objectives: tuple[Objective, ...] = ()) -> Race:
    """Run a race to its end."""
    found = Race(luck, objectives)
    found.enter(setups)
    found.run()
    return found


def test_luck_that_all_share_hides_no_difference() -> None:
    """Windows differ by a factor of e; a setup that is 10 % better in each of them is seen to be so at once."""
    luck = Luck({0: 1.1, 1: 1.0}, shared=1.0)
    assert [one.setup for one in race(luck, SMALL, LARGE).ties] == [LARGE]
    assert luck.num_simulated == 2 * ROUNDS[0]


@pytest.mark.parametrize("seed", range(20))
def test_equal_setups_tie_whatever_their_luck(seed: int) -> None:
    """With the same mean the simplest is first among the ties, though its luck may be the worst."""
    ties = race(Luck({0: 1.0, 1: 1.0, 2: 1.0}, own=0.02, seed=seed), WAITING, LARGE, SMALL).ties
    assert ties[0].setup == SMALL


def test_a_difference_that_is_too_small_goes_to_the_simpler() -> None:
    """A latency that surely is 2 % lower is not worth waiting, or larger batches."""
    assert race(Luck({0: 1.02, 1: 1.0}), SMALL, LARGE).ties[0].setup == SMALL


def test_the_better_is_found_through_noise_by_more_windows() -> None:
    """What 4 windows leave open in some cases, 16 decide."""
    lucks = [Luck({0: 1.15, 1: 1.0}, own=0.05, seed=seed) for seed in range(10)]
    assert all(race(luck, SMALL, LARGE).ties[0].setup == LARGE for luck in lucks)
    assert max(luck.num_simulated for luck in lucks) > 2 * ROUNDS[0]


def test_who_is_surely_as_good_is_not_simulated_again() -> None:
    """Only what is still open costs windows."""
    luck = Luck({0: 1.0, 1: 1.0, 2: 1.0})
    race(luck, SMALL, LARGE, WAITING)
    assert luck.num_simulated == 3 * ROUNDS[0]


def test_sizes_that_are_never_reached_are_not_simulated_on() -> None:
    """They do the very same as the smallest of them, with which they tie, while the others are told apart."""
    seen: list[int] = []

    def simulate(setup: Setup, number: int) -> Figures:
        size = setup.policy.max_batch_size
        seen.append(size)
        own = np.random.default_rng((number, size == 2)).normal()
        return replace(FIGURES, mean_s=float(np.exp(0.1 * own)), fill_ratio=1 / size)

    found = Race(simulate)
    found.enter([Setup(policy=Policy(max_batch_size=size)) for size in (16, 2, 8, 4)])
    found.run()
    assert seen.count(4) == seen.count(2) > ROUNDS[0]
    assert seen.count(8) == seen.count(16) == ROUNDS[0]
    assert [one.setup.policy.max_batch_size for one in found.ties] == [2, 4, 8, 16]


def test_more_within_the_objectives_goes_before_less_latency() -> None:
    """A setup that keeps more of what arrives within the objectives wins over one with a lower percentile."""

    def simulate(setup: Setup, _: int) -> Figures:
        many = setup == LARGE
        return replace(FIGURES, attainment=0.99 if many else 0.9, at_objectives_s=(2.0 if many else 1.0,))

    found = Race(simulate, (Objective(0.99, 1.0),))
    found.enter([SMALL, LARGE])
    found.run()
    assert [one.setup for one in found.ties] == [LARGE]


def test_a_window_in_which_nothing_is_answered_is_worse_than_any() -> None:
    """Infinite latencies are compared like others."""

    def simulate(setup: Setup, _: int) -> Figures:
        return FIGURES if setup == LARGE else replace(FIGURES, mean_s=float("inf"))

    found = Race(simulate)
    found.enter([SMALL, LARGE])
    found.run()
    assert [one.setup for one in found.ties] == [LARGE]


def test_who_joins_later_meets_the_same_windows() -> None:
    """A setup that joins a race is compared in the windows that the others have met."""
    luck = Luck({0: 1.0, 1: 1.0, 2: 0.8}, shared=1.0)
    found = race(luck, SMALL, LARGE)
    found.enter([SMALL, WAITING])
    found.run()
    assert [one.setup for one in found.ties] == [WAITING]
    assert len(found.contenders) == 3


def test_simplicity_counts_workers_then_knobs_then_size() -> None:
    """Fewer workers, no wait, no token budget, no padding, smaller batches: in this order."""
    large = Policy(max_batch_size=64)
    simplest_first = [
        Setup(policy=Policy(max_batch_size=1)),
        Setup(policy=large),
        Setup(policy=replace(large, length_buckets=(8, 16))),
        Setup(policy=replace(large, token_budget=512)),
        Setup(policy=replace(large, max_wait_s=0.001)),
        Setup(policy=Policy(max_batch_size=1), num_workers=2),
    ]
    mixed = [simplest_first[index] for index in (3, 0, 5, 2, 4, 1)]
    assert sorted(mixed, key=complexity) == simplest_first


def test_of_batch_sizes_the_one_nearest_the_knee_is_simplest() -> None:
    """A larger one carries a surge and costs nothing until then; no batching is simpler than any."""
    sizes = [Setup(policy=Policy(max_batch_size=size)) for size in (1, 2, 8, 32, 64)]
    ordered = sorted(sizes, key=lambda setup: complexity(setup, 30))
    assert [setup.policy.max_batch_size for setup in ordered] == [1, 32, 64, 8, 2]


def test_sure_means_sure() -> None:
    """Differences of pure noise are called sure about as often as the confidence allows: one time in ten."""
    rng = np.random.default_rng(0)
    wrong = sum(surely(rng.normal(size=8)) != 0 for _ in range(2000))
    assert wrong / 2000 == pytest.approx(0.1, abs=0.02)


def test_one_window_says_nothing() -> None:
    """There is no interval from one value."""
    assert surely([5.0]) == 0
