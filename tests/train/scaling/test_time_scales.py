"""Each rule against a simulation with torch's own optimisers: by items, training goes on as at the old batch.

Many coordinates run side by side, each a noisy quadratic of its own, so that means over them are sharp. What a rule
does not choose is tried beside it, and fails: what holds is not held by chance.
"""

from __future__ import annotations

import math
from functools import cache, partial
from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

from carpool.train.scaling.apply import scale_hyperparameters

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.optim import Optimizer

_FACTOR = 4
_NUM_ITEMS = 800
_NUM_COORDINATES = 4000
_NOISE = 20.0
_START = 2.0

_OPTIMIZERS: dict[str, Callable[[list[nn.Parameter]], Optimizer]] = {
    "adam": lambda weights: torch.optim.Adam(weights, lr=0.02, betas=(0.95, 0.99), eps=10.0),
    "rmsprop": lambda weights: torch.optim.RMSprop(weights, lr=0.02, alpha=0.99, eps=10.0),
    "sgd": lambda weights: torch.optim.SGD(weights, lr=1.5e-3),
}


def _train(name: str, batch: int, scale: Callable[[Optimizer], object]) -> tuple[float, float]:
    """Train on the items, each with the gradient `w + noise`; return the mean and the variance of the weights."""
    generator = torch.Generator().manual_seed(batch)
    weights = nn.Parameter(torch.full((_NUM_COORDINATES,), _START))
    optimizer = _OPTIMIZERS[name]([weights])
    scale(optimizer)
    for _ in range(_NUM_ITEMS // batch):
        draws = torch.randn(_NUM_COORDINATES, generator=generator)
        weights.grad = weights.detach() + _NOISE / math.sqrt(batch) * draws
        optimizer.step()
    return float(weights.detach().mean()), float(weights.detach().var())


@cache
def _before(name: str) -> tuple[float, float]:
    return _train(name, 1, lambda _: None)


@pytest.mark.parametrize(("name", "rule"), [("adam", "square_root"), ("rmsprop", "square_root"), ("sgd", "linear")])
def test_by_items_training_goes_on_as_before(name: str, rule: str) -> None:
    """At 4 times the batch the weights have come as far, and scatter as much."""
    mean, variance = _before(name)
    assert 0.2 * _START < mean < 0.8 * _START  # it is under way
    scaled_mean, scaled_variance = _train(name, _FACTOR, partial(scale_hyperparameters, factor=_FACTOR, rule=rule))
    assert scaled_mean == pytest.approx(mean, abs=0.02 * _START)
    assert scaled_variance == pytest.approx(variance, rel=0.15)


@pytest.mark.parametrize(("name", "wrong"), [("adam", "linear"), ("rmsprop", "linear"), ("sgd", "square_root")])
def test_another_rule_does_not_keep_it(name: str, wrong: str) -> None:
    """Nor does none."""
    mean, variance = _before(name)
    for rule in (wrong, "none"):
        other_mean, other_variance = _train(name, _FACTOR, partial(scale_hyperparameters, factor=_FACTOR, rule=rule))
        assert abs(other_mean - mean) > 0.1 * _START
        assert other_variance != pytest.approx(variance, rel=0.5)


def test_adam_does_not_keep_it_with_the_old_eps() -> None:
    """It stands beside the noise, which is half as large."""

    def all_but_eps(optimizer: Optimizer) -> None:
        scale_hyperparameters(optimizer, _FACTOR)
        optimizer.param_groups[0]["eps"] = 10.0

    mean, _ = _before("adam")
    assert _train("adam", _FACTOR, all_but_eps)[0] > mean + 0.05 * _START


@pytest.mark.parametrize("rule", ["square_root", "linear", "legw", "weight_decay"])
def test_adamws_weight_decay_takes_as_much_of_the_weights(rule: str) -> None:
    """Without a gradient only the decay is left: the same share of the weights over the same items."""

    def left(batch: int) -> float:
        weights = nn.Parameter(torch.ones(1, dtype=torch.float64))
        optimizer = torch.optim.AdamW([weights], lr=1e-3, weight_decay=0.5)
        scale_hyperparameters(optimizer, batch, rule=rule)
        for _ in range(2048 // batch):
            weights.grad = torch.zeros_like(weights)
            optimizer.step()
        return float(weights.detach())

    assert left(1) == pytest.approx(math.exp(-2048 * 1e-3 * 0.5), rel=1e-3)
    assert left(8) == pytest.approx(left(1), rel=5e-3)


def test_an_average_of_the_weights_lags_by_as_many_items() -> None:
    """Of weights that move at a constant speed an average stays behind by as much."""

    def lag(batch: int) -> float:
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
        decay = scale_hyperparameters(optimizer, batch, ema=0.99, apply=False).after("ema_decay", None) or 0.99
        position, behind = 0.0, 0.0
        for _ in range(4096 // batch):
            position += batch
            behind = decay * behind + (1 - decay) * position
        return position - behind

    assert lag(1) == pytest.approx(99.0)
    assert lag(8) == pytest.approx(99.0 - 3.5, abs=0.1)  # half a step of 8, less half of one of 1
