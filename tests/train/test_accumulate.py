"""Accumulation: what is learnt in micro-batches is what one pass over all items would teach, to the last digits."""

from __future__ import annotations

import copy
import re
import warnings
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from carpool.errors import ConfigError
from carpool.train import Accumulator, BatchPlan, EffectiveBatchSampler, ExactBatchNorm, Window, WindowResult
from tests.train.texts import (
    LanguageModel,
    Texts,
    count_labels,
    largest_difference,
    mean_loss,
    summed_loss,
    texts_of,
    weights_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

EXACT = 1e-12


def train(
    windows: Sequence[Sequence[Texts]], *, loss: Callable[..., torch.Tensor] = summed_loss, **options: Any
) -> tuple[torch.Tensor, list[WindowResult]]:
    """Train a new model on windows of micro-batches, and give its weights and the results."""
    model = LanguageModel()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    plan = BatchPlan(effective_batch_size=1 << 20, micro_batch_size=1 << 10)
    accumulator = Accumulator(model, optimizer, plan=plan, count=count_labels, **options)
    results = [accumulator.step(window, loss) for window in windows]
    return weights_of(model), results


def train_by_hand(windows: Sequence[Texts]) -> tuple[torch.Tensor, list[float]]:
    """Train the same model in plain PyTorch, a window a pass, and give its weights and the losses."""
    model = LanguageModel()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    losses = []
    for window in windows:
        optimizer.zero_grad()
        loss = mean_loss(model, window)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    return weights_of(model), losses


@st.composite
def windows_of_texts(draw: st.DrawFn) -> list[tuple[Texts, list[int]]]:
    """Make up to three windows: texts of any length, cut anywhere, with empty micro-batches among them."""
    windows = []
    for seed in range(draw(st.integers(1, 3))):
        lengths = draw(st.lists(st.lists(st.integers(0, 6), max_size=4), min_size=1, max_size=5))
        lengths.append([draw(st.integers(1, 6))])  # something to learn
        order = draw(st.permutations(range(len(lengths))))
        parts = [lengths[place] for place in order]
        windows.append(
            (texts_of([count for part in parts for count in part], seed=seed), [len(part) for part in parts])
        )
    return windows


@given(windows_of_texts(), st.sampled_from(["sum", "mean"]))
def test_micro_batches_teach_what_the_whole_batch_does(windows: list[tuple[Texts, list[int]]], loss_is: str) -> None:
    """In float64, for all token counts, with empty micro-batches and short windows: weights and losses are the same."""
    loss = summed_loss if loss_is == "sum" else mean_loss
    weights, results = train([texts.split(sizes) for texts, sizes in windows], loss=loss, loss_is=loss_is)
    expected, losses = train_by_hand([texts for texts, _ in windows])
    assert largest_difference(weights, expected) < EXACT
    assert [result.loss for result in results] == pytest.approx(losses, rel=EXACT, abs=EXACT)
    assert [result.num_valid for result in results] == [count_labels(texts) for texts, _ in windows]


TEXTS = texts_of([6, 1, 0, 0, 2, 5, 3, 1, 4], seed=3)
CUT = (2, 2, 3, 2)  # of 7, 0, 10 and 5 labels


def test_a_mean_of_means_is_not_the_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison above sees the fault that it is there for: micro-batches that count alike, whatever they hold."""

    def mean_of_means(window: Window, index: int) -> float:
        filled = sum(size > 0 for size in window.start.sizes)
        return window.start.num_valid / (filled * window.start.sizes[index])

    expected, losses = train_by_hand([TEXTS])
    weights, (result,) = train([TEXTS.split(CUT)])
    assert largest_difference(weights, expected) < EXACT
    monkeypatch.setattr(Window, "_num_summands", mean_of_means)
    weights, (result,) = train([TEXTS.split(CUT)])
    assert largest_difference(weights, expected) > 1e-3
    assert abs(result.loss - losses[0]) > 1e-3


def test_micro_batches_without_a_valid_item_are_left_out() -> None:
    """Nothing is learnt from them, and their mean is not a number."""
    _, (result,) = train([TEXTS.split(CUT)], loss=mean_loss, loss_is="mean")
    assert result.num_micro_batches == 3
    assert not result.skipped


def test_a_window_without_a_valid_item_is_skipped() -> None:
    """It teaches nothing; the next one is not disturbed."""
    nothing = texts_of([0, 0])
    weights, results = train([nothing.split([1, 1]), TEXTS.split(CUT)])
    expected, _ = train_by_hand([TEXTS])
    assert [(result.skipped, result.num_valid) for result in results] == [(True, 0), (False, 22)]
    assert largest_difference(weights, expected) < EXACT


def linear(size: int = 3) -> nn.Linear:
    """Make a model with known weights."""
    model = nn.Linear(size, 1, bias=False)
    nn.init.ones_(model.weight)
    return model


def ones(num_items: int, *, cut: int) -> list[torch.Tensor]:
    """Make items that are all ones, in micro-batches."""
    return [torch.ones(min(cut, num_items - first), 3) for first in range(0, num_items, cut)]


def accumulator_of(model: nn.Module, **options: Any) -> Accumulator:
    """Make an accumulator for windows of 2 x 4 items."""
    given: dict[str, Any] = {
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.5),
        "plan": BatchPlan(effective_batch_size=8, micro_batch_size=4),
    }
    return Accumulator(model, **(given | options))


def summed(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    """Sum a loss whose gradient is the sum of the items."""
    loss: torch.Tensor = model(batch).sum()
    return loss


def loop(accumulator: Accumulator, model: nn.Module, loader: Any) -> list[WindowResult]:
    """Train on all windows of a loader."""
    results = []
    for window in accumulator.windows(loader):
        for batch in window:
            window.backward(summed(model, batch))
        results.append(window.result)
    return results


def test_windows_are_groups_of_micro_batches_and_the_last_may_be_short() -> None:
    """A short one is divided by what it holds."""
    model = linear()
    results = loop(accumulator_of(model), model, ones(22, cut=4))
    assert [(result.num_valid, result.num_micro_batches) for result in results] == [(8, 2), (8, 2), (6, 2)]
    assert [result.grad_norm for result in results] == [pytest.approx(3**0.5)] * 3


def test_windows_are_taken_from_the_loader_one_at_a_time() -> None:
    """No more micro-batches are held than those of one window."""
    left = ones(24, cut=4)
    windows = accumulator_of(linear()).windows(left.pop() for _ in range(6))
    for num_left in (4, 2, 0):
        next(windows)
        assert len(left) == num_left


def test_a_window_of_more_than_the_effective_batch_is_refused() -> None:
    """The learning rate belongs to the batch that was planned."""
    model = linear()
    message = "a window holds 10 items, and the plan is effective batch 8 = 2 x 4: load micro-batches of the sizes in"
    with pytest.raises(ConfigError, match=message):
        loop(accumulator_of(model), model, ones(20, cut=5))


def test_a_short_window_before_the_last_is_warned_of() -> None:
    """As where the loader was made for a smaller micro-batch than the plan."""
    model = linear()
    message = "a window before the last held 6 items, and the plan is effective batch 8 = 2 x 4: load micro-batches"
    with pytest.warns(UserWarning, match=message):
        loop(accumulator_of(model), model, ones(12, cut=3))


def test_a_short_last_window_is_nothing_to_warn_of() -> None:
    """Nor are several passes over the data that end in one."""
    model = linear()
    accumulator = accumulator_of(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            loop(accumulator, model, ones(11, cut=4))


def test_a_sampler_of_another_plan_is_refused() -> None:
    """Also where items are not counted, but the tokens in them."""
    sampler = EffectiveBatchSampler(64, BatchPlan(effective_batch_size=16, micro_batch_size=4))
    loader: DataLoader[Any] = DataLoader(TensorDataset(torch.ones(64, 3)), batch_sampler=sampler)
    model = linear()
    with pytest.raises(
        ConfigError, match="sampler gives effective batch 16 = 4 x 4, and the plan is effective batch 8 = 2"
    ):
        loop(accumulator_of(model, count=lambda batch: 3 * len(batch)), model, loader)


def test_a_used_up_loader_is_named() -> None:
    """A second pass over an iterator would train on nothing, and not say so."""
    model = linear()
    loader = iter(ones(8, cut=4))
    accumulator = accumulator_of(model)
    loop(accumulator, model, loader)
    with pytest.raises(ConfigError, match="the loader gives no micro-batch: an iterator is used up by one pass"):
        loop(accumulator, model, loader)
    with pytest.raises(ConfigError, match="the window holds no micro-batch"):
        accumulator.step([], summed)


@pytest.mark.parametrize("counted", [3.0, -1, None, "4", torch.tensor(3.5)])
def test_a_count_that_is_none_is_refused(counted: Any) -> None:
    """Such as a mean, or nothing at all."""
    accumulator = accumulator_of(linear(), count=lambda _batch: counted)
    with pytest.raises(
        ConfigError, match=re.escape(f"what count returned for a micro-batch is {counted!r}; it must be")
    ):
        accumulator.step([torch.ones(4, 3)], summed)


def test_a_count_may_be_a_tensor() -> None:
    """As `(labels != ignored).sum()` is."""
    accumulator = accumulator_of(linear(), count=lambda batch: (batch[:, 0] > 0).sum())
    assert accumulator.step([torch.ones(4, 3)], summed).num_valid == 4


# ---------------------------------------------------------------------------------------- once for each window


def test_clipping_is_by_the_norm_of_the_whole_window() -> None:
    """Once, as torch clips the gradient of one pass."""
    model = LanguageModel()
    by_hand = copy.deepcopy(model)
    mean_loss(by_hand, TEXTS).backward()  # type: ignore[no-untyped-call]
    norm = nn.utils.clip_grad_norm_(by_hand.parameters(), 0.25)
    torch.optim.SGD(by_hand.parameters(), lr=1.0).step()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    accumulator = accumulator_of(model, optimizer=optimizer, max_norm=0.25, count=count_labels)
    result = accumulator.step(TEXTS.split(CUT), summed_loss)
    assert result.grad_norm == pytest.approx(norm.item(), rel=EXACT)
    assert result.grad_norm > 0.25
    assert largest_difference(weights_of(model), weights_of(by_hand)) < EXACT


def test_optimiser_and_scheduler_step_once_a_window() -> None:
    """The learning rate goes by windows, whatever their micro-batches."""
    model = linear()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.1)
    accumulator = accumulator_of(model, optimizer=optimizer, scheduler=scheduler)
    loop(accumulator, model, ones(20, cut=4))
    assert scheduler.last_epoch == 3
    assert model.weight[0].tolist() == pytest.approx([1 - 1.11] * 3)


def test_the_result_of_each_window_is_told_after_its_step() -> None:
    """For a progress bar or a log."""
    model = linear()
    told: list[tuple[WindowResult, float]] = []
    accumulator = accumulator_of(model, on_window=lambda result: told.append((result, model.weight[0, 0].item())))
    results = loop(accumulator, model, ones(16, cut=4))
    assert told == [(results[0], 0.5), (results[1], 0.0)]
    assert accumulator.num_windows == 2


def test_frozen_parameters_are_left_alone() -> None:
    """A model of which a part learns has no gradient elsewhere."""
    frozen = linear()
    frozen.requires_grad_(requires_grad=False)
    accumulator = accumulator_of(nn.Sequential(frozen, nn.Linear(1, 1)))
    accumulator.step([torch.ones(4, 3)], summed)
    assert frozen.weight.tolist() == [[1, 1, 1]]


def normed() -> nn.Module:
    """Make a model with a BatchNorm."""
    return nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 1))


def test_batch_norm_is_warned_of_once() -> None:
    """It is the layer that micro-batches change; the plan of one micro-batch does not."""
    model = normed()
    accumulator = accumulator_of(model)
    with pytest.warns(
        UserWarning, match="the BatchNorm layer 0 takes its statistics from the 4 items of a micro-batch"
    ):
        accumulator.step(ones(8, cut=4), summed)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        accumulator.step(ones(8, cut=4), summed)
        accumulator.plan = BatchPlan(effective_batch_size=8, micro_batch_size=8)
        accumulator.step(ones(8, cut=8), summed)


def test_exact_batch_norm_is_nothing_to_warn_of() -> None:
    """It makes of the micro-batches what the whole batch would have been."""
    model = normed()
    accumulator = accumulator_of(model)
    accumulator.listeners.append(ExactBatchNorm(model, summed))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        accumulator.step(ones(8, cut=4), summed)


def test_sparse_gradients_are_summed_and_clipped_as_dense_ones() -> None:
    """As those of a large table of embeddings."""
    weights = []
    for sparse in (False, True):
        torch.manual_seed(0)
        model = nn.EmbeddingBag(20, 4, sparse=sparse, mode="sum")
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        accumulator = accumulator_of(model, optimizer=optimizer, max_norm=0.01)
        result = accumulator.step(list(torch.arange(24).remainder(7).reshape(2, 4, 3)), summed)
        weights.append((weights_of(model), result.grad_norm))
    assert largest_difference(weights[1][0], weights[0][0]) < 1e-6
    assert weights[1][1] == pytest.approx(weights[0][1])


# -------------------------------------------------------------------------------------------- not finite, and AMP


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


def scaler_of(scale: float, **options: Any) -> torch.amp.GradScaler:
    """Make a scaler for mixed precision on the CPU."""
    return torch.amp.GradScaler("cpu", init_scale=scale, **options)


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


# ------------------------------------------------------------------------------------------ what cannot be trained


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss_is": "average"}, 'loss_is is \'average\'; it must be "sum" or "mean"'),
        ({"max_norm": 0.0}, "max_norm is 0.0; it must be above 0 and finite"),
        ({"max_norm": "1"}, "max_norm is '1'; it must be above 0 and finite"),
        ({"plan": {"effective_batch_size": 8}}, "plan is {'effective_batch_size': 8}; it must be a BatchPlan"),
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


# ------------------------------------------------------------------------------------------------- checkpoints


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
