"""Exact BatchNorm: a window that is computed in micro-batches learns what one batch of all its items would."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from carpool.train import Accumulator, BatchPlan
from carpool.train.batch_norm import check_batch_norm
from carpool.train.exact_batch_norm import ExactBatchNorm
from carpool.train.window_statistics import Site
from tests.train.exact_windows import EXACT, Checkpointed, accumulator_of, learn_exactly, mean_loss_of
from tests.train.images import NUM_ITEMS, Classifier, Images, apart, images_of, learn, loss_of, outcome_of

if TYPE_CHECKING:
    from collections.abc import Sequence


def whole_and_model(**options: Any) -> tuple[dict[str, torch.Tensor], Classifier]:
    """Give what plain PyTorch learns from one batch of all items, and the model before that."""
    model = Classifier(**options)
    reference = copy.deepcopy(model)
    learn(reference, images_of([NUM_ITEMS]))
    return outcome_of(reference), model


@settings(max_examples=8)
@given(cuts=st.lists(st.integers(min_value=0, max_value=NUM_ITEMS), max_size=4))
def test_any_cut_of_a_window_is_one_batch(cuts: list[int]) -> None:
    """However a window is cut, micro-batches of one item or none included, gradients and statistics are the batch's."""
    whole, model = whole_and_model()
    ends = [0, *sorted(cuts), NUM_ITEMS]
    learn_exactly(model, images_of([end - start for start, end in pairwise(ends)]))
    assert apart(outcome_of(model), whole) < EXACT


def test_plain_accumulation_is_not() -> None:
    """What the above is exact against: without it, both gradients and running statistics are others."""
    whole, model = whole_and_model()
    learn(model, images_of([5, 5, 3]))
    plain = outcome_of(model)
    assert float((plain["first.0.weight"] - whole["first.0.weight"]).abs().max()) > 0.01
    assert float((plain["first.1.running_var"] - whole["first.1.running_var"]).abs().max()) > 0.01


def test_the_gradient_through_the_statistics_is_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Statistics of the whole window alone are not enough: taken for constants, they give another gradient."""
    monkeypatch.setattr(Site, "through", lambda self, values: torch.zeros_like(values))
    whole, model = whole_and_model()
    learn_exactly(model, images_of([5, 5, 3]))
    plain = outcome_of(model)
    assert float((plain["first.0.weight"] - whole["first.0.weight"]).abs().max()) > 0.01
    assert float((plain["first.1.running_var"] - whole["first.1.running_var"]).abs().max()) < EXACT


class GivenNoise(nn.Module):
    """Dropout that draws for so many items at a time, as it does in micro-batches of these sizes."""

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__()
        self.sizes = sizes

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Drop some of the values."""
        sizes = self.sizes if len(values) == sum(self.sizes) else [len(values)]
        kept = [torch.bernoulli(torch.full((size, values.shape[1]), 0.7, dtype=values.dtype)) for size in sizes]
        return values * torch.cat(kept)


def test_dropout_is_the_same_in_all_passes() -> None:
    """The passes for the statistics draw what the last one draws; what is drawn after the window is as ever."""
    sizes = [4, 1, 8]
    torch.manual_seed(5)
    model = Classifier(dropout=GivenNoise(sizes))
    reference = copy.deepcopy(model)
    torch.manual_seed(6)
    learn(reference, images_of([NUM_ITEMS]))
    next_number = torch.rand(1)
    torch.manual_seed(6)
    learn_exactly(model, images_of(sizes))
    assert torch.equal(torch.rand(1), next_number)
    assert apart(outcome_of(model), outcome_of(reference)) < EXACT


def test_an_accumulator_takes_it_as_a_listener() -> None:
    """Two steps of the optimiser, in micro-batches of different sizes, are those of two whole batches."""
    model = Classifier()
    reference = copy.deepcopy(model)
    ours, theirs = (torch.optim.SGD(one.parameters(), lr=0.1, momentum=0.9) for one in (model, reference))
    accumulator = Accumulator(model, ours, plan=BatchPlan(effective_batch_size=NUM_ITEMS, micro_batch_size=5))
    exact = check_batch_norm(model, accumulator.plan, how="exact", loss=loss_of)
    assert exact is not None
    accumulator.listeners.append(exact)
    for window in accumulator.windows(images_of([5, 5, 3, 5, 4, 4])):
        for batch in window:
            window.backward(loss_of(model, batch))
    for batch in images_of([NUM_ITEMS, NUM_ITEMS]):
        theirs.zero_grad()
        learn(reference, [batch])
        theirs.step()
    assert apart(dict(model.state_dict()), dict(reference.state_dict())) < EXACT


@pytest.mark.parametrize(("pixel", "more"), [(torch.nan, 0.0), (0.0, torch.inf)])
def test_a_skipped_window_leaves_the_running_statistics(pixel: float, more: float) -> None:
    """A window that is not finite teaches nothing, neither the weights nor the statistics, whatever is not finite."""

    def loss(model: nn.Module, batch: Images) -> torch.Tensor:
        return loss_of(model, batch) + more

    model = Classifier()
    before = copy.deepcopy(model.state_dict())
    micro_batches = images_of([5, 5, 3])
    micro_batches[1][0][0, 0, 0, 0] = pixel
    assert accumulator_of(model, prepared_for=loss).step(micro_batches, loss).skipped
    assert apart(dict(model.state_dict()), before) == 0


def test_a_window_that_fails_leaves_the_layers_as_they_were() -> None:
    """After an exception the model trains as ever, and no statistic has moved."""
    model = Classifier()
    before = copy.deepcopy(model.state_dict())

    def fail() -> None:
        with ExactBatchNorm(model, loss_of).window(images_of([5, 8])):
            1 / 0  # noqa: B018

    with pytest.raises(ZeroDivisionError):
        fail()
    assert apart(dict(model.state_dict()), before) == 0
    assert "forward" not in model.shared.__dict__
    learn(model, images_of([5, 8]))
    assert model.shared.num_batches_tracked == torch.tensor(4)


def test_a_window_left_early_is_given_up_with_the_next() -> None:
    """A loop that is left moves no statistic, and the next window is as exact as ever."""
    whole, model = whole_and_model()
    accumulator = accumulator_of(model)
    for number, window in enumerate(accumulator.windows(images_of([5, 5, 3]) * 2)):
        for index, batch in enumerate(window):
            window.backward(loss_of(model, batch))
            if number == 0 and index == 1:
                break
    assert apart(dict(model.named_buffers()), {name: whole[name] for name, _ in model.named_buffers()}) < EXACT


def test_layers_in_eval_mode_keep_their_statistics() -> None:
    """Frozen layers are left as they are, and one without running statistics is computed over the window even so."""
    model = Classifier()
    model.first[1].eval()
    model.plain.eval()
    reference = copy.deepcopy(model)
    learn(reference, images_of([NUM_ITEMS]))
    learn_exactly(model, images_of([6, 7]))
    assert apart(outcome_of(model), outcome_of(reference)) < EXACT


def test_checkpointed_layers_are_exact_too() -> None:
    """What is computed once more in a backward pass sees the statistics of the window as well, and counts once."""
    model = Checkpointed()
    reference = copy.deepcopy(model)
    reference.keeps = True
    learn(reference, images_of([NUM_ITEMS]))
    learn_exactly(model, images_of([4, 6, 3]))
    assert apart(outcome_of(model), outcome_of(reference)) < EXACT


def test_half_precision_keeps_its_statistics_in_32_bits() -> None:
    """Under autocast the layers run in bfloat16, and gradients and statistics agree to its digits."""

    def loss(model: nn.Module, batch: Images) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return functional.cross_entropy(model(batch[0].float() - 100), batch[1], reduction="sum")

    model = Classifier().float()
    reference = copy.deepcopy(model)
    learn(reference, images_of([NUM_ITEMS]), loss=loss)
    learn_exactly(model, images_of([6, 7]), loss=loss)
    ours, whole = outcome_of(model), outcome_of(reference)
    for name, exact in whole.items():
        assert float((ours[name] - exact).double().norm()) < 0.1 * float(exact.double().norm()) + 0.01


class Activated(nn.BatchNorm2d):
    """A BatchNorm that does more in its own forward pass, as some libraries have it for activations."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Normalise, and bend what comes of it."""
        return super().forward(values) * 1.5


def test_layers_with_a_forward_pass_of_their_own() -> None:
    """One that calls torch's batch_norm keeps what else it does."""
    model = Classifier()
    model.first[1] = Activated(4).double()
    reference = copy.deepcopy(model)
    learn(reference, images_of([NUM_ITEMS]))
    learn_exactly(model, images_of([6, 7]))
    assert apart(outcome_of(model), outcome_of(reference)) < EXACT


def test_an_accumulator_of_means_is_prepared_for_with_the_sum() -> None:
    """What an accumulator makes of means are sums, so that its windows are exact too."""
    whole, model = whole_and_model()
    before = dict(copy.deepcopy(model).named_parameters())
    accumulator_of(model, loss_is="mean").step(images_of([5, 5, 3]), mean_loss_of)
    steps = {name: (before[name] - after).detach() / 0.1 for name, after in model.named_parameters()}
    assert apart(steps | dict(model.named_buffers()), whole) < EXACT


def test_layers_that_ranks_would_join_are_joined_over_the_window() -> None:
    """SyncBatchNorm, which sees one micro-batch of each rank, sees the whole window."""
    whole, model = whole_and_model()
    joined = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    learn_exactly(joined, images_of([5, 8]))
    assert apart(outcome_of(joined), whole) < EXACT


def test_parts_that_learn_nothing_change_nothing() -> None:
    """Frozen weights, passes without gradients, and layers that the loss does not need are as in one batch."""

    def loss(model: nn.Module, batch: Images) -> torch.Tensor:
        model.first(batch[0])  # type: ignore[operator]
        with torch.no_grad():
            model(batch[0])
        return loss_of(model, batch)

    model = Classifier()
    model.first.requires_grad_(requires_grad=False)
    reference = copy.deepcopy(model)
    learn(reference, images_of([NUM_ITEMS]), loss=loss)
    learn_exactly(model, images_of([1, 5, 7]), loss=loss)
    assert apart(outcome_of(model), outcome_of(reference)) < EXACT


def test_a_window_takes_as_many_passes_as_is_said() -> None:
    """For four calls of such layers, each micro-batch has nine forward passes."""
    sizes: list[int] = []

    def loss(model: nn.Module, batch: Images) -> torch.Tensor:
        sizes.append(len(batch[1]))
        return loss_of(model, batch)

    learn_exactly(Classifier(), images_of([6, 7]), loss=loss)
    assert sizes == [6, 7] * 9


def test_a_model_without_such_layers_is_computed_once() -> None:
    """Where there is no BatchNorm, nothing is computed beforehand."""
    calls = []

    def loss(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        calls.append(batch)
        return model(batch).sum()  # type: ignore[no-any-return]

    model = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
    with ExactBatchNorm(model, loss).window([torch.zeros(3, 2)] * 2) as window:
        for batch in window:
            loss(model, batch).backward()  # type: ignore[no-untyped-call]
    assert len(calls) == 2
