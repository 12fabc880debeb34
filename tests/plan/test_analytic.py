"""The exact solution: against closed forms, other methods, plain simulation, and the simulator of plans."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from carpool.core import AffineCost, Policy
from carpool.errors import ConfigError, OutOfRange
from carpool.plan.analytic import best_cap, largest_rate, largest_rate_within, solve, uncapped_latency_bound
from carpool.plan.setup import Setup
from carpool.plan.simulate import simulate
from carpool.plan.stream import Stream
from tests.plan.queues import Floats, by_roots, cut_off, line, many_workers_apart, rate_at

LOADS = st.floats(0.01, 0.97)
TIMES = st.lists(st.floats(0.1, 10.0), min_size=1, max_size=16).map(np.array)
SPREAD = np.array([0.8, 0.95, 1.0, 1.1, 2.5])

# ------------------------------------------------------------------------------------------------- other methods


@given(service_s=st.floats(1e-6, 1e3), load=st.floats(1e-6, 0.9999))
def test_batches_of_one_are_the_queue_of_pollaczek_and_khinchine(service_s: float, load: float) -> None:
    """M/D/1, up to 99.99 % of the largest rate: a mean wait of `rho s / (2 (1 - rho))`, busy for rho of the time."""
    chain = solve(load / service_s, [service_s])
    assert chain.mean_queue_delay_s == pytest.approx(load * service_s / (2 * (1 - load)), rel=1e-10)
    assert chain.mean_latency_s == pytest.approx(chain.mean_queue_delay_s + service_s)
    assert chain.utilisation == pytest.approx(load)
    assert chain.mean_batch_size == pytest.approx(1.0)


@given(load=st.floats(0.01, 0.99))
def test_scattered_calls_of_one_item_are_the_queue_of_pollaczek_and_khinchine(load: float) -> None:
    """M/G/1: a mean wait of `rate E[s^2] / (2 (1 - rho))`, where pieces between quantiles are as likely, and even."""
    low, high = SPREAD[:-1], SPREAD[1:]
    mean, square = float(((low + high) / 2).mean()), float(((low**2 + low * high + high**2) / 3).mean())
    chain = solve(load / mean, [1.0], call_spread=SPREAD.tolist())
    assert chain.mean_queue_delay_s == pytest.approx(load / mean * square / (2 * (1 - load)), rel=1e-10)


def test_pairs_have_a_closed_form() -> None:
    """With cap 2 the one root in (-1, 0) of `z^2 = exp(-a2 (1 - z))` says how 0 waiting compares with 1."""
    rate, times_s = 0.7, np.array([1.0, 1.6])
    single, pair = rate * times_s
    root = optimize.brentq(lambda z: z + np.exp(-pair / 2 * (1 - z)), -1.0, 0.0)
    ratio = (1 - np.exp(-single * (1 - root))) / (np.exp(-single * (1 - root)) - root)  # p(1) / p(0)
    none = (2 - pair) / (single + 2 - pair + ratio * (single + 1 - pair))
    chain = solve(rate, times_s)
    assert chain.queue.below == pytest.approx([none, ratio * none], rel=1e-13)
    assert chain.queue.above == pytest.approx(1 - none - ratio * none, rel=1e-13)


@pytest.mark.parametrize("cap", [1, 2, 3, 8, 13])
@pytest.mark.parametrize("load", [0.2, 0.6, 0.9, 0.99, 0.9999])
def test_it_agrees_with_the_method_of_roots(cap: int, load: float) -> None:
    """Means to ten digits at any load, and to eight where one part in ten thousand is all that is to spare."""
    times_s = line(3.0, 1.0, cap)
    rate = rate_at(load, times_s)
    chain = solve(rate, times_s)
    latency_s, size = by_roots(rate, times_s)
    digits = 1e-10 if load < 0.999 else 1e-8
    assert chain.mean_latency_s == pytest.approx(latency_s, rel=digits)
    assert chain.mean_batch_size == pytest.approx(size, rel=digits)


@settings(max_examples=40)
@given(times_s=TIMES, load=st.floats(0.01, 0.8))
def test_times_of_any_form_agree_with_a_long_table_of_queues(times_s: Floats, load: float) -> None:
    """Batches may take any time, less than smaller ones too: the chain of all queues of less than 128 says the same."""
    rate, num = rate_at(load, times_s), 128
    assume(rate * times_s.max() < 40)  # else so many arrive while one batch runs that the table is too short
    latency_s, size, shares = cut_off(rate, times_s, num)
    chain = solve(rate, times_s)
    assert chain.mean_latency_s == pytest.approx(latency_s, rel=1e-8)
    assert chain.mean_batch_size == pytest.approx(size, rel=1e-8)
    assert chain.queue.lengths(num) == pytest.approx(shares, abs=1e-10)


@pytest.mark.parametrize(("cap", "load"), [(1, 0.6), (4, 0.8), (32, 0.5)])
def test_it_agrees_with_servers_simulated_batch_by_batch(cap: int, load: float) -> None:
    """Scatter included: latency and batch size lie within the 99 % intervals of a simulation that is 20 lines long."""
    times_s = line(3.0, 1.0, cap)
    rate = rate_at(load, times_s) / 1.3
    chain = solve(rate, times_s, call_spread=SPREAD.tolist())
    latencies_s, sizes = many_workers_apart(rate, times_s, SPREAD, np.random.default_rng(cap))
    for groups, exact in ((latencies_s, chain.mean_latency_s), (sizes, chain.mean_batch_size)):
        half = stats.t.ppf(0.995, len(groups) - 1) * stats.sem(groups)
        assert half < 0.01 * exact
        assert groups.mean() == pytest.approx(exact, abs=half + 1e-9)


# ------------------------------------------------------------------------------------------------ the simulator


def simulated(rate: float, cap: int, load: float, seed: int) -> tuple[Floats, Floats]:
    """Run the planner's simulator on one stream; leave out its first tenth, which begins with an empty queue.

    Returns:
        Mean latency, batch size and utilisation [3], and what is known of the same arrivals [2]: how many more there
        were than to expect, and how much longer than the exact mean they would wait for a worker that runs them one by
        one, each in its share of a full batch's time (Lindley).
    """
    num, warm = 3_000, 300
    times_s = np.cumsum(np.random.default_rng([cap, seed]).exponential(1 / rate, num))
    stream = Stream(times_s=times_s, lengths=np.ones(num, dtype=np.int64), window_s=float(times_s[-1]))
    setup = Setup(policy=Policy(max_batch_size=cap, max_queue=num))
    run = simulate(stream, setup, AffineCost(overhead_s=3.0, token_s=1.0))
    batches = np.unique(run.batch_of[warm:])
    busy = run.took_s[batches].sum() / (run.dispatched_at[-1] + run.took_s[-1] - run.dispatched_at[batches[0]])
    figures = np.array([run.latencies_s[warm:].mean(), run.num_items[batches].mean(), busy])
    walk = load / rate * np.arange(1, num + 1) - times_s
    wait_s = (walk - np.minimum.accumulate(walk))[warm:].mean()
    return figures, np.array([num / times_s[-1] / rate - 1, wait_s - load / rate * load / (2 * (1 - load))])


@pytest.mark.parametrize(("utilisation", "cap"), [(0.9, 2), (0.6, 4), (0.9, 8), (0.3, 32)])
def test_the_simulator_agrees_within_one_per_cent(utilisation: float, cap: int) -> None:
    """Latency, batch size and utilisation, 99 % confidence interval included.

    What is known exactly of the same arrivals is regressed out of the 18 runs (control variates), which leaves a small
    part of their noise.
    """
    times_s = line(3.0, 1.0, cap)
    rate = optimize.brentq(
        lambda rate: solve(rate, times_s).utilisation - utilisation, rate_at(1e-3, times_s), rate_at(0.999, times_s)
    )
    chain = solve(rate, times_s)
    runs = [simulated(rate, cap, chain.load, seed) for seed in range(18)]
    known = np.column_stack([np.ones(len(runs)), [controls for _, controls in runs]])
    exact = np.array([chain.mean_latency_s, chain.mean_batch_size, chain.utilisation])
    found, residuals, _, _ = np.linalg.lstsq(known, np.array([figures for figures, _ in runs]) / exact)
    freedom = len(runs) - known.shape[1]
    errors = np.sqrt(np.linalg.inv(known.T @ known)[0, 0] * residuals / freedom)
    halves = stats.t.ppf(0.995, freedom) * errors
    assert (np.abs(found[0] - 1) + halves < 0.01).all(), (found[0], halves)


# -------------------------------------------------------------------------------------------------------- no cap


@settings(max_examples=25)
@given(overhead_s=st.floats(0.01, 8.0), load=st.floats(0.05, 0.9))
def test_without_a_cap_the_mean_batch_says_the_mean_latency(overhead_s: float, load: float) -> None:
    """Times `a + c b`, x = rate c: `W = a (1 + x) + c (1 + x/2) (1 + 2 x rate a) / (1 - x^2)` and a term in `1 / E[b]`.

    It follows from the first two moments of `b = max(arrivals, 1)`, and with `E[b] >= max(1, rate a / (1 - x))` gives
    Inoue's bound, which is exact where the worker is hardly ever idle, and nowhere more than a tenth too high.
    """
    chain = solve(load, line(overhead_s, 1.0, 512))
    a, x = overhead_s, load
    shared_s = a * (1 + x) + (1 + x / 2) * (1 + 2 * x * x * a) / (1 - x**2)
    split_s = (1 + x / 2) * (x * a) ** 2 / (1 - x**2) + x * a**2 / 2
    assert chain.mean_latency_s == pytest.approx(shared_s + split_s / chain.mean_batch_size, rel=1e-9)
    bound_s = uncapped_latency_bound(load, overhead_s, 1.0)
    assert bound_s == pytest.approx(shared_s + split_s / max(1, x * a / (1 - x)))
    assert chain.mean_latency_s <= bound_s * (1 + 1e-12) <= 1.1 * chain.mean_latency_s
    if chain.utilisation > 1 - 1e-9:
        assert chain.mean_latency_s == pytest.approx(bound_s, rel=1e-6)


def test_a_cap_that_is_never_reached_changes_nothing() -> None:
    """Only the queues that there are count: a cap of 4,096 is as quickly solved as one of 64."""
    few, many = (solve(0.5, line(1.0, 1.0, cap)) for cap in (256, 4096))
    assert few.mean_latency_s == pytest.approx(many.mean_latency_s, rel=1e-13)
    assert few.mean_batch_size == pytest.approx(many.mean_batch_size, rel=1e-13)
    assert many.queue.above == 0.0
    assert len(many.queue.below) < 256


# ---------------------------------------------------------------------------------------------------------- laws


@settings(max_examples=40)
@given(times_s=TIMES, load=LOADS)
def test_what_arrives_is_answered(times_s: Floats, load: float) -> None:
    """Nothing was left out that counts: rates balance, and probabilities sum to 1 and say the same means."""
    chain = solve(rate_at(load, times_s), times_s)
    sizes = np.arange(1, len(times_s) + 1)
    assert chain.imbalance < 1e-10
    assert chain.neglected < 1e-14
    assert chain.batch_sizes.sum() == pytest.approx(1.0)
    assert chain.batch_sizes @ sizes == pytest.approx(chain.mean_batch_size)
    assert chain.batch_sizes @ times_s == pytest.approx(chain.mean_compute_s)
    assert chain.rate * chain.mean_compute_s / chain.mean_batch_size == pytest.approx(chain.utilisation)
    taken_s = chain.batch_sizes @ (sizes * times_s) / chain.mean_batch_size
    assert chain.mean_latency_s == pytest.approx(chain.mean_queue_delay_s + taken_s)


@settings(max_examples=40)
@given(times_s=TIMES.map(np.sort), load=st.floats(0.01, 0.9))
def test_more_load_is_a_longer_wait(times_s: Floats, load: float) -> None:
    """And larger batches, where these never take less time."""
    calm, busy = (solve(rate_at(share, times_s), times_s) for share in (load, 1.05 * load))
    assert calm.mean_latency_s < busy.mean_latency_s
    assert calm.mean_batch_size <= busy.mean_batch_size * (1 + 1e-12)
    assert calm.mean_latency_s >= times_s[0]


@settings(max_examples=40)
@given(times_s=TIMES, load=LOADS, factor=st.floats(1e-6, 1e6))
def test_the_unit_of_time_does_not_matter(times_s: Floats, load: float, factor: float) -> None:
    """Seconds or days: the same shares, and latencies that many times as long."""
    rate = rate_at(load, times_s)
    one, other = solve(rate, times_s), solve(rate / factor, times_s * factor)
    assert other.mean_latency_s == pytest.approx(one.mean_latency_s * factor, rel=1e-9)
    assert other.utilisation == pytest.approx(one.utilisation, rel=1e-9)


@pytest.mark.parametrize("cap", [1, 8, 64])
def test_close_to_saturation_the_wait_grows_as_it_must(cap: int) -> None:
    """Full batches all the time: `(1 - load) W` tends to `t(B) / (2 B)`, as for a walk with a variance of B a step."""
    times_s = line(3.0, 1.0, cap)
    for spare in (1e-4, 1e-6, 1e-8):
        chain = solve(rate_at(1 - spare, times_s), times_s)
        assert spare * chain.mean_latency_s == pytest.approx(times_s[-1] / (2 * cap), rel=3 * cap * spare + 1e-7)


def test_tiny_loads_are_batches_of_one() -> None:
    """One arrival in a million batches' time: nobody waits, whatever the cap."""
    for cap in (1, 2, 7, 64):
        times_s = line(1.0, 0.1, cap)
        chain = solve(1e-9, times_s)
        assert chain.mean_latency_s == pytest.approx(times_s[0])
        assert chain.mean_queue_delay_s == pytest.approx(1e-9 * times_s[0] ** 2 / 2, rel=1e-6)


# --------------------------------------------------------------------------------------------------------- rates


def test_full_batches_say_the_largest_rate() -> None:
    """`B / t(B)`; calls that take 10 % longer on average lower it by as much."""
    assert largest_rate([0.1, 0.15]) == pytest.approx(2 / 0.15)
    assert largest_rate([0.1, 0.15], call_spread=[1.0, 1.1, 1.2]) == pytest.approx(2 / 0.165)


def test_the_best_cap_sustains_the_largest_rate() -> None:
    """Beyond 3 items the time doubles; where caps are equal the smaller one does."""
    assert best_cap([0.010, 0.011, 0.012, 0.024]) == 3
    assert best_cap([0.01, 0.02, 0.03]) == 1


@settings(max_examples=30)
@given(times_s=TIMES.map(np.sort), patience=st.floats(1.01, 50.0))
def test_the_largest_rate_within_a_latency_has_that_latency(times_s: Floats, patience: float) -> None:
    """It is kept, and used up."""
    limit_s = patience * float(times_s[0])
    rate = largest_rate_within(limit_s, times_s)
    latency_s = solve(rate, times_s).mean_latency_s
    assert latency_s <= limit_s
    assert latency_s == pytest.approx(limit_s, rel=1e-6)


def test_a_latency_that_nothing_exhausts_is_kept_up_to_the_largest_rate() -> None:
    """A minute for what takes a millisecond."""
    assert largest_rate_within(60.0, [1e-3]) == pytest.approx(1e3, rel=1e-4)
    assert largest_rate_within(60.0, [1e-3]) < 1e3


# ------------------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("rate", "times_s", "message"),
    [
        (10.0, [0.1], "a rate of 10 a second is not below 10, the most that batches of up to 1 item sustain"),
        (0.0, [0.1], "a rate of 0 is not a finite number of items a second above 0"),
        (float("nan"), [0.1], "a rate of nan is not a finite number"),
        (1.0, [], "times_s must be the seconds of batches of 1, 2, ... items"),
        (1.0, [0.1, -0.1], "each a finite number above 0: it is [0.1, -0.1]"),
    ],
)
def test_what_cannot_be_solved_is_refused(rate: float, times_s: list[float], message: str) -> None:
    """With the value, the limit and the remedy."""
    with pytest.raises(ConfigError, match=re.escape(message)):
        solve(rate, times_s)


def test_a_chain_of_too_many_states_is_refused() -> None:
    """A table of ten thousand queues by as many arrivals would not fit into memory."""
    times_s = line(1.0, 1e-4, 10_000)
    with pytest.raises(OutOfRange, match=r"over the limit of 40,000,000: simulate instead"):
        solve(rate_at(0.9, times_s), times_s)


def test_a_latency_below_that_of_one_item_is_refused() -> None:
    """No rate is small enough."""
    with pytest.raises(ConfigError, match="since one item alone takes 100 ms: allow more than that"):
        largest_rate_within(0.1, [0.1, 0.2])


def test_the_bound_is_refused_where_the_queue_has_no_end() -> None:
    """Without a cap, batches of any size take at least `item_s` an item."""
    with pytest.raises(ConfigError, match="a rate of 2 a second is not below 1, which no size of batches reaches"):
        uncapped_latency_bound(2.0, 1.0, 1.0)
