"""The simulator: nothing is lost, workers are never shared, and the same seed gives the same run."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carpool.core import AffineCost, Policy
from carpool.plan.setup import Setup
from carpool.plan.simulate import Outcome, Run, simulate
from carpool.plan.stream import Stream

COST = AffineCost(overhead_s=1.0, token_s=0.1)


def stream_of(*times_s: float, window_s: float = 100.0, **columns: list[float] | list[int]) -> Stream:
    """Return items of length 1, with whatever else is given."""
    lengths = columns.pop("lengths", [1] * len(times_s))
    given = {name: np.array(values) for name, values in columns.items()}
    return Stream(times_s=np.array(times_s), lengths=np.array(lengths), window_s=window_s, **given)  # type: ignore[arg-type]


def test_items_that_wait_together_leave_together() -> None:
    """One item finds an idle worker; the two that come while it runs share the next batch."""
    run = simulate(stream_of(0.0, 0.2, 0.4), Setup(), COST)
    assert run.batch_of.tolist() == [0, 1, 1]
    assert run.dispatched_at.tolist() == [0.0, 1.1]
    assert run.latencies_s.tolist() == pytest.approx([1.1, 2.1, 1.9])
    assert run.queue_delay_s.tolist() == pytest.approx([0.0, 0.9, 0.7])


def test_two_workers_run_two_batches_at_a_time() -> None:
    """The second item does not wait for the first."""
    run = simulate(stream_of(0.0, 0.2, 0.4), Setup(num_workers=2), COST)
    assert run.dispatched_at.tolist() == [0.0, 0.2, 1.1]


def test_an_item_whose_deadline_passes_while_it_waits_is_not_computed() -> None:
    """It expires at its deadline; one that could never be met is refused at once."""
    run = simulate(stream_of(0.0, 0.1, 0.2, deadlines_s=[math.inf, 2.9, 0.5]), Setup(), AffineCost(2.0, 0.1))
    assert [Outcome(code) for code in run.outcomes] == [Outcome.ANSWERED, Outcome.REFUSED, Outcome.REFUSED]
    late = simulate(
        stream_of(0.0, 0.1, deadlines_s=[math.inf, 2.5]),
        Setup(),
        AffineCost(2.0, 0.1),
        believed=AffineCost(0.1, 0.0),
        slowdown=2.0,
    )
    assert [Outcome(code) for code in late.outcomes] == [Outcome.ANSWERED, Outcome.EXPIRED]
    assert len(late.num_items) == 1


def test_a_client_that_goes_away_gets_nothing_and_frees_its_place() -> None:
    """Gone while waiting: never computed. Gone while its batch runs: computed for nobody."""
    run = simulate(stream_of(0.0, 0.1, 0.2, patience_s=[0.5, 0.3, math.inf]), Setup(), COST)
    assert [Outcome(code) for code in run.outcomes] == [Outcome.LEFT, Outcome.LEFT, Outcome.ANSWERED]
    assert run.batch_of.tolist() == [0, -1, 1]
    assert np.isnan(run.latencies_s[:2]).all()


def test_a_full_queue_refuses() -> None:
    """The first runs, one waits, and there is no room for a third."""
    run = simulate(stream_of(0.0, 0.1, 0.2), Setup(policy=Policy(max_queue=1)), COST)
    assert [Outcome(code) for code in run.outcomes] == [Outcome.ANSWERED, Outcome.ANSWERED, Outcome.REFUSED]


def test_an_item_beyond_the_token_budget_is_refused() -> None:
    """It could not run even alone."""
    run = simulate(stream_of(0.0, 0.1, lengths=[4, 40]), Setup(policy=Policy(token_budget=32)), COST)
    assert [Outcome(code) for code in run.outcomes] == [Outcome.ANSWERED, Outcome.REFUSED]


def test_urgent_items_go_first() -> None:
    """Of two that wait, the one of higher priority."""
    setup = Setup(policy=Policy(max_batch_size=1))
    run = simulate(stream_of(0.0, 0.1, 0.2, priorities=[0, 0, 5]), setup, COST)
    assert run.batch_of.tolist() == [0, 2, 1]


def test_the_scatter_of_calls_has_the_quantiles_that_were_given() -> None:
    """Drawn between them, times the slowdown; the same seed draws the same."""
    stream = stream_of(*np.arange(4000.0), window_s=4000.0)

    def run(seed: int) -> Run:
        rng = np.random.default_rng(seed)
        return simulate(stream, Setup(), AffineCost(0.1, 0.0), rng=rng, call_spread=(0.5, 1.0, 3.0), slowdown=2.0)

    factors = run(1).took_s / 0.1
    assert np.quantile(factors, [0.0, 0.5, 1.0]) == pytest.approx([1.0, 2.0, 6.0], rel=0.05)
    assert run(1).took_s.tolist() == run(1).took_s.tolist() != run(2).took_s.tolist()


def test_a_batch_takes_longer_after_its_worker_was_idle() -> None:
    """In proportion between the pauses that were measured, no longer beyond them, and not at all without a pause."""
    penalties = ((1.0, 0.2), (3.0, 0.6))
    run = simulate(stream_of(5.0, 5.5, 9.0, 20.0), Setup(), AffineCost(1.0, 0.0), idle_penalties=penalties)
    assert run.dispatched_at.tolist() == pytest.approx([5.0, 6.6, 9.0, 20.0])
    assert run.took_s.tolist() == pytest.approx([1.6, 1.0, 1.28, 1.6])


def test_the_worker_that_was_idle_longest_goes_first() -> None:
    """As threads that wait for work are woken: the second item finds the one that never ran."""
    penalties = ((1.0, 0.5), (100.0, 0.5))
    run = simulate(stream_of(0.0, 2.0, 4.0), Setup(num_workers=2), AffineCost(1.0, 0.0), idle_penalties=penalties)
    assert run.took_s.tolist() == pytest.approx([1.5, 1.5, 1.5])


def test_nothing_arrives_and_nothing_happens() -> None:
    """An empty window has no batches."""
    run = simulate(stream_of(), Setup(), COST)
    assert len(run.num_items) == len(run.latencies_s) == 0


@st.composite
def streams(draw: st.DrawFn) -> Stream:
    """Return short windows with crowded arrivals, and whatever may befall an item."""
    num = draw(st.integers(0, 40))
    times_s = np.cumsum(draw(st.lists(st.sampled_from([0.0, 0.1, 0.5, 3.0]), min_size=num, max_size=num)))
    columns = {
        "deadlines_s": st.sampled_from([0.5, 2.0, 5.0, math.inf]),
        "patience_s": st.sampled_from([0.5, 2.0, 5.0, math.inf]),
        "priorities": st.integers(-2, 2),
    }
    given = {
        name: np.array(draw(st.lists(values, min_size=num, max_size=num)), dtype=None if num else float)
        for name, values in columns.items()
        if draw(st.booleans())
    }
    lengths = np.array(draw(st.lists(st.integers(1, 50), min_size=num, max_size=num)), dtype=np.int64)
    return Stream(times_s=times_s, lengths=lengths, window_s=1000.0, **given)  # type: ignore[arg-type]


POLICIES = st.builds(
    Policy,
    max_batch_size=st.integers(1, 5),
    max_wait_s=st.sampled_from([0.0, 0.3]),
    token_budget=st.sampled_from([None, 60]),
    ragged=st.booleans(),
    max_queue=st.integers(1, 12),
    length_buckets=st.sampled_from([(), (8, 32, 64)]),
)


@given(stream=streams(), policy=POLICIES, num_workers=st.integers(1, 3), seed=st.integers(0, 9))
def test_every_item_has_one_fate_and_no_worker_runs_two_batches(
    stream: Stream, policy: Policy, num_workers: int, seed: int
) -> None:
    """Whatever arrives: answered items were in one batch, within the limits, that left after they arrived."""
    run = simulate(
        stream,
        Setup(policy=policy, num_workers=num_workers),
        COST,
        rng=np.random.default_rng(seed),
        call_spread=(0.8, 1.0, 1.5),
    )
    ran = run.batch_of >= 0
    answered = run.outcomes == Outcome.ANSWERED
    assert (answered <= ran).all()
    assert set(run.outcomes[ran]) <= {Outcome.ANSWERED, Outcome.LEFT}
    assert (np.isnan(run.latencies_s) == ~answered).all()
    assert np.bincount(run.batch_of[ran], minlength=len(run.num_items)).tolist() == run.num_items.tolist()
    assert (run.num_items <= policy.max_batch_size).all()
    tokens = run.real_tokens if policy.ragged else run.sizes * run.padded_lengths
    assert policy.token_budget is None or (tokens <= policy.token_budget).all()
    assert (run.queue_delay_s[ran] >= -1e-9).all()
    assert (run.real_tokens <= run.padded_tokens).all()
    if stream.patience_s is not None:
        assert (run.latencies_s[answered] <= stream.patience_s[answered] + 1e-9).all()
    edges = sorted([(at, 1) for at in run.dispatched_at] + [(at, -1) for at in run.dispatched_at + run.took_s])
    assert max(np.cumsum([change for _, change in edges]), default=0) <= num_workers
