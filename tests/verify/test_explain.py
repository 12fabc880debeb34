"""Where a difference comes from, on windows whose causes are known."""

from __future__ import annotations

import numpy as np
import pytest

from carpool.core.policy import Policy
from carpool.plan.predict import Prediction, predict
from carpool.plan.setup import Setup
from carpool.verify.explain import EXPLAINED, Steps, explain, typical
from carpool.verify.measured import measured_figures
from carpool.verify.transport import Overheads, overheads
from tests.plan.plans import subject, workload
from tests.verify.simulated import run_of, window_of

SETUP = Setup(policy=Policy(max_batch_size=8))
ALONE = Overheads(transport_s=0.001, pace=1.0, num_requests=100)


@pytest.fixture(scope="module")
def prediction() -> Prediction:
    """What is predicted for a window of ten seconds."""
    return predict(subject(), workload(), SETUP, window_s=10.0, num_runs=20, transport_s=ALONE.transport_s)


def steps(prediction: Prediction, *, pace: float, transport_s: float) -> dict[str, Steps]:
    """Explain a window in which batches and the way there and back took so long."""
    stream = workload().draw(np.random.default_rng(7), 10.0)
    window = window_of(run_of(subject(), SETUP, stream, pace=pace), transport_s=transport_s, pace=pace)
    found = explain(
        subject(),
        SETUP,
        stream,
        prediction=prediction,
        expected=ALONE,
        found=overheads(window),
        measured=measured_figures(window, SETUP),
        seed=0,
    )
    assert tuple(one.name for one in found) == EXPLAINED
    return {one.name: one for one in found}


def test_the_parts_add_up(prediction: Prediction) -> None:
    """From what was predicted to what was measured."""
    for one in steps(prediction, pace=1.3, transport_s=0.003).values():
        assert one.predicted + sum(one.parts) == pytest.approx(one.measured)


def test_slow_batches_are_found_to_be_the_cause(prediction: Prediction) -> None:
    """What they do to the queue included; nothing is left over."""
    arrivals, pace, transport, rest = steps(prediction, pace=1.5, transport_s=ALONE.transport_s)["p99_s"].parts
    assert pace > 0.01 > abs(arrivals)
    assert (transport, rest) == pytest.approx((0.0, 0.0), abs=1e-9)


def test_a_longer_way_is_found_to_be_the_cause(prediction: Prediction) -> None:
    """Two ms more for every latency, and no difference in batches."""
    found = steps(prediction, pace=1.0, transport_s=0.003)
    assert found["p50_s"].parts[1:] == pytest.approx((0.0, 0.002, 0.0), abs=1e-9)
    assert found["mean_batch_size"].parts[1:] == pytest.approx((0.0, 0.0, 0.0), abs=1e-9)


def test_unlucky_arrivals_are_found_to_be_the_cause(prediction: Prediction) -> None:
    """More arrived than on average: that alone is the difference in throughput."""
    found = steps(prediction, pace=1.0, transport_s=ALONE.transport_s)["throughput"]
    assert found.parts == pytest.approx((found.measured - found.predicted, 0.0, 0.0, 0.0), abs=1e-9)


def test_of_several_windows_the_typical_is_told() -> None:
    """Value by value, the median."""
    several = [
        (Steps(name="p50_s", predicted=1, with_arrivals=2, with_pace=3, with_transport=4, measured=value),)
        for value in (5, 9, 6)
    ]
    (found,) = typical(several)
    assert (found.predicted, found.measured) == (1, 6)
