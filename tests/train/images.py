"""Images to tell apart, and a model for it in which BatchNorm appears in every way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

NUM_ITEMS = 13

Images = tuple[torch.Tensor, torch.Tensor]


class Classifier(nn.Module):
    """Tells images apart, with BatchNorm before a shortcut, called twice, without weights, and of one dimension."""

    def __init__(self, *, seed: int = 0, dropout: nn.Module | None = None) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.first = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.shared = nn.BatchNorm2d(4, momentum=None)
        self.plain = nn.BatchNorm1d(4, affine=False, track_running_stats=False)
        self.dropout = dropout or nn.Identity()
        self.out = nn.Linear(4, 3)
        self.double()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Give the logits."""
        features = self.first(images)
        features = functional.relu(features + self.shared(self.second(features)), inplace=True)
        pooled = self.shared(self.second(features)).mean((2, 3))
        logits: torch.Tensor = self.out(self.dropout(self.plain(pooled)))
        return logits


def loss_of(model: nn.Module, batch: Images) -> torch.Tensor:
    """Sum the loss over a micro-batch."""
    images, labels = batch
    return functional.cross_entropy(model(images), labels, reduction="sum")


def images_of(sizes: Sequence[int], *, seed: int = 1) -> list[Images]:
    """Make micro-batches of so many images."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(sum(sizes), 2, 5, 5, generator=generator, dtype=torch.float64) * 3 + 100
    labels = torch.randint(3, (sum(sizes),), generator=generator)
    return list(zip(torch.split(images, list(sizes)), torch.split(labels, list(sizes)), strict=True))


def learn(model: nn.Module, micro_batches: Iterable[Images], *, loss: Callable[..., torch.Tensor] = loss_of) -> None:
    """Compute micro-batches, and add the gradients of the mean loss."""
    for batch in micro_batches:
        (loss(model, batch) / NUM_ITEMS).backward()  # type: ignore[no-untyped-call]


def outcome_of(model: nn.Module) -> dict[str, torch.Tensor]:
    """Give the gradients and the buffers of a model."""
    gradients = {name: one.grad for name, one in model.named_parameters() if one.grad is not None}
    return gradients | dict(model.named_buffers())


def apart(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Give the largest difference of anything."""
    assert one.keys() == other.keys()
    return max(float((one[name].double() - other[name].double()).abs().max()) for name in one)
