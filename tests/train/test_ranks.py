"""When ranks exchange gradients: in the last pass of a window, and in no other."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

from carpool.train import Accumulator, BatchPlan
from carpool.train.ranks import exchanges_gradients, gradients_kept

if TYPE_CHECKING:
    from collections.abc import Iterator


class Replicated(nn.Linear):
    """Exchanges gradients as DistributedDataParallel does, and writes down in which passes."""

    def __init__(self) -> None:
        super().__init__(3, 1)
        self.exchanging = True
        self.passes: list[bool] = []

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        """Keep gradients to this rank."""
        self.exchanging = False
        try:
            yield
        finally:
            self.exchanging = True

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute, and write down."""
        self.passes.append(self.exchanging)
        return super().forward(x)


class Sharded(Replicated):
    """Exchanges gradients as a model of fully_shard does; its `no_sync` is another's."""

    def set_requires_gradient_sync(self, requires_gradient_sync: bool) -> None:
        """Switch the exchange."""
        self.exchanging = requires_gradient_sync


def loss_of(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    """Sum the outputs."""
    loss: torch.Tensor = model(batch).sum()
    return loss


@pytest.mark.parametrize("kind", [Replicated, Sharded])
def test_gradients_are_exchanged_in_the_last_pass_of_a_window(kind: type[Replicated]) -> None:
    """Once for an effective batch, however many micro-batches it has; of one micro-batch in its only pass."""
    model = kind()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    accumulator = Accumulator(model, optimizer, plan=BatchPlan(effective_batch_size=12, micro_batch_size=4))
    for num_micro_batches in (3, 1, 2):
        accumulator.step([torch.ones(4, 3)] * num_micro_batches, loss_of)
    assert model.passes == [False, False, True, True, False, True]
    assert model.exchanging


@pytest.mark.parametrize("kind", [Replicated, Sharded])
def test_the_exchange_is_switched_on_again_after_an_error(kind: type[Replicated]) -> None:
    """Or the next window would let the ranks part."""
    model = kind()
    with pytest.raises(ZeroDivisionError), gradients_kept(model):
        _ = 1 / 0
    assert model.exchanging


def test_a_plain_model_exchanges_nothing() -> None:
    """And nothing is switched."""
    model = nn.Linear(3, 1)
    with gradients_kept(model):
        model(torch.ones(4, 3)).sum().backward()
    assert not exchanges_gradients(model)
    assert exchanges_gradients(Replicated())
