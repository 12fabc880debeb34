"""Whether a policy on trial makes things worse, decided in virtual time."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carpool.serve.switchback import (
    ALPHA,
    MOST_EXTENSION,
    Decision,
    Evidence,
    Seen,
    Switchback,
    Trial,
    Verdict,
    slice_length_s,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from carpool.serve.switchback import Instants

Latency = "Callable[[Instants, Instants], Instants]"


def tried(
    *,
    latency_s: Callable[[Instants, np.ndarray, np.random.Generator], Instants],
    rate: float = 200.0,
    seed: int = 0,
    watch_s: float = 60.0,
    share: float = 0.5,
    objectives_s: dict[str, float] | None = None,
) -> tuple[Verdict, float]:
    """Play a trial to its end; return the verdict and the seconds that it took.

    Args:
        latency_s: gives the latency of each arrival, from its instant and whether the new policy is in force then.
        rate: arrivals a second.
        seed: of arrivals, latencies and the lot.
        watch_s: as of the trial.
        share: as of the trial.
        objectives_s: as of the trial.
    """
    chance = np.random.default_rng(seed)
    trial = Trial(
        began_at=0.0,
        share=share,
        watch_s=watch_s,
        slice_s=slice_length_s(watch_s, share, 0.01),
        objectives_s=objectives_s or {},
    )
    switchback = Switchback(trial, lambda: bool(chance.integers(2)))
    horizon_s = MOST_EXTENSION * watch_s + 2 * trial.block_s
    arrived_at = np.sort(chance.uniform(0, horizon_s, chance.poisson(rate * horizon_s)))
    is_new = np.array([switchback.is_new_at(instant) for instant in arrived_at], dtype=bool)
    latencies_s = latency_s(arrived_at, is_new, chance)
    now = 0.0
    while True:
        now = switchback.next_at(now)
        known = arrived_at < now
        verdict = switchback.judge(Seen(arrived_at[known], latencies_s[known]), now)
        if verdict.decision is not Decision.UNDECIDED:
            return verdict, now


def exponential(old_s: float, new_s: float) -> Callable[[Instants, np.ndarray, np.random.Generator], Instants]:
    """Return latencies around a mean for each policy."""

    def latency_s(_arrived_at: Instants, is_new: np.ndarray, chance: np.random.Generator) -> Instants:
        return chance.exponential(np.where(is_new, new_s, old_s))

    return latency_s


@pytest.mark.parametrize("share", [0.5, 0.1])
def test_a_policy_that_is_worse_is_rolled_back_before_the_time_is_up(share: float) -> None:
    """Whether it has half of the time or little; the sentence says what was worse."""
    verdict, took_s = tried(latency_s=exponential(0.01, 0.02), share=share, objectives_s={"p50": 0.005, "p99": 0.03})
    assert verdict.decision is Decision.ROLL_BACK
    assert took_s < 60
    assert "latency was worse in" in verdict.sentence
    old, new = verdict.figures["p50"]
    assert new == pytest.approx(2 * old, rel=0.2)


def test_a_policy_that_does_as_well_is_kept_when_the_time_is_up() -> None:
    """And not before."""
    verdict, took_s = tried(latency_s=exponential(0.01, 0.01))
    assert verdict.decision is Decision.KEEP
    assert 60 <= took_s < 70
    assert "no measure is worse with confidence" in verdict.sentence


def test_a_policy_that_is_better_is_kept() -> None:
    """Being other is not being worse."""
    assert tried(latency_s=exponential(0.02, 0.01))[0].decision is Decision.KEEP


def test_what_keeps_its_promise_is_not_held_against_a_policy() -> None:
    """A latency that is three times as high, and well within what was promised, is what the promise is for."""
    latency_s = exponential(0.01, 0.03)
    assert tried(latency_s=latency_s, objectives_s={"p95": 0.5})[0].decision is Decision.KEEP
    assert tried(latency_s=latency_s, objectives_s={"p95": 0.02})[0].decision is Decision.ROLL_BACK


def test_requests_that_get_no_answer_are_held_against_a_policy() -> None:
    """However fast those are that get one."""

    def latency_s(_arrived_at: Instants, is_new: np.ndarray, chance: np.random.Generator) -> Instants:
        refused = is_new & (chance.random(len(is_new)) < 0.1)
        return np.where(refused, math.inf, np.where(is_new, 0.005, 0.01))

    verdict, _ = tried(latency_s=latency_s)
    assert verdict.decision is Decision.ROLL_BACK
    assert "share missed was worse in" in verdict.sentence


def test_a_burst_is_not_blamed_on_the_policy_that_it_meets() -> None:
    """Ten seconds in which all takes ten times as long, in the midst of the trial, whoever is in force then."""

    def latency_s(arrived_at: Instants, _is_new: np.ndarray, chance: np.random.Generator) -> Instants:
        in_burst = (arrived_at > 20) & (arrived_at < 30)
        return chance.exponential(np.where(in_burst, 0.1, 0.01))

    decisions = [tried(latency_s=latency_s, seed=seed)[0].decision for seed in range(20)]
    assert decisions == [Decision.KEEP] * 20


def test_a_policy_that_is_as_good_is_seldom_taken_for_worse() -> None:
    """At most as often as is allowed, under latencies that wander and bursts that come and go."""

    def latency_s(arrived_at: Instants, _is_new: np.ndarray, chance: np.random.Generator) -> Instants:
        level = np.exp(np.cumsum(chance.normal(0, 0.02, len(arrived_at))))
        return chance.exponential(0.01 * level)

    rolled_back = [
        tried(latency_s=latency_s, seed=seed, rate=50.0)[0].decision is Decision.ROLL_BACK for seed in range(60)
    ]
    assert np.mean(rolled_back) <= 2 * ALPHA  # 5 % of 60 is 3; 7 or more have a chance of 3 %


def test_too_little_traffic_extends_a_trial_and_then_decides_it() -> None:
    """It is kept, and says that nothing can be told."""
    verdict, took_s = tried(latency_s=exponential(0.01, 0.1), rate=2.0)
    assert verdict.decision is Decision.KEEP
    assert took_s >= MOST_EXTENSION * 60
    assert "too few requests to tell: 0 comparisons" in verdict.sentence


def test_a_slow_server_is_given_longer_slices() -> None:
    """Long beside what a request takes, so that each policy answers for its own."""
    assert slice_length_s(60.0, 0.5, 0.001) == 60 * 0.5 / 16
    assert slice_length_s(60.0, 0.5, 1.0) == 10.0
    assert slice_length_s(1.0, 0.1, 0.0) == 0.25


@given(share=st.floats(0.02, 0.5), slice_s=st.floats(0.1, 5.0), lots=st.lists(st.booleans(), min_size=50, max_size=50))
@settings(max_examples=50)
def test_the_policy_on_trial_has_its_share_of_the_time(share: float, slice_s: float, lots: list[bool]) -> None:
    """In slices of one length, each beside an equal one of the policy in force."""
    trial = Trial(began_at=7.0, share=share, watch_s=60.0, slice_s=slice_s)
    switchback = Switchback(trial, iter(lots * 2).__next__)
    now, in_force_s = 7.0, 0.0
    while now < 7.0 + 40 * trial.block_s - slice_s / 2:
        until = switchback.next_at(now)
        assert until > now
        if switchback.is_new_at((now + until) / 2):
            in_force_s += until - now
        now = until
    assert in_force_s / (now - 7.0) == pytest.approx(share, rel=0.02)


def test_the_bettor_has_on_average_what_he_began_with() -> None:
    """Over all courses of a fair coin: an exact sum, which makes the rule valid at any time."""
    for num_pairs in (1, 5, 12):
        wealth = [
            Evidence(num_worse=sum(course), num_better=num_pairs - sum(course)).wealth
            for course in itertools.product((0, 1), repeat=num_pairs)
        ]
        assert np.mean(wealth) == pytest.approx(1.0)
