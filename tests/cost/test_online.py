"""The estimator that learns while serving: exact on lines, deaf to outliers, quick when the machine changes."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carpool.core.cost import LearningTimeModel
from carpool.cost.online import AffineEstimator


def feed(
    estimator: AffineEstimator,
    rng: np.random.Generator,
    *,
    overhead_s: float,
    per_token_s: float,
    num_batches: int = 200,
    sizes: tuple[int, ...] = (1, 2, 4, 8, 16, 32),
    outliers: float = 0.0,
    noise: float = 0.03,
) -> None:
    """Show it batches of length 10 from a machine that is known."""
    for _ in range(num_batches):
        size = int(rng.choice(sizes))
        wild = 10.0 if rng.random() < outliers else 1.0
        truth = overhead_s + per_token_s * size * 10
        estimator.observe(size, 10, truth * wild * float(np.exp(rng.normal(0.0, noise))))


def test_before_any_batch_it_promises_nothing() -> None:
    """A scheduler then holds nothing back."""
    assert AffineEstimator().time_s(8, 100) == 0.0


@given(st.floats(1e-5, 1.0), st.integers(1, 64), st.integers(1, 512))
def test_one_size_alone_is_half_overhead(time_s: float, size: int, length: int) -> None:
    """It repeats what it saw, and takes twice the work for one and a half times the time."""
    estimator = AffineEstimator()
    for _ in range(20):
        estimator.observe(size, length, time_s)
    assert estimator.time_s(size, length) == pytest.approx(time_s)
    assert estimator.time_s(2 * size, length) == pytest.approx(1.5 * time_s)


@given(st.floats(1e-4, 1e-1), st.floats(1e-6, 1e-3))
def test_it_finds_the_line(overhead_s: float, per_token_s: float) -> None:
    """Exactly where there is no noise."""
    estimator = AffineEstimator()
    feed(estimator, np.random.default_rng(0), overhead_s=overhead_s, per_token_s=per_token_s, noise=0.0)
    for size in (1, 32, 100):
        assert estimator.time_s(size, 10) == pytest.approx(overhead_s + per_token_s * size * 10, rel=0.01)


def test_a_batch_in_fifty_that_takes_ten_times_as_long_hardly_counts() -> None:
    """A pause of the garbage collector is not a property of the model."""
    estimator = AffineEstimator()
    feed(estimator, np.random.default_rng(1), overhead_s=2e-3, per_token_s=1e-4, outliers=0.02)
    assert estimator.time_s(16, 10) == pytest.approx(2e-3 + 16e-3, rel=0.05)


@pytest.mark.parametrize("factor", [0.1, 0.5, 2.0, 10.0])
def test_a_machine_that_changes_is_learned_anew(factor: float) -> None:
    """Within twenty batches of becoming slower or faster, the prediction is right again."""
    rng, estimator = np.random.default_rng(2), AffineEstimator()
    feed(estimator, rng, overhead_s=2e-3, per_token_s=1e-4)
    feed(estimator, rng, overhead_s=2e-3 * factor, per_token_s=1e-4 * factor, num_batches=20)
    assert estimator.time_s(16, 10) == pytest.approx(18e-3 * factor, rel=0.1)


def test_the_split_outlasts_a_long_time_of_one_size() -> None:
    """A closed loop of full batches does not make it forget what an item costs."""
    rng, estimator = np.random.default_rng(3), AffineEstimator()
    feed(estimator, rng, overhead_s=2e-3, per_token_s=1e-4)
    feed(estimator, rng, overhead_s=2e-3, per_token_s=1e-4, num_batches=2000, sizes=(32,))
    assert estimator.time_s(1, 10) == pytest.approx(3e-3, rel=0.15)


@given(st.lists(st.tuples(st.integers(1, 512), st.integers(1, 4096), st.floats(-1.0, 1e3)), max_size=60))
def test_whatever_it_is_shown_it_predicts_no_less_for_more(batches: list[tuple[int, int, float]]) -> None:
    """Finite, never negative, never falling; times below what a clock can tell are passed over."""
    estimator = AffineEstimator()
    for size, length, time_s in batches:
        estimator.observe(size, length, time_s)
    estimator.observe(0, 0, float("inf"))
    assert 0.0 <= estimator.time_s(1, 1) <= estimator.time_s(64, 128) < float("inf")
    assert estimator.num_observed == sum(time_s >= 1e-9 for _, _, time_s in batches)


def test_it_is_a_model_that_learns_to_the_core() -> None:
    """It has the methods that the core's protocol asks for."""
    model: LearningTimeModel = AffineEstimator()
    assert isinstance(model, LearningTimeModel)


def test_it_needs_only_the_standard_library() -> None:
    """Importing it loads no numpy, so that a bare interpreter can serve."""
    code = "import sys; import carpool.cost.online; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
