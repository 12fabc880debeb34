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
from carpool.train import BatchPlan, EffectiveBatchSampler, ExactBatchNorm, Window, WindowResult
from tests.train.linear import accumulator_of, linear, loop, ones, summed
from tests.train.texts import (
    CUT,
    TEXTS,
    LanguageModel,
    Texts,
    count_labels,
    largest_difference,
    mean_loss,
    summed_loss,
    texts_of,
    train,
    weights_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

EXACT = 1e-12


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


def test_windows_are_groups_of_micro_batches_and_the_last_may_be_short() -> None:
    """A short one is divided by what it holds."""
    model = linear()
    results = loop(accumulator_of(model), model, ones(22, cut=4))
    assert [(result.num_valid, result.num_micro_batches) for result in results] == [(8, 2), (8, 2), (6, 2)]
    assert [result.grad_norm for result in results] == [pytest.approx(3**0.5)] * 3


def test_windows_are_taken_from_the_loader_one_at_a_time() -> None:
    """No more micro-batches are held than those of one window."""
    left = ones(24, cut=4)
    model = linear()
    windows = accumulator_of(model).windows(left.pop() for _ in range(6))
    for num_left in (4, 2, 0):
        for batch in (window := next(windows)):
            window.backward(summed(model, batch))
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
