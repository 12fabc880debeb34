"""AdaScale: its gain against gradients whose gain is known, and its steps against those of the base batch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from carpool.errors import ConfigError
from carpool.train.accumulate import Accumulator
from carpool.train.batch_plan import BatchPlan
from carpool.train.noise.estimate import NoiseAverages, WindowNorms
from carpool.train.noise.listener import NoiseScale
from carpool.train.scaling.adascale import AdaScale, adascale_gain
from carpool.train.scaling.apply import scale_hyperparameters


@dataclass
class Known:
    """A noise that is known."""

    S: float
    G2: float

    def estimate(self) -> Known:
        """Say it."""
        return self


def _noise_of(gradients: np.ndarray[Any, Any], num_windows: int = 1) -> NoiseAverages:
    """The noise as measured from gradients of one item each."""
    noise = NoiseAverages()
    squares = [float(gradient @ gradient) for gradient in gradients]
    mean = gradients.mean(axis=0)
    for _ in range(num_windows):
        noise.add(WindowNorms.of([1] * len(gradients), squares, float(mean @ mean)))
    return noise


def _sgd(rate: float = 0.1) -> torch.optim.SGD:
    return torch.optim.SGD([nn.Parameter(torch.zeros(2, dtype=torch.float64))], lr=rate)


@pytest.mark.parametrize("num", [2, 4, 16])
@pytest.mark.parametrize("length", [1.0, 3.0])
def test_orthogonal_gradients_gain_as_many_steps_as_they_are(num: int, length: float) -> None:
    """The gain is 4 for 4 orthogonal gradients of the same length: they are all noise."""
    noise = _noise_of(length * np.eye(num))
    adascale = AdaScale(_sgd(), noise, batch_size=num, base_batch_size=1)
    assert adascale.gain == pytest.approx(num)


def test_equal_gradients_gain_nothing() -> None:
    """More of the same is worth one step."""
    noise = _noise_of(np.ones((4, 3)))
    assert AdaScale(_sgd(), noise, batch_size=4, base_batch_size=1).gain == pytest.approx(1.0)


def test_gradients_with_a_common_part_gain_in_between() -> None:
    """By hand: e_i + (1, 1, 1, 1) scatters as e_i, by 1, about a mean of squared length 4 x 1.25^2 - 1/4 = 6."""
    noise = _noise_of(np.eye(4) + np.ones((4, 4)))
    known = noise.estimate()
    assert known.S == pytest.approx(1.0)  # noqa: SIM300 - S is no constant
    assert known.G2 == pytest.approx(6.0)  # noqa: SIM300
    assert AdaScale(_sgd(), noise, batch_size=4, base_batch_size=1).gain == pytest.approx(7 / 6.25)


@given(st.floats(0, 1e6), st.floats(-10, 1e6), st.integers(1, 4096), st.integers(1, 64))
def test_the_gain_lies_between_one_and_the_ratio_of_the_batches(
    variance: float, squared_norm: float, base: int, ratio: int
) -> None:
    """Whatever chance makes of the estimates (Johnson 2020, proposition 1)."""
    gain = adascale_gain(variance, squared_norm, batch_size=base * ratio, base_batch_size=base)
    assert 1 - 1e-9 <= gain <= ratio * (1 + 1e-9)


@given(st.floats(1.0, 1e5), st.integers(1, 512), st.integers(1, 64))
def test_the_gain_is_what_the_noise_scale_says_of_steps(noise_scale: float, base: int, ratio: int) -> None:
    """Steps to a target are in proportion to 1 + N/B (McCandlish 2018): the gain is the ratio of the two counts."""
    gain = adascale_gain(noise_scale, 1.0, batch_size=base * ratio, base_batch_size=base)
    assert gain == pytest.approx((1 + noise_scale / base) / (1 + noise_scale / (base * ratio)))


def test_nothing_known_gains_nothing() -> None:
    """Before the first window; and all of it where the gradient is lost in noise."""
    assert AdaScale(_sgd(), NoiseAverages(), batch_size=8, base_batch_size=1).gain == 1.0
    assert adascale_gain(math.inf, 1.0, batch_size=8, base_batch_size=2) == 4.0


def test_a_step_is_taken_at_the_rate_times_the_gain_and_the_rate_comes_back() -> None:
    """The schedule never sees the gain."""
    optimizer = _sgd(0.1)
    adascale = AdaScale(optimizer, Known(S=3.0, G2=0.0), batch_size=12, base_batch_size=4)
    weight = optimizer.param_groups[0]["params"][0]
    weight.grad = torch.tensor([1.0, -2.0], dtype=torch.float64)
    optimizer.step()
    assert weight.tolist() == pytest.approx([-0.3, 0.6])
    assert optimizer.param_groups[0]["lr"] == 0.1
    assert adascale.num_base_steps == pytest.approx(3.0)
    adascale.close()
    optimizer.step()
    assert weight.tolist() == pytest.approx([-0.4, 0.8])


def test_the_schedule_goes_by_steps_at_the_base_batch() -> None:
    """A gain of 2.5 is 2 or 3 of them in turn."""
    optimizer = _sgd(1.0)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    # (s + m) / (s/4 + m) = 2.5 for s = 4, m = 1 x 4 / 4: (4 + m) = 2.5 (1 + m), m = 1
    AdaScale(optimizer, Known(S=4.0, G2=1.0), batch_size=4, base_batch_size=1, scheduler=scheduler)
    rates = []
    for _ in range(4):
        optimizer.step()
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == [0.5**2, 0.5**5, 0.5**7, 0.5**10]


def test_training_by_adascale_gets_as_far_as_the_steps_that_it_counts() -> None:
    """A noisy quadratic at 16 times the batch: the linear rate would not even be stable.

    The loss of many runs, in the steps at the base batch that AdaScale counts, is that of the base batch (Johnson 2020,
    theorem 1 bounds both alike).
    """
    curvature, rate, ratio, num_runs = torch.tensor([1.0, 0.05], dtype=torch.float64), 0.15, 16, 3000
    generator = torch.Generator().manual_seed(0)
    draws = torch.randn(400, num_runs, 2, dtype=torch.float64, generator=generator)
    start = torch.tensor([3.0, 3.0], dtype=torch.float64)

    def loss(weights: torch.Tensor) -> float:
        return float((curvature * weights**2).sum(-1).mean() / 2)

    base = start.repeat(num_runs, 1)
    losses = [loss(base)]
    for step in range(120):
        base = base - rate * (curvature * base + draws[step])
        losses.append(loss(base))

    weights = nn.Parameter(start.repeat(num_runs, 1))
    noise = Known(S=0.0, G2=0.0)
    optimizer = torch.optim.SGD([weights], lr=rate)
    adascale = AdaScale(optimizer, noise, batch_size=ratio, base_batch_size=1)
    seen = []
    step = 0
    while adascale.num_base_steps < 100:
        noise.S, noise.G2 = 2.0, float(((curvature * weights.detach()) ** 2).sum(-1).mean())
        weights.grad = curvature * weights.detach() + draws[200 + step] / math.sqrt(ratio)
        optimizer.step()
        step += 1
        seen.append((adascale.num_base_steps, loss(weights.detach())))
    for num_base_steps, reached in seen[2:]:
        expected = losses[round(num_base_steps)]
        assert reached == pytest.approx(expected, rel=0.35), (num_base_steps, reached, expected)
    assert step < 100 / 4
    assert rate * ratio * float(curvature[0]) > 2  # the linear rate diverges


def test_a_checkpoint_goes_on_with_another_batch() -> None:
    """The steps at the base batch are kept; a different base batch is none of them."""
    optimizer = _sgd()
    adascale = AdaScale(optimizer, Known(S=1.0, G2=0.0), batch_size=8, base_batch_size=2)
    optimizer.step()
    again = AdaScale(_sgd(), Known(S=1.0, G2=0.0), batch_size=32, base_batch_size=2)
    again.load_state_dict(adascale.state_dict())
    assert again.num_base_steps == pytest.approx(4.0)
    with pytest.raises(ConfigError, match="counts steps at a base batch of 2, and base_batch_size is 4"):
        AdaScale(_sgd(), Known(S=1.0, G2=0.0), batch_size=8, base_batch_size=4).load_state_dict(adascale.state_dict())
    with pytest.raises(ConfigError, match="lacks base_batch_size and num_base_steps"):
        again.load_state_dict({})


@pytest.mark.parametrize(
    ("batch_size", "base_batch_size", "said"),
    [
        (4, 8, r"batch_size is 4, and base_batch_size 8.*use scale_hyperparameters"),
        (0, 1, "batch_size is 0"),
        (8, 0, "base_batch_size is 0"),
        (8.5, 1, "batch_size is 8.5"),
    ],
)
def test_sizes_that_are_none_are_refused(batch_size: Any, base_batch_size: Any, said: str) -> None:
    """With what they may be."""
    with pytest.raises(ConfigError, match=said):
        AdaScale(_sgd(), Known(S=1.0, G2=0.0), batch_size=batch_size, base_batch_size=base_batch_size)


def test_an_optimiser_that_divides_by_its_gradients_is_refused() -> None:
    """Adam's steps do not grow with the gradients, and the gain is not theirs."""
    optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(2))])
    with pytest.raises(ConfigError, match="AdaScale is derived for SGD, and AdamW divides by the size"):
        AdaScale(optimizer, Known(S=1.0, G2=0.0), batch_size=8, base_batch_size=2)


def test_rates_that_were_scaled_already_are_refused() -> None:
    """They would be scaled twice."""
    optimizer = _sgd()
    scale_hyperparameters(optimizer, 4)
    with pytest.raises(ConfigError, match="already scaled by 4, and AdaScale scales those of the base batch"):
        AdaScale(optimizer, Known(S=1.0, G2=0.0), batch_size=8, base_batch_size=2)


def test_with_the_accumulator_a_run_gains_what_its_own_noise_allows() -> None:
    """A regression whose noise is known: the measured gain is that of the formula at the true noise scale."""
    generator = torch.Generator().manual_seed(3)
    model = nn.Linear(8, 1, bias=False, dtype=torch.float64)
    nn.init.constant_(model.weight, 0.5)
    # The gradient of an item at w with target 0 and unit noise: x (x.w + e); G = w, and tr(Sigma) as below.
    squared = float(model.weight.detach().square().sum())
    variance = (8 + 1) * squared + 8  # E|x|^2 (x.w)^2 - |w|^2 + E|x|^2, of a standard normal x
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-9)  # measures in one place
    noise = NoiseScale(model, decay=1.0)
    accumulator = Accumulator(model, optimizer, plan=BatchPlan(effective_batch_size=64, micro_batch_size=4))
    accumulator.listeners.append(noise)
    adascale = AdaScale(optimizer, noise, batch_size=64, base_batch_size=4)

    def loss(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return nn.functional.mse_loss(model(batch[0]).squeeze(-1), batch[1], reduction="sum") / 2

    for _ in range(150):
        inputs = torch.randn(16, 4, 8, dtype=torch.float64, generator=generator)
        noises = torch.randn(16, 4, dtype=torch.float64, generator=generator)
        accumulator.step([(inputs[part], noises[part]) for part in range(16)], loss)
    expected = adascale_gain(variance, squared, batch_size=64, base_batch_size=4)
    assert adascale.gain == pytest.approx(expected, rel=0.1)
    assert 1 < adascale.num_base_steps / 150 < 16


def test_a_run_that_is_resumed_goes_on_to_the_same_weights() -> None:
    """With its schedule, its noise and its count of steps."""
    generator = torch.Generator().manual_seed(1)
    windows = list(torch.randn(20, 4, 8, 4, generator=generator))  # window, micro-batch, item, feature

    def loss(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        return nn.functional.mse_loss(model(batch), batch.square().sum(1, keepdim=True), reduction="sum")

    def run(state: dict[str, Any] | None, part: list[torch.Tensor]) -> tuple[dict[str, Any], float]:
        model = nn.Linear(4, 1)
        nn.init.ones_(model.weight)
        nn.init.zeros_(model.bias)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 100)
        accumulator = Accumulator(model, optimizer, plan=BatchPlan(effective_batch_size=32, micro_batch_size=8))
        accumulator.listeners.append(noise := NoiseScale(model))
        adascale = AdaScale(optimizer, noise, batch_size=32, base_batch_size=8, scheduler=schedule)
        parts: dict[str, Any] = {
            "model": model,
            "optimizer": optimizer,
            "schedule": schedule,
            "accumulator": accumulator,
            "noise": noise,
            "adascale": adascale,
        }
        for name in state or {}:
            parts[name].load_state_dict((state or {})[name])
        for window in part:
            accumulator.step(list(window), loss)
        return {name: each.state_dict() for name, each in parts.items()}, adascale.num_base_steps

    whole, num_base_steps = run(None, windows)
    half, _ = run(None, windows[:9])
    resumed, num_resumed = run(half, windows[9:])
    assert torch.equal(resumed["model"]["weight"], whole["model"]["weight"])
    assert num_resumed == num_base_steps > 20
    assert resumed["optimizer"]["param_groups"][0]["lr"] == whole["optimizer"]["param_groups"][0]["lr"] < 0.02
