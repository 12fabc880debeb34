"""What exact BatchNorm cannot compute is refused before a step is taken, with what helps."""

from __future__ import annotations

import random

import pytest
import torch
from torch import nn

from carpool.errors import ConfigError
from carpool.train import WindowStart
from carpool.train.exact_batch_norm import ExactBatchNorm
from tests.train.exact_windows import Checkpointed, accumulator_of, learn_exactly, mean_loss_of
from tests.train.images import NUM_ITEMS, Classifier, Images, images_of, loss_of


def test_other_random_numbers_than_torchs_are_found_out() -> None:
    """A model that draws from elsewhere computes something else in each pass, which cannot be exact."""

    class Jittery(nn.Module):
        """Draws from Python's own random numbers."""

        def forward(self, values: torch.Tensor) -> torch.Tensor:
            """Scale the values."""
            return values * random.choice([0.25, 1.0, 4.0])

    random.seed(1)
    with pytest.raises(ConfigError, match=r"layer plain is .* times that of the passes before: .*from torch only"):
        learn_exactly(Classifier(dropout=Jittery()), images_of([5, 5, 3]))


def test_a_checkpoint_of_the_old_kind_is_refused() -> None:
    """One that differentiates on its own hides the layers in it; there is another kind."""
    model = Checkpointed()
    model.reentrant = True
    with pytest.raises(
        ConfigError, match=r"layer first.1 is in a checkpoint .*: use checkpoint\(..., use_reentrant=False\)"
    ):
        learn_exactly(model, images_of([6, 7]))


def test_a_checkpointed_layer_that_is_called_twice_is_refused() -> None:
    """In the backward pass nobody says which of its calls is computed once more."""

    class Twice(Checkpointed):
        """Calls its first layers twice, of which one call is computed once more."""

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            """Give the logits."""
            return super().forward(images) + super().forward(images + 1)

    with pytest.raises(ConfigError, match=r"layer first\.1 is called 2 times .* leave it out of the checkpoint"):
        learn_exactly(Twice(), images_of([6, 7]))


class OwnArithmetic(nn.BatchNorm2d):
    """A BatchNorm that computes its statistics itself."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Subtract the mean."""
        return values - values.mean((0, 2, 3), keepdim=True)


def test_a_layer_that_computes_its_own_statistics_is_refused() -> None:
    """What does not call torch's batch_norm cannot be given other statistics."""
    model = Classifier()
    model.first[1] = OwnArithmetic(4).double()
    with pytest.raises(ConfigError, match=r"first\.1, a OwnArithmetic, does not call torch.nn.functional.batch_norm"):
        learn_exactly(model, images_of([6, 7]))


def test_losses_that_were_not_prepared_for_are_refused() -> None:
    """Another scale, a mean for a sum, or a micro-batch without a backward pass is found out before the step."""

    def learn_from(first: int, *, scale: float) -> None:
        with ExactBatchNorm(model, loss_of).window(images_of([5, 8]), scale=scale) as window:
            losses = [loss_of(model, batch) / NUM_ITEMS for batch in window]
            torch.stack(losses[first:]).sum().backward()  # type: ignore[no-untyped-call]

    model = Classifier()
    with pytest.raises(ConfigError, match=r"layer plain is 0.0769 times that of the passes before: compute the same"):
        learn_from(0, scale=1.0)
    with pytest.raises(ConfigError, match=r"had 2 forward passes, and 1 backward passes: call backward once"):
        learn_from(1, scale=1 / NUM_ITEMS)
    with pytest.raises(ConfigError, match="a sum and not a mean"):
        accumulator_of(model).step(images_of([5, 5, 3]), mean_loss_of)


def test_micro_batches_that_cannot_be_exact_are_refused() -> None:
    """A layer with one value to see, other calls for other micro-batches, and losses that are no number are told."""
    flat = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))

    def summed(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        return model(batch).sum()  # type: ignore[no-any-return]

    with pytest.raises(
        ConfigError, match="layer 1 sees 1 value of each channel in the whole window: its statistics need"
    ):
        ExactBatchNorm(flat, summed).window([torch.zeros(1, 2), torch.zeros(0, 2)]).__enter__()
    with pytest.raises(ConfigError, match="the loss of micro-batch 0 must be a tensor of one number: sum it up"):
        ExactBatchNorm(flat, lambda model, batch: model(batch)).window([torch.zeros(4, 2)]).__enter__()

    def sometimes(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        return summed(model, batch) if len(batch) > 1 else model[0](batch).sum()  # type: ignore[index]

    with pytest.raises(
        ConfigError, match="micro-batch 1 calls 0 BatchNorm layers, and others 1: exact BatchNorm needs"
    ):
        ExactBatchNorm(flat, sometimes).window([torch.zeros(4, 2), torch.zeros(1, 2)]).__enter__()
    with pytest.raises(ConfigError, match="layer 1 is called where it was not before"):
        ExactBatchNorm(flat, sometimes).window([torch.zeros(1, 2), torch.zeros(4, 2)]).__enter__()


def test_losses_made_of_gradients_are_refused() -> None:
    """A gradient penalty differentiates a gradient, which flows between the items of a batch through the statistics."""

    def penalised(model: nn.Module, batch: Images) -> torch.Tensor:
        images = batch[0].clone().requires_grad_()
        loss = loss_of(model, (images, batch[1]))
        (slope,) = torch.autograd.grad(loss, images, create_graph=True)
        return loss + slope.square().sum()

    @torch.enable_grad()
    def enabled(model: nn.Module, batch: Images) -> torch.Tensor:
        return penalised(model, batch)

    @torch.enable_grad()
    def against(model: nn.Module, batch: Images) -> torch.Tensor:
        images = batch[0].clone().requires_grad_()
        (slope,) = torch.autograd.grad(loss_of(model, (images, batch[1])), images)
        return loss_of(model, (batch[0] + slope.sign(), batch[1]))

    with pytest.raises(ConfigError, match=r"itself computed from gradients, and BatchNorm's statistics"):
        learn_exactly(Classifier(), images_of([6, 7]), loss=penalised)
    with pytest.raises(ConfigError, match=r"itself computed from gradients through the BatchNorm layer plain"):
        learn_exactly(Classifier(), images_of([6, 7]), loss=enabled)
    with pytest.raises(ConfigError, match=r"layer first.1 are taken for something else than the loss's own"):
        learn_exactly(Classifier(), images_of([6, 7]), loss=against)


def test_sharded_replicated_and_compiled_models_are_refused() -> None:
    """What does not let its layers be called one by one cannot be exact, and says what to use instead."""

    class Sharded(nn.Linear):
        """Has what fully_shard adds to a model."""

        def set_requires_gradient_sync(self) -> None:
            """Exchange gradients from now on, or not."""

    compiled = nn.Linear(2, 2)
    compiled._compiled_call_impl = print
    for model, message in (
        (nn.Sequential(Sharded(2, 2)), "sharded by fully_shard: exact BatchNorm needs DistributedDataParallel"),
        (nn.DataParallel(nn.Linear(2, 2)), "use DistributedDataParallel"),
        (nn.Sequential(compiled), "as it was before torch.compile"),
    ):
        with pytest.raises(ConfigError, match=message):
            ExactBatchNorm(model, loss_of)


def test_a_model_without_the_accumulators_wrapper_is_refused() -> None:
    """Statistics of one rank alone would pass unnoticed."""
    start = WindowStart(micro_batches=tuple(images_of([4])), sizes=(4,), num_valid=8, num_ranks=2, scale=0.25)
    with pytest.raises(
        ConfigError, match="shared by 2 ranks, and exact BatchNorm was made for 1: give it the model that"
    ):
        ExactBatchNorm(Classifier(), loss_of).before_window(start)
