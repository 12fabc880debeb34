"""Ways to learn from a window whose BatchNorm layers see all of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.utils.checkpoint import checkpoint

from carpool.train import Accumulator, BatchPlan
from carpool.train.exact_batch_norm import ExactBatchNorm
from tests.train.images import NUM_ITEMS, Classifier, Images, learn, loss_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import nn

EXACT = 1e-10


def learn_exactly(
    model: nn.Module, micro_batches: Sequence[Images], *, loss: Callable[..., torch.Tensor] = loss_of
) -> None:
    """Compute micro-batches with the statistics of them all."""
    with ExactBatchNorm(model, loss).window(micro_batches, scale=1 / NUM_ITEMS) as window:
        learn(model, window, loss=loss)


def accumulator_of(
    model: nn.Module, *, prepared_for: Callable[..., torch.Tensor] = loss_of, **options: Any
) -> Accumulator:
    """Make an accumulator that computes windows exactly."""
    plan = BatchPlan(effective_batch_size=NUM_ITEMS, micro_batch_size=5)
    accumulator = Accumulator(model, torch.optim.SGD(model.parameters(), lr=0.1), plan=plan, **options)
    accumulator.listeners.append(ExactBatchNorm(model, prepared_for))
    return accumulator


class Checkpointed(Classifier):
    """Computes the first layers once more in the backward pass instead of keeping what they gave."""

    keeps = False
    reentrant = False

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Give the logits."""
        features = self.first(images) if self.keeps else self.again(images)
        pooled = self.shared(self.second(features)).mean((2, 3))
        logits: torch.Tensor = self.out(self.plain(pooled))
        return logits

    def again(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the first layers."""
        result: torch.Tensor = checkpoint(self.first, images.requires_grad_(), use_reentrant=self.reentrant)
        return result


def mean_loss_of(model: nn.Module, batch: Images) -> torch.Tensor:
    """Average the loss over a micro-batch."""
    return loss_of(model, batch) / len(batch[1])
