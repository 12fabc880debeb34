"""Schedules go on by the new rates, and none brings the old ones back."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler, swa_utils

from carpool.errors import ConfigError
from carpool.train.scaling.apply import scale_hyperparameters

if TYPE_CHECKING:
    from collections.abc import Callable


def _weights() -> list[nn.Parameter]:
    return [nn.Parameter(torch.ones(3))]


def _sgd() -> torch.optim.SGD:
    return torch.optim.SGD(_weights(), lr=0.1)


def _adam() -> torch.optim.Adam:
    return torch.optim.Adam(_weights(), lr=1e-3)


_SCHEDULES: dict[str, Callable[[torch.optim.Optimizer, float], Any]] = {
    "exponential": lambda optimizer, _: lr_scheduler.ExponentialLR(optimizer, 0.9),
    "lambda": lambda optimizer, _: lr_scheduler.LambdaLR(optimizer, lambda step: (step + 1) / 10),
    "multi-step": lambda optimizer, _: lr_scheduler.MultiStepLR(optimizer, [3, 5]),
    "cosine": lambda optimizer, rate: lr_scheduler.CosineAnnealingLR(optimizer, 12, eta_min=rate / 100),
    "restarts": lambda optimizer, rate: lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 4, eta_min=rate / 100),
    "polynomial": lambda optimizer, _: lr_scheduler.PolynomialLR(optimizer, 12, 2.0),
    "one cycle": lambda optimizer, rate: lr_scheduler.OneCycleLR(optimizer, rate, total_steps=30, cycle_momentum=False),
    "cyclic": lambda optimizer, rate: lr_scheduler.CyclicLR(optimizer, rate / 4, rate, 4, cycle_momentum=False),
    "sequential": lambda optimizer, rate: lr_scheduler.SequentialLR(
        optimizer,
        [
            lr_scheduler.LinearLR(optimizer, 0.1, total_iters=4),
            lr_scheduler.CosineAnnealingLR(optimizer, 8, eta_min=rate / 100),
        ],
        milestones=[4],
    ),
    "averaging": lambda optimizer, rate: swa_utils.SWALR(optimizer, rate / 2, anneal_epochs=6),
    "chained": lambda optimizer, _: lr_scheduler.ChainedScheduler(
        [lr_scheduler.ConstantLR(optimizer, 0.5, 4), lr_scheduler.ExponentialLR(optimizer, 0.9)]
    ),
}


def _rates(schedule: str, rate: float, *, scaled_after: int | None = None) -> list[float]:
    """The rates of 12 steps; scaled by 4 after some of them."""
    optimizer = torch.optim.SGD(_weights(), lr=rate)
    scheduler = _SCHEDULES[schedule](optimizer, rate)
    seen = []
    for step in range(12):
        if step == scaled_after:
            scale_hyperparameters(optimizer, 4, scheduler=scheduler)
            assert scheduler.get_last_lr() == pytest.approx([optimizer.param_groups[0]["lr"]])
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return seen


@pytest.mark.parametrize("schedule", _SCHEDULES)
@pytest.mark.parametrize("scaled_after", [0, 5])
def test_a_schedule_goes_on_by_the_new_rates(schedule: str, scaled_after: int) -> None:
    """As it would have gone, had it been made with them: the oracle is the schedule itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of what its own SequentialLR does
        old, new = _rates(schedule, 0.1), _rates(schedule, 0.4)
        mixed = _rates(schedule, 0.1, scaled_after=scaled_after)
    assert mixed == pytest.approx(old[:scaled_after] + new[scaled_after:], rel=1e-6)


def test_the_rate_that_is_reported_is_the_one_that_was_tuned() -> None:
    """Not what a schedule has made of it by now, which may be nothing; weight decay goes by it too."""
    optimizer = torch.optim.AdamW(_weights(), lr=1e-3, weight_decay=0.1)
    lr_scheduler.LambdaLR(optimizer, lambda step: 0.0)
    report = scale_hyperparameters(optimizer, 4, apply=False)
    assert report.changes[0].before == 1e-3
    assert report.after("lr") == pytest.approx(2e-3)
    assert report.after("weight_decay") == pytest.approx(0.2)


def test_a_plateau_keeps_its_floor_in_proportion() -> None:
    """The least rate is scaled with the rate."""
    optimizer = _sgd()
    scheduler = lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.01, patience=0, min_lr=0.01)
    scale_hyperparameters(optimizer, 4, scheduler=scheduler)
    for _ in range(3):
        scheduler.step(1.0)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.04)


def test_a_schedule_that_was_not_given_is_asked_for() -> None:
    """It would bring the old rates back, and nobody would see it."""
    optimizer = _sgd()
    scheduler = lr_scheduler.ExponentialLR(optimizer, 0.9)
    with pytest.raises(ConfigError, match="would bring the old ones back: give scheduler="):
        scale_hyperparameters(optimizer, 4)
    assert optimizer.param_groups[0]["lr"] == 0.1
    scale_hyperparameters(optimizer, 4, scheduler=scheduler)


def test_what_leaves_the_rates_alone_asks_for_no_schedule() -> None:
    """Nothing of it would be undone."""
    optimizer = torch.optim.AdamW(_weights(), lr=1e-3, weight_decay=0.1)
    lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=10)
    scale_hyperparameters(optimizer, 1)
    scale_hyperparameters(optimizer, 4, rule="none")
    scale_hyperparameters(optimizer, 4, rule="weight_decay")
    assert optimizer.param_groups[0]["weight_decay"] == pytest.approx(0.4)


def test_a_schedule_of_another_optimiser_is_refused() -> None:
    """Its rates are none of this optimiser's."""
    other = lr_scheduler.ExponentialLR(_sgd(), 0.9)
    with pytest.raises(ConfigError, match="the scheduler given is of another optimiser"):
        scale_hyperparameters(_sgd(), 4, scheduler=other)


def test_what_is_no_schedule_is_refused() -> None:
    """Such as a function of the step."""
    with pytest.raises(ConfigError, match="no schedule of torch's"):
        scale_hyperparameters(_sgd(), 4, scheduler=lambda step: step)


def test_a_schedule_that_sets_the_decays_is_refused() -> None:
    """OneCycleLR sets beta1 at each step, and would undo what is done."""
    optimizer = _adam()
    scheduler = lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=10)
    with pytest.raises(ConfigError, match=r"sets beta1 at each step.*cycle_momentum=False"):
        scale_hyperparameters(optimizer, 4, scheduler=scheduler)
    scale_hyperparameters(optimizer, 4, scheduler=scheduler, rule="legw")
