"""The estimator that learns while serving: exact on lines, deaf to outliers, quick when the machine changes."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carpool.core.cost import AffineCost, CostModel, LearningTimeModel
from carpool.cost.online import AdaptiveCost, AffineEstimator, adapting


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
    """What learns loads no numpy."""
    code = "import sys; import carpool.cost.robust_line; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class Bent(AffineCost):
    """A line with a step of 5 ms beyond 16 items."""

    def time_s(self, batch_size: int, length: int) -> float:
        """Seconds of a batch."""
        return self.overhead_s + self.token_s * batch_size * length + (5e-3 if batch_size > 16 else 0.0)


MEASURED = Bent(overhead_s=2e-3, token_s=1e-4)
SIZES = (1, 2, 4, 8, 16, 32)


def run(
    adaptive: AdaptiveCost,
    rng: np.random.Generator,
    *,
    pace: float,
    added_s: float = 0.0,
    num_batches: int = 200,
    sizes: tuple[int, ...] = SIZES,
    noise: float = 0.03,
) -> None:
    """Show it batches of length 10 from a machine that keeps the profile's shape, at another pace."""
    for _ in range(num_batches):
        size = int(rng.choice(sizes))
        truth = added_s + pace * MEASURED.time_s(size, 10)
        adaptive.observe(size, 10, truth * float(np.exp(rng.normal(0.0, noise))))


def test_before_any_batch_the_profile_is_believed() -> None:
    """Word for word, with no drift."""
    adaptive = AdaptiveCost(MEASURED)
    assert [adaptive.time_s(size, 10) for size in SIZES] == [MEASURED.time_s(size, 10) for size in SIZES]
    assert (adaptive.drift, adaptive.num_fitted) == (1.0, 0)


@pytest.mark.parametrize("pace", [0.5, 1.0, 1.2, 3.0])
def test_the_pace_follows_the_machine_and_the_shape_stays(pace: float) -> None:
    """Sizes that were never served are predicted by the profile's shape at the pace of the others."""
    adaptive = AdaptiveCost(MEASURED)
    run(adaptive, np.random.default_rng(4), pace=pace, sizes=(2, 8, 12))
    assert adaptive.time_s(64, 10) == pytest.approx(pace * MEASURED.time_s(64, 10), rel=0.1)
    assert adaptive.drift == pytest.approx(pace, rel=0.05)


def test_what_every_call_takes_longer_is_told_from_the_pace() -> None:
    """Three milliseconds on every call leave the cost of an item alone."""
    adaptive = AdaptiveCost(MEASURED)
    run(adaptive, np.random.default_rng(5), pace=1.0, added_s=3e-3)
    for size in SIZES:
        assert adaptive.time_s(size, 10) == pytest.approx(3e-3 + MEASURED.time_s(size, 10), rel=0.05)


def test_one_odd_batch_at_the_start_hardly_moves_the_profile() -> None:
    """The first call of a day may take ten times as long."""
    adaptive = AdaptiveCost(MEASURED)
    adaptive.observe(8, 10, 10 * MEASURED.time_s(8, 10))
    assert adaptive.drift < 1.3


@pytest.mark.parametrize("factor", [0.3, 2.0, 8.0])
def test_a_step_of_the_pace_is_followed_within_twenty_batches(factor: float) -> None:
    """And the number of batches that the new pace rests on begins anew where the change was at once."""
    rng, adaptive = np.random.default_rng(6), AdaptiveCost(MEASURED)
    run(adaptive, rng, pace=1.0)
    run(adaptive, rng, pace=factor, num_batches=20)
    assert adaptive.drift == pytest.approx(factor, rel=0.1)
    assert (adaptive.num_fitted, adaptive.num_observed) == (16, 220)


@given(st.lists(st.tuples(st.integers(1, 64), st.floats(1e-9, 1e3)), max_size=60))
def test_an_adapted_profile_stays_finite_and_never_falls(batches: list[tuple[int, float]]) -> None:
    """Whatever it is shown."""
    adaptive = AdaptiveCost(MEASURED)
    for size, time_s in batches:
        adaptive.observe(size, 10, time_s)
    assert 0.0 < adaptive.time_s(1, 1) <= adaptive.time_s(64, 128) < float("inf")
    assert 0.0 < adaptive.drift < float("inf")


def test_adapting_keeps_what_a_model_can_do() -> None:
    """One that predicts memory still does; one that learns already is left alone."""

    class WithMemory(AffineCost):
        def memory_bytes(self, batch_size: int, length: int) -> float:
            return 1000.0 * batch_size * length

    plain, estimator = AffineCost(overhead_s=1.0, token_s=1.0), AffineEstimator()
    with_memory = adapting(WithMemory(overhead_s=1.0, token_s=1.0))
    assert isinstance(with_memory, CostModel)
    assert with_memory.memory_bytes(2, 3) == 6000.0
    assert not isinstance(adapting(plain), CostModel)
    assert adapting(estimator) is estimator


def test_a_profile_that_promises_nothing_has_no_pace() -> None:
    """Nothing is learned, and nothing breaks."""
    adaptive = AdaptiveCost(AffineCost(overhead_s=0.0, token_s=0.0))
    adaptive.observe(1, 1, 1.0)
    assert (adaptive.time_s(1, 1), adaptive.drift) == (0.0, 1.0)
