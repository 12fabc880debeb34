"""The noisy quadratic: steps that are known, and what the noise scale makes of them."""

from __future__ import annotations

import numpy as np
import pytest

from carpool.errors import ConfigError, OutOfRange
from carpool.train.noise.quadratic import NoisyQuadratic

CURVATURE = 1 / np.arange(1, 201)
PROBLEM = NoisyQuadratic(curvature=CURVATURE, noise=CURVATURE, start=np.ones(200))
STEPS = {1: 2258, 8: 304, 32: 103, 64: 74, 256: 53, 1024: 46}


@pytest.mark.parametrize(("batch_size", "num_steps"), STEPS.items())
def test_steps_to_a_twentieth_of_the_loss_are_the_known_ones(batch_size: int, num_steps: int) -> None:
    """200 coordinates, curvature and noise 1/i, no momentum, the learning rate swept: within a step."""
    assert PROBLEM.num_steps(batch_size, target=0.05) == pytest.approx(num_steps, abs=1)


def test_steps_are_those_of_gradient_descent_that_is_simulated() -> None:
    """Real noise, 2,000 runs side by side at the rate that wins: the mean loss comes down in as many steps."""
    h = CURVATURE[:20]
    problem = NoisyQuadratic(curvature=h, noise=h, start=np.ones(20))
    expected = problem.num_steps(8, target=0.1)
    rng = np.random.default_rng(0)
    found = []
    for rate in np.geomspace(0.05, 1.5, 25):
        theta = rng.choice([-1.0, 1.0], (2000, 20))
        for step in range(1, 3 * expected):
            theta -= rate * (theta * h + rng.normal(0.0, np.sqrt(h / 8), theta.shape))
            if (h * theta**2).sum(1).mean() <= 0.1 * h.sum():
                found.append(step)
                break
    assert min(found) == pytest.approx(expected, abs=1)


@pytest.mark.parametrize("batch_size", [500, 10_000, 200_000])
def test_best_single_step_is_the_one_that_the_noise_scale_gives(batch_size: int) -> None:
    """Where all directions curve alike, a step takes off `1 / (1 + N / B)` of the loss, and no more."""
    ones = np.ones(50)
    problem = NoisyQuadratic(curvature=0.01 * ones, noise=ones, start=ones)
    assert problem.noise_scale == pytest.approx(10_000)
    left = 1 - 1 / (1 + 10_000 / batch_size)
    assert problem.num_steps(batch_size, target=1.001 * left) == 1
    assert problem.num_steps(batch_size, target=0.999 * left) == 2


def test_noise_alone_is_never_overcome_in_too_few_steps() -> None:
    """It says so rather than going on for ever."""
    with pytest.raises(OutOfRange, match="after 20 steps of 1 items at every learning rate"):
        PROBLEM.num_steps(1, target=0.05, most_steps=20)


@pytest.mark.parametrize("target", [0.0, 1.0, -1.0, float("nan")])
def test_target_must_be_a_share(target: float) -> None:
    """Between none and all of the loss."""
    with pytest.raises(ConfigError, match="it must be a share of the loss at the start"):
        PROBLEM.num_steps(1, target=target)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"curvature": np.array([1.0, 0.0])}, "curvature must be finite and above 0"),
        ({"noise": np.array([1.0, -1.0])}, "noise must be finite and not below 0"),
        ({"start": np.array([1.0, np.nan])}, "start must be finite"),
        ({"start": np.ones(3)}, "have the shapes"),
    ],
)
def test_arrays_that_make_no_quadratic_are_refused(wrong: dict[str, np.ndarray], said: str) -> None:
    """Each by its name."""
    with pytest.raises(ConfigError, match=said):
        NoisyQuadratic(**({"curvature": np.ones(2), "noise": np.ones(2), "start": np.ones(2)} | wrong))
