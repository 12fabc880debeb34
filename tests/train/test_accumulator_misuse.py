"""What an accumulator cannot train is refused before anything is computed, and so is a checkpoint of other training."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from carpool.errors import ConfigError
from carpool.train import BatchPlan
from tests.train.linear import accumulator_of, linear, loop, ones, scaler_of, summed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss_is": "average"}, 'loss_is is \'average\'; it must be "sum" or "mean"'),
        ({"max_norm": 0.0}, "max_norm is 0.0; it must be above 0 and finite"),
        ({"max_norm": "1"}, "max_norm is '1'; it must be above 0 and finite"),
        ({"plan": {"effective_batch_size": 8}}, "plan is {'effective_batch_size': 8}; it must be a BatchPlan"),
        ({"max_norm": True}, "max_norm is True; it must be above 0 and finite"),
        ({"max_norm": torch.ones(2)}, "max_norm is tensor([1., 1.]); it must be above 0 and finite"),
        ({"max_norm": float("nan")}, "max_norm is nan; it must be above 0 and finite"),
        ({"max_norm": float("inf")}, "max_norm is inf; it must be above 0 and finite"),
        (
            {"plan": BatchPlan(effective_batch_size=8, micro_batch_size=4, num_ranks=2)},
            "the plan has 2 ranks, and Linear does not average their gradients: wrap it in",
        ),
        (
            {"optimizer": torch.optim.SGD(nn.Linear(3, 1).parameters(), lr=0.1)},
            "none of the optimiser's parameters is one of Linear's: make the optimiser after the model was moved",
        ),
        (
            {"optimizer": torch.optim.LBFGS(nn.Linear(3, 1).parameters())},
            "LBFGS computes the loss several times in a step",
        ),
    ],
)
def test_parts_that_do_not_go_together_are_refused(options: dict[str, Any], message: str) -> None:
    """Before anything is computed, and with the remedy."""
    with pytest.raises(ConfigError, match=re.escape(message)):
        accumulator_of(linear(), **options)


def test_a_scheduler_that_wants_a_measured_loss_is_refused() -> None:
    """It is stepped where that loss is measured."""
    model = linear()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
    with pytest.raises(ConfigError, match="ReduceLROnPlateau wants a measured loss"):
        accumulator_of(model, optimizer=optimizer, scheduler=scheduler)


def test_float16_parameters_cannot_be_scaled() -> None:
    """Their gradients cannot be unscaled: torch refuses it, in the middle of training."""
    with pytest.raises(ConfigError, match="float16 parameters, whose gradients cannot be unscaled"):
        accumulator_of(linear().half(), scaler=scaler_of(8.0))


def test_a_loss_that_misses_the_optimisers_parameters_is_named() -> None:
    """As where the wrong head is called."""
    model = nn.ModuleDict({"used": linear(), "other": linear()})
    optimizer = torch.optim.SGD(model["other"].parameters(), lr=0.1)
    accumulator = accumulator_of(model, optimizer=optimizer)
    with pytest.raises(ConfigError, match="none of the optimiser's parameters got a gradient"):
        accumulator.step([torch.ones(4, 3)], lambda model, batch: summed(model["used"], batch))


def test_a_checkpoint_goes_on_with_another_micro_batch() -> None:
    """The effective batch is held, and the counts go on."""
    model = linear()
    accumulator = accumulator_of(model)
    loop(accumulator, model, ones(16, cut=4))
    accumulator.step([torch.full((8, 3), torch.nan)], summed)
    other = accumulator_of(model, plan=BatchPlan(effective_batch_size=8, micro_batch_size=2))
    other.load_state_dict(accumulator.state_dict())
    assert (other.num_windows, other.num_skipped) == (3, 1)
    assert other.plan.micro_batch_size == 2


def test_a_checkpoint_of_another_effective_batch_is_refused() -> None:
    """Both are named: the learning rate belongs to one of them."""
    state = accumulator_of(linear()).state_dict()
    other = accumulator_of(linear(), plan=BatchPlan(effective_batch_size=16, micro_batch_size=4))
    with pytest.raises(ConfigError, match="trained with an effective batch of 8, and the plan says 16"):
        other.load_state_dict(state)
    with pytest.raises(ConfigError, match="the checkpoint lacks plan and num_windows and num_skipped"):
        other.load_state_dict({})
    with pytest.raises(ConfigError, match="the accumulator's state is None: give what its state_dict returned"):
        other.load_state_dict(None)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="num_windows is 'x'; it must be a whole number from 0"):
        other.load_state_dict(state | {"num_windows": "x"})
    with pytest.raises(ConfigError, match="the checkpoint's batch plan is 3: it was saved by something else"):
        other.load_state_dict(state | {"plan": 3})
    assert other.num_windows == 0


def test_a_new_plan_holds_from_the_next_window() -> None:
    """As when the batch grows as training goes on."""
    model = linear()
    accumulator = accumulator_of(model)
    held = []
    for window in accumulator.windows(ones(24, cut=4)):
        for batch in window:
            window.backward(summed(model, batch))
        held.append(window.result.num_valid)
        accumulator.plan = BatchPlan(effective_batch_size=16, micro_batch_size=4)
    assert held == [8, 16]
    with pytest.raises(ConfigError, match=re.escape("the new plan has 2 ranks, and 1 train together: use")):
        accumulator.plan = BatchPlan(effective_batch_size=16, micro_batch_size=4, num_ranks=2)


@pytest.mark.parametrize("max_norm", [np.float32(0.25), np.array(0.25), torch.tensor(0.25)])
def test_a_norm_to_clip_to_may_be_any_number(max_norm: Any) -> None:
    """As it comes from a sweep or a configuration."""
    model = linear()
    accumulator_of(model, max_norm=max_norm).step(ones(8, cut=4), summed)
    assert (1 - model.weight).norm().item() == pytest.approx(0.5 * 0.25)


def test_windows_that_are_not_iterated_over_are_refused() -> None:
    """They would be gone without anything learnt from them: the first that is passed by is named, the last one too."""
    model = linear()
    with pytest.raises(ConfigError, match="nothing was learnt from window 0, counted from 0, as its micro-batches"):
        list(accumulator_of(model).windows(ones(16, cut=4)))
    windows = accumulator_of(model).windows(ones(16, cut=4))
    for batch in (first := next(windows)):
        first.backward(summed(model, batch))
    next(windows)
    with pytest.raises(ConfigError, match="nothing was learnt from window 1, counted from 0"):
        next(windows)
