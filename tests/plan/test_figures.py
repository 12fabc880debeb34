"""The figures of a simulated run are those that a live server's own definitions give."""

from __future__ import annotations

import math

import numpy as np
import pytest

from carpool.core import AffineCost, Policy
from carpool.plan.figures import figures_of
from carpool.plan.setup import Setup
from carpool.plan.simulate import Run, simulate
from carpool.plan.stream import Stream
from carpool.signals.events import BatchRan
from carpool.signals.objective import Objective
from carpool.signals.window import window_figures

SETUP = Setup(policy=Policy(max_batch_size=8, length_buckets=(16, 32)))


def busy_run(rate: float = 9.0, window_s: float = 200.0, setup: Setup = SETUP) -> Run:
    """Return a run of mixed lengths under Poisson arrivals."""
    rng = np.random.default_rng(3)
    times_s = np.cumsum(rng.exponential(1 / rate, 10_000))
    times_s = times_s[times_s < window_s]
    stream = Stream(times_s=times_s, lengths=rng.integers(1, 33, len(times_s)), window_s=window_s)
    return simulate(stream, setup, AffineCost(overhead_s=0.2, token_s=0.002))


def as_events(run: Run) -> list[BatchRan]:
    """Return what a live server would have recorded."""
    events = []
    for number in range(len(run.num_items)):
        members = np.flatnonzero(run.batch_of == number)
        left_at = float(run.dispatched_at[number])
        events.append(
            BatchRan(
                at=left_at + float(run.took_s[number]),
                batch_id=number,
                worker=0,
                reason=run.reasons[number].value,
                arrived_at=tuple(run.stream.times_s[members].tolist()),
                lengths=tuple(run.stream.lengths[members].tolist()),
                padded_length=int(run.padded_lengths[number]),
                dispatched_at=left_at,
                started_at=left_at,
                finished_at=left_at + float(run.took_s[number]),
            )
        )
    return events


def test_they_equal_those_of_a_live_server() -> None:
    """Read from the same batches by the code that a server counts with."""
    run = busy_run()
    found = figures_of(run, (Objective(0.99, 1.0),))
    expected = window_figures(as_events(run), from_at=0.0, to_at=1e9, max_batch_size=8, objective_s=1.0)
    assert expected.latency is not None
    assert expected.queue_delay is not None
    assert expected.compute is not None
    assert found.mean_batch_size == pytest.approx(expected.mean_batch_size)
    assert found.fill_ratio == pytest.approx(expected.fill_ratio)
    assert found.padding_waste == pytest.approx(expected.padding_waste)
    assert found.mean_s == pytest.approx(expected.latency.mean)
    for name in ("p50", "p95", "p99"):
        assert getattr(found, f"{name}_s") == pytest.approx(getattr(expected.latency, name).value)
    assert found.queue_delay_s == pytest.approx(expected.queue_delay.mean)
    assert found.compute_s == pytest.approx(expected.compute.mean)
    ended = [event for event in as_events(run) if event.at <= 200.0]
    within = window_figures(ended, from_at=0.0, to_at=200.0, max_batch_size=8, objective_s=1.0)
    assert found.throughput == pytest.approx(within.items_per_s)
    assert found.goodput == pytest.approx(within.goodput_per_s)
    assert found.utilisation == pytest.approx(within.utilisation, abs=0.01)


def test_every_objective_has_to_be_kept() -> None:
    """Goodput counts the items within the strictest of them; each has its own latency."""
    run = busy_run()
    strict, loose = Objective(0.5, 0.4), Objective(0.99, 2.0)
    both, only_strict = figures_of(run, (strict, loose)), figures_of(run, (strict,))
    assert both.goodput == only_strict.goodput < figures_of(run, (loose,)).goodput
    assert both.at_objectives_s == (both.p50_s, both.p99_s)


def test_the_way_to_the_batcher_and_back_counts_as_latency() -> None:
    """It is added to each latency, and nothing else changes."""
    run = busy_run()
    plain, far = figures_of(run), figures_of(run, transport_s=0.5)
    assert far.p99_s == pytest.approx(plain.p99_s + 0.5)
    assert far.queue_delay_s == plain.queue_delay_s


def test_a_queue_without_end_is_seen() -> None:
    """Twice the capacity grows; nine tenths of it does not."""
    unbatched = Setup(policy=Policy(max_batch_size=1))
    assert figures_of(busy_run(rate=8.0, setup=unbatched)).grows
    assert not figures_of(busy_run(rate=3.8, setup=unbatched)).grows


def test_a_window_without_arrivals_has_no_latency() -> None:
    """Rates are 0, and latencies are not."""
    stream = Stream(times_s=np.array([]), lengths=np.array([], dtype=np.int64), window_s=5.0)
    found = figures_of(simulate(stream, SETUP, AffineCost(1.0, 1.0)))
    assert (found.throughput, found.mean_s, found.attainment) == (0.0, math.inf, 1.0)
