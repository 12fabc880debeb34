"""Training setups that tests name by this file: a process that probes one makes it here."""

from __future__ import annotations

import os
import resource
import signal
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from carpool.train.setup import TrainSetup

if TYPE_CHECKING:
    from collections.abc import Iterator

Batch = tuple[torch.Tensor, torch.Tensor]
SIDE = 8
FATAL = 5
"""Micro-batches of so many items are the end of some of these."""


def images(num_items: int) -> Batch:
    """Made-up pictures of three colours and their classes."""
    return torch.randn(num_items, 3, SIDE, SIDE), torch.zeros(num_items, dtype=torch.long)


def loader(micro_batch_size: int) -> Iterator[Batch]:
    """One micro-batch."""
    yield images(micro_batch_size)


def loss(model: nn.Module, batch: Batch) -> torch.Tensor:
    """The sum of the cross-entropy."""
    pictures, classes = batch
    return nn.functional.cross_entropy(model(pictures), classes, reduction="sum")


class Wide(nn.Module):
    """Needs much memory and little work: an item's activations are some arrays of this many numbers."""

    def __init__(self, width: int = 1 << 17) -> None:
        super().__init__()
        self.scales = nn.Parameter(torch.full((4, width), 0.1))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return two logits for each item."""
        hidden = pictures.mean((1, 2, 3))[:, None]
        for scale in self.scales:
            hidden = hidden * scale  # kept for the backward pass
        mean = hidden.mean(1)
        return torch.stack([mean, -mean], dim=1)


def wide() -> TrainSetup:
    """A model whose activations take some MiB an item."""
    torch.manual_seed(0)
    model = Wide()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    return TrainSetup(model=model, optimizer=optimizer, loss=loss, loader=loader, num_items=5000)


def small(train: object = loss) -> TrainSetup:
    """A model of next to nothing, with another loss."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    return TrainSetup(model=model, optimizer=optimizer, loss=train, loader=loader, num_items=5000)  # type: ignore[arg-type]


def killed() -> TrainSetup:
    """As the system kills who takes too much; with a loader that has a process of its own."""

    def fatal(model: nn.Module, batch: Batch) -> torch.Tensor:
        if len(batch[0]) >= FATAL:
            os.kill(os.getpid(), signal.SIGKILL)
        return loss(model, batch)

    data = TensorDataset(*images(8))
    return replace(small(fatal), loader=lambda size: DataLoader(data, batch_size=size, num_workers=1))


def limited() -> TrainSetup:
    """A process that may take no more than a little memory: what PyTorch says then is said by PyTorch."""

    def hungry(model: nn.Module, batch: Batch) -> torch.Tensor:
        held = torch.zeros(len(batch[0]), 1 << 28)
        return loss(model, batch) + 0.0 * held.sum()

    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()  # noqa: PTH123, SIM115 - short
    resource.setrlimit(resource.RLIMIT_AS, (used + (3 << 30), hard))
    return small(hungry)
