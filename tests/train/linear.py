"""A linear model whose gradient is known, and what trains it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from carpool.train import Accumulator, BatchPlan, WindowResult


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


def scaler_of(scale: float, **options: Any) -> torch.amp.GradScaler:
    """Make a scaler for mixed precision on the CPU."""
    return torch.amp.GradScaler("cpu", init_scale=scale, **options)
