"""Predictions: the truth lies in the interval as often as it says, and two setups are compared on the same luck."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from carpool.core import Policy
from carpool.cost.model import CostModel, Measurement, fit_cost_model
from carpool.errors import ConfigError
from carpool.plan.predict import fitted, interval, predict, replicate
from carpool.plan.setup import Setup
from carpool.plan.stream import Stream
from carpool.plan.subject import Subject
from carpool.signals.objective import Objective

UNBATCHED = Setup(policy=Policy(max_batch_size=1))


class PoissonItems:
    """Independent callers with items of length 1."""

    def __init__(self, rate: float) -> None:
        self.rate = rate

    def draw(self, rng: np.random.Generator, window_s: float) -> Stream:
        """Draw one window."""
        num = rng.poisson(self.rate * window_s)
        times_s = np.sort(rng.uniform(0, window_s, num))
        return Stream(times_s=times_s, lengths=np.ones(num, dtype=np.int64), window_s=window_s)


def measured(overhead_s: float = 0.04, item_s: float = 0.01, residual_sd: float = 0.0) -> CostModel:
    """Return a linear cost model without error, or with the one given."""
    times_s = {size: overhead_s + item_s * size for size in (1, 2, 4, 8, 16, 32)}
    points = [Measurement(batch_size=b, time_s=time_s, low_s=time_s, high_s=time_s) for b, time_s in times_s.items()]
    return replace(fit_cost_model(points, measured_on={}), residual_sd=residual_sd, measurement_sd=0.0)


def subject(**changes: object) -> Subject:
    """Return a measured model."""
    return replace(Subject(target="m.py:f", name="f", cost=measured()), **changes)  # type: ignore[arg-type]


def test_it_agrees_with_queueing_theory() -> None:
    """One item at a time is M/D/1: the mean wait is `rho t / (2 (1 - rho))` (Pollaczek and Khinchine)."""
    found = predict(subject(), PoissonItems(12.0), UNBATCHED, window_s=400.0, num_runs=20)
    exact_s = 0.05 + 0.6 * 0.05 / (2 * 0.4)
    assert found.mean_s.value == pytest.approx(exact_s, rel=0.02)
    assert found.mean_s.holds(exact_s)
    assert found.utilisation.value == pytest.approx(0.6, rel=0.02)
    assert found.stable


def test_nine_of_ten_further_windows_lie_in_the_interval() -> None:
    """Predicted from some windows, held against others of the same length."""
    model = subject(cost=measured(residual_sd=0.05), call_spread=(0.8, 0.95, 1.0, 1.1, 1.6))
    ours = predict(model, PoissonItems(40.0), Setup(), window_s=30.0, num_runs=39)
    others = [predict(model, PoissonItems(40.0), Setup(), window_s=30.0, num_runs=1, seed=n) for n in range(1, 101)]
    for name in ("throughput", "p50_s", "p99_s", "mean_batch_size", "utilisation"):
        held = sum(getattr(ours, name).holds(getattr(other, name).value) for other in others)
        assert 78 <= held <= 99, name


def test_an_uncertain_cost_model_widens_what_depends_on_it() -> None:
    """Latency is as uncertain as the times are; the rate of arrivals is not."""
    sure = predict(subject(), PoissonItems(5.0), Setup(), window_s=60.0)
    unsure = predict(subject(cost=measured(residual_sd=0.2)), PoissonItems(5.0), Setup(), window_s=60.0)
    assert unsure.p50_s.high - unsure.p50_s.low > 5 * (sure.p50_s.high - sure.p50_s.low)
    assert unsure.offered == sure.offered


def test_a_few_windows_already_span_what_the_cost_model_may_be_wrong_by() -> None:
    """Four have errors in each quarter of the distribution, whatever the seed: their middle is not luck."""
    model = subject(cost=measured(residual_sd=0.1))
    for seed in range(5):
        runs = [replicate(model, PoissonItems(1.0), UNBATCHED, window_s=20.0, seed=seed, number=n) for n in range(4)]
        errors = np.log([float(run.took_s[0]) / 0.05 for run in runs]) / 0.1
        assert sorted(np.digitize(errors, [-0.6745, 0.0, 0.6745])) == [0, 1, 2, 3]


def test_setups_are_compared_on_the_same_windows() -> None:
    """The same seed and number draw the same arrivals, whatever serves them."""
    runs = [
        replicate(subject(), PoissonItems(20.0), setup, window_s=20.0, seed=7, number=3)
        for setup in (UNBATCHED, Setup(num_workers=2))
    ]
    assert runs[0].stream.times_s.tolist() == runs[1].stream.times_s.tolist()
    other = replicate(subject(), PoissonItems(20.0), UNBATCHED, window_s=20.0, seed=7, number=4)
    assert other.stream.times_s.tolist() != runs[0].stream.times_s.tolist()


def test_overload_is_not_called_stable() -> None:
    """25 a second reach a server that does 20."""
    assert not predict(subject(), PoissonItems(25.0), UNBATCHED, window_s=60.0, num_runs=5).stable


def test_objectives_and_the_way_there_are_accounted_for() -> None:
    """Latencies hold the transport; each objective has the latency at its percentile."""
    objective = Objective(0.99, 0.2)
    near = predict(subject(), PoissonItems(5.0), Setup(), objectives=(objective,), num_runs=5)
    far = predict(subject(), PoissonItems(5.0), Setup(), objectives=(objective,), num_runs=5, transport_s=0.1)
    assert near.at_objectives_s == (near.p99_s,)
    assert far.p50_s.value == pytest.approx(near.p50_s.value + 0.1)
    assert far.goodput.value < near.goodput.value
    assert near.latency_quantiles_s[0] == pytest.approx(0.05)


def test_the_models_own_buckets_are_used_where_the_policy_names_none() -> None:
    """As the live server does."""
    run = replicate(subject(length_buckets=(16, 32)), PoissonItems(5.0), UNBATCHED, window_s=5.0, seed=0, number=0)
    assert set(run.padded_lengths) == {16}


def test_ragged_batches_are_held_to_the_tokens_that_the_model_prefers() -> None:
    """As in the live server, unless the policy says otherwise."""
    ragged = subject(ragged=True, preferred_tokens=512)
    assert fitted(Policy(), ragged).token_budget == 512
    assert fitted(Policy(token_budget=64), ragged).token_budget == 64
    assert fitted(Policy(), subject(preferred_tokens=512)).token_budget is None


def test_no_windows_are_refused() -> None:
    """There would be nothing to say."""
    with pytest.raises(ConfigError, match="0 windows of 60 s can't be simulated: give at least 1"):
        predict(subject(), PoissonItems(5.0), Setup(), num_runs=0)


def test_an_infinite_latency_is_an_end_of_an_interval_like_any_other() -> None:
    """Windows in which nothing was answered do not turn into NaN."""
    found = interval([1.0, math.inf, math.inf])
    assert (found.low, found.value, found.high) == (1.0, math.inf, math.inf)
