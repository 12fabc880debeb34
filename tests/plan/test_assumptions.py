"""What the exact solution supposes, each with a setup or a workload for which it does not hold."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from carpool.core import Policy
from carpool.cost.model import CostModel, Measurement, MemoryPoint, fit_cost_model
from carpool.errors import ConfigError
from carpool.plan.analytic import solve
from carpool.plan.assumptions import chain_of, check_assumptions
from carpool.plan.predict import predict
from carpool.plan.process import Constant, Gamma, Poisson
from carpool.plan.setup import Setup
from carpool.plan.subject import Subject
from carpool.plan.workload import Workload

POISSON = Workload(arrivals=Poisson(rate=40.0))


def measured() -> CostModel:
    """Return times of `40 ms + 10 ms` an item and 64 tokens, and memory of 100 bytes an item."""
    points = [
        Measurement(batch_size=b, length=length, time_s=time_s, low_s=time_s, high_s=time_s)
        for b in (1, 2, 4, 8, 16, 32)
        for length in (1, 32, 64, 128)
        for time_s in [0.04 + 0.01 * b * length / 64]
    ]
    probes = [MemoryPoint(batch_size=b, length=n, peak_bytes=100 * b) for b in (1, 4, 16, 32) for n in (1, 64, 128)]
    return replace(fit_cost_model(points, memory_points=probes, measured_on={}), residual_sd=0.0, measurement_sd=0.0)


SUBJECT = Subject(target="m.py:f", name="f", cost=measured(), max_length=128)
FIXED = replace(POISSON, lengths=(64,))


def policy(**knobs: object) -> Setup:
    """Return one worker with these knobs."""
    return Setup(policy=Policy(**knobs))  # type: ignore[arg-type]


def test_a_plain_worker_is_solved_exactly() -> None:
    """By the times that the cost model gives for its length."""
    assert check_assumptions(policy(max_batch_size=8), FIXED, SUBJECT) == ()
    chain = chain_of(policy(max_batch_size=8), FIXED, SUBJECT)
    times_s = [SUBJECT.cost.time_s(b, 64) for b in range(1, 9)]
    assert chain.mean_latency_s == pytest.approx(solve(40.0, times_s).mean_latency_s)


@pytest.mark.parametrize(
    ("setup", "workload", "broken"),
    [
        (policy(), replace(FIXED, arrivals=Gamma(rate=4.0)), "arrivals are Poisson, and these are gamma arrivals of"),
        (policy(), replace(FIXED, arrivals=Constant(rate=4.0)), "arrivals are Poisson, and these are evenly spaced"),
        (policy(), replace(FIXED, deadline_s=0.2), "items have no deadline, and these have one of 200 ms"),
        (policy(), replace(FIXED, patience_s=3.0), "clients wait for their answer, and these leave after 3 s"),
        (Setup(num_workers=2), FIXED, "there is one worker, and there are 2"),
        (policy(max_wait_s=5e-3), FIXED, "a free worker takes what waits, and max_wait_s is 5 ms"),
        (policy(), replace(FIXED, lengths=(16, 64, 99)), "all items cost alike, and they are padded to 3 lengths from"),
        (policy(token_budget=32), FIXED, "every item is accepted, and an item of 64 tokens"),
        (
            policy(max_batch_size=2),
            FIXED,
            "the queue has an end, and 40 a second are not below the 33.3333 of batches of",
        ),
        (policy(max_queue=4), FIXED, "the queue has room for all, and max_queue 4 is exceeded"),
    ],
)
def test_what_does_not_hold_is_named(setup: Setup, workload: Workload, broken: str) -> None:
    """With what is the case instead; solving it is refused with the same words."""
    (sentence,) = check_assumptions(setup, workload, SUBJECT)
    assert sentence.startswith(broken)
    with pytest.raises(ConfigError, match=f"supposes that {re.escape(broken)}.*: simulate instead"):
        chain_of(setup, workload, SUBJECT)


def test_all_that_does_not_hold_is_named_at_once() -> None:
    """Two workers and a wait."""
    with pytest.raises(ConfigError, match=r"supposes that there is one worker.*; and that a free worker takes"):
        chain_of(Setup(policy=Policy(max_wait_s=1.0), num_workers=2), FIXED, SUBJECT)


def test_limits_of_tokens_and_of_memory_are_a_smaller_batch() -> None:
    """Where all lengths are one: 256 tokens are four items of 64, and so are 450 bytes of 100 each."""
    four = chain_of(policy(max_batch_size=4), FIXED, SUBJECT)
    for limited in (policy(token_budget=256), policy(memory_limit_bytes=450)):
        assert chain_of(limited, FIXED, SUBJECT).mean_latency_s == four.mean_latency_s


def test_lengths_that_are_padded_to_one_cost_alike() -> None:
    """By a bucket of the policy, or one of the model's own; what is longer than the model takes is cut."""
    mixed = replace(POISSON, lengths=(3, 40, 64))
    expected = chain_of(Setup(), FIXED, SUBJECT)
    assert chain_of(policy(length_buckets=(64,)), mixed, SUBJECT).mean_latency_s == expected.mean_latency_s
    assert chain_of(Setup(), mixed, replace(SUBJECT, length_buckets=(64,))).mean_latency_s == expected.mean_latency_s
    assert check_assumptions(Setup(), replace(POISSON, lengths=(128, 500)), SUBJECT) == ()


def test_batch_sizes_that_are_padded_up_take_the_time_of_more() -> None:
    """Three items run as four."""
    padded = chain_of(policy(max_batch_size=4, batch_size_buckets=(1, 2, 4)), FIXED, SUBJECT)
    times_s = [SUBJECT.cost.time_s(b, 64) for b in (1, 2, 4, 4)]
    assert padded.mean_latency_s == pytest.approx(solve(40.0, times_s).mean_latency_s)


def test_priorities_change_neither_batches_nor_means() -> None:
    """So they are no reason to refuse, and the simulator agrees."""
    urgent = replace(FIXED, priorities={0: 3.0, 5: 1.0})
    assert check_assumptions(Setup(), urgent, SUBJECT) == ()


def test_the_prediction_of_a_measured_model_agrees() -> None:
    """With scatter and priorities, 20 windows of the planner's own prediction: their median within its error."""
    subject = replace(SUBJECT, call_spread=tuple(np.geomspace(0.8, 1.4, 101).tolist()))
    urgent = replace(FIXED, priorities={0: 3.0, 5: 1.0})
    exact = chain_of(policy(max_batch_size=8), urgent, subject)
    found = predict(subject, urgent, policy(max_batch_size=8), window_s=60.0, num_runs=20)
    assert found.mean_s.value == pytest.approx(exact.mean_latency_s, rel=0.02)
    assert found.mean_batch_size.value == pytest.approx(exact.mean_batch_size, rel=0.02)
    assert found.utilisation.value == pytest.approx(exact.utilisation, rel=0.02)
    assert found.queue_delay_s.value == pytest.approx(exact.mean_queue_delay_s, rel=0.03)
