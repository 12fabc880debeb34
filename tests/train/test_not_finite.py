"""Windows that are not finite, and numbers of 16 bits: what must not reach the weights does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

from tests.train.linear import accumulator_of, linear, ones, scaler_of, summed
from tests.train.texts import CUT, TEXTS, train

if TYPE_CHECKING:
    from carpool.train import WindowResult, WindowStart


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("place", [0, 1])
def test_a_window_that_is_not_finite_is_skipped_whole(bad: float, place: int) -> None:
    """Neither weights, momentum nor schedule move, and the next window is as if it had not been."""
    model = linear()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1)
    accumulator = accumulator_of(model, optimizer=optimizer, scheduler=scheduler, max_norm=10.0)
    window = [torch.ones(4, 3), torch.ones(4, 3)]
    window[place][2, 1] = bad
    result = accumulator.step(window, summed)
    assert result.skipped
    assert not torch.isfinite(torch.tensor(result.loss))
    assert model.weight.tolist() == [[1, 1, 1]]
    assert not optimizer.state
    assert scheduler.last_epoch == 0
    assert not accumulator.step([torch.ones(4, 3)] * 2, summed).skipped
    assert model.weight.tolist() == [[0.5, 0.5, 0.5]]
    assert (accumulator.num_windows, accumulator.num_skipped) == (2, 1)


def test_a_loss_that_is_not_finite_is_enough() -> None:
    """Even where its gradient is."""
    model = linear()
    result = accumulator_of(model).step([torch.ones(4, 3)], lambda model, batch: summed(model, batch) + torch.inf)
    assert result.skipped
    assert result.grad_norm == pytest.approx(3**0.5)
    assert model.weight.tolist() == [[1, 1, 1]]


def test_mixed_precision_learns_what_plain_training_does() -> None:
    """The factor is a power of two: it is multiplied in and divided out without a trace."""
    weights, (result,) = train([TEXTS.split(CUT)], scaler=scaler_of(2.0**16), max_norm=0.25)
    expected, (plain,) = train([TEXTS.split(CUT)], max_norm=0.25)
    assert torch.equal(weights, expected)
    assert result.grad_norm == plain.grad_norm


def test_the_factor_of_mixed_precision_grows_by_windows() -> None:
    """It is the same for all micro-batches of one, and updated once."""
    scaler = scaler_of(8.0, growth_interval=2)
    model = linear()
    accumulator = accumulator_of(model, scaler=scaler)
    factors = []
    for window in accumulator.windows(ones(32, cut=4)):
        for batch in window:
            window.backward(summed(model, batch))
            factors.append(scaler.get_scale())
    assert factors == [8, 8, 8, 8, 16, 16, 16, 16]


def test_a_skipped_window_lowers_the_factor_once() -> None:
    """And begins the count of good windows anew, as the scaler does itself."""
    scaler = scaler_of(8.0, growth_interval=2)
    model = linear()
    accumulator = accumulator_of(model, scaler=scaler)
    good, bad = [torch.ones(4, 3)] * 2, [torch.ones(4, 3), torch.full((4, 3), torch.inf)]
    factors = []
    for window in (good, bad, good, good, good):
        accumulator.step(window, summed)
        factors.append(scaler.get_scale())
    assert factors == [8, 4, 4, 8, 8]


def test_an_overflow_of_the_scaled_gradient_is_survived() -> None:
    """The factor falls until the gradient fits, and no step is taken before it does."""
    scaler = scaler_of(2.0**127)
    model = linear()
    accumulator = accumulator_of(model, scaler=scaler)
    window = [torch.full((4, 3), 8.0)] * 2
    skipped = [accumulator.step(window, summed).skipped for _ in range(6)]
    assert skipped == [True, True, True, False, False, False]
    assert scaler.get_scale() == 2.0**124


def test_a_scaler_that_is_switched_off_changes_nothing() -> None:
    """As scripts have it that run in either precision."""
    weights, _ = train([TEXTS.split(CUT)] * 2, scaler=torch.amp.GradScaler("cpu", enabled=False))
    expected, _ = train([TEXTS.split(CUT)] * 2)
    assert torch.equal(weights, expected)
    model = linear()
    accumulator = accumulator_of(model, scaler=torch.amp.GradScaler("cpu", enabled=False))
    assert accumulator.step([torch.full((4, 3), torch.nan)], summed).skipped


def test_losses_of_16_bits_are_added_up_in_32() -> None:
    """The sum of four losses of 30,000 is more than float16 holds, and bfloat16 does not tell 2,049 from 2,048."""
    model = linear(1)
    with torch.autocast("cpu", torch.bfloat16):
        result = accumulator_of(model).step([torch.full((4, 1), 0.25), torch.full((4, 1), 512.0)], summed)
    assert result.loss == (1 + 2048) / 8
    accumulator = accumulator_of(linear(1), loss_is="mean")
    window = [torch.full((4, 1), 3e4)] * 2
    assert accumulator.step(window, lambda model, batch: model(batch).mean().to(torch.float16)).loss == 3e4


def test_gradients_of_16_bits_have_a_norm_beyond_16_bits() -> None:
    """65,504 is the end of float16, and many small numbers reach it together."""
    model = nn.Linear(100, 100, bias=False).half()
    nn.init.zeros_(model.weight)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    batch = torch.full((4, 100), 1000.0, dtype=torch.float16)
    result = accumulator_of(model, optimizer=optimizer).step([batch], lambda model, batch: model(batch).float().sum())
    assert result.grad_norm == pytest.approx(100_000, rel=1e-3)
    assert not result.skipped


class Objecting:
    """A listener that objects to the first window."""

    def __init__(self) -> None:
        self.num_windows = 0

    def before_window(self, start: WindowStart) -> None:
        """Take no notice."""

    def after_micro_batch(self, index: int, num_valid: int) -> None:
        """Take no notice."""

    def after_window(self, result: WindowResult) -> None:
        """Object to the first."""
        self.num_windows += 1
        if self.num_windows == 1:
            raise ArithmeticError(result.loss)


def test_a_listener_that_objects_costs_one_window_only() -> None:
    """The scaler forgets that it unscaled, and has its factor and its count of good windows still."""
    scaler, model = scaler_of(8.0, growth_interval=2), linear()
    accumulator = accumulator_of(model, scaler=scaler)
    window = [torch.ones(4, 3)] * 2
    accumulator.step(window, summed)
    accumulator.listeners.append(Objecting())
    kept = scaler.state_dict()
    with pytest.raises(ArithmeticError):
        accumulator.step(window, summed)
    assert scaler.state_dict() == kept
    assert not accumulator.step(window, summed).skipped
    assert scaler.get_scale() == 16
    assert model.weight.tolist() == [[0, 0, 0]]


def test_an_optimiser_that_fails_costs_one_window_only() -> None:
    """Whatever its step raises, the next window is unscaled as if it had not been."""
    scaler, model = scaler_of(8.0), linear()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    accumulator = accumulator_of(model, optimizer=optimizer, scaler=scaler)

    def fail(*_: object) -> None:
        raise ArithmeticError

    failing = optimizer.register_step_pre_hook(fail)
    with pytest.raises(ArithmeticError):
        accumulator.step([torch.ones(4, 3)] * 2, summed)
    failing.remove()
    accumulator.step([torch.ones(4, 3)] * 2, summed)
    assert model.weight.tolist() == [[0.5, 0.5, 0.5]]


@pytest.mark.parametrize("size", [1e30, 3e38])
def test_finite_gradients_whose_norm_leaves_32_bits_are_learnt(size: float) -> None:
    """Their squares are beyond float32, and maybe their norm: it is summed up in 64 bits, and clipped."""
    model = linear(4)
    accumulator = accumulator_of(model, max_norm=1.0)
    result = accumulator.step([torch.full((4, 4), 0.5)] * 2, lambda model, batch: (model(batch) - 2).sum() * size)
    assert not result.skipped
    assert result.grad_norm == pytest.approx(size)
    assert model.weight.tolist() == [pytest.approx([0.75] * 4, rel=1e-3)]
    assert accumulator.step([torch.full((4, 4), torch.inf)] * 2, summed).skipped
