"""Probes in this process: what they answer, and that nothing of them stays."""

from __future__ import annotations

import gc
import random
import weakref
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

from carpool.errors import ConfigError
from carpool.train import TrainSetup
from carpool.train.autosize.isolated import Isolated
from tests.train.autosize.setups import SIDE, loss, small

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Fixed:
    """A peak that does not depend on what is done."""

    def __init__(self, device: str) -> None:
        self.device = device

    def read(self) -> int:
        """Return the bytes."""
        return 7


class Busy(nn.Module):
    """A model that changes all that it has when it is called: statistics, counters, and what it holds where."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)
        self.drop = nn.Dropout(0.5)
        self.out = nn.Linear(4, 1)
        self.num_calls = 0
        self.register_buffer("seen", torch.zeros(2), persistent=False)
        self.last: list[torch.Tensor] = []

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return a number for each item."""
        self.num_calls += 1
        self.seen = torch.ones(2) * self.num_calls  # another tensor in its place
        hidden = self.drop(self.norm(inputs))
        self.last = [hidden]
        random.random()
        np.random.rand()  # noqa: NPY002 - the generator that a user's old code draws from
        result: torch.Tensor = self.out(hidden)
        return result


DATA = TensorDataset(torch.randn(32, 4, generator=torch.Generator().manual_seed(1)))


def busy(*, steps: int) -> TrainSetup:
    """A setup in the middle of training: with an optimiser that has a state, and a loader that has a position."""
    torch.manual_seed(0)
    model = Busy()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    loader = DataLoader(DATA, batch_size=2, sampler=RandomSampler(DATA, generator=torch.Generator().manual_seed(2)))

    def loss(model: nn.Module, batch: list[torch.Tensor]) -> torch.Tensor:
        result: torch.Tensor = model(batch[0]).square().sum()
        return result

    setup = TrainSetup(model=model, optimizer=optimizer, loss=loss, loader=lambda _: loader, num_items=32)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(model, next(iter(loader))).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return setup


def train_on(setup: TrainSetup) -> list[float]:
    """What training learns from here on: equal only where everything that it depends on is equal."""
    losses = []
    for _ in range(3):
        loss = setup.loss(setup.model, next(iter(setup.loader(2))))
        loss.backward()  # type: ignore[no-untyped-call]
        setup.optimizer.step()
        losses.append(loss.item())
    numbers = [random.random(), float(np.random.rand()), float(torch.rand(()))]  # noqa: NPY002
    return losses + numbers + [float(value.sum()) for value in setup.model.state_dict().values()]


def seeded(steps: int) -> TrainSetup:
    """The same setup each time, down to the random numbers to come."""
    setup = busy(steps=steps)
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    torch.manual_seed(5)
    return setup


@pytest.mark.parametrize("steps", [0, 2])
def test_training_after_probes_goes_on_as_if_there_had_been_none(steps: int) -> None:
    """Weights, gradients, statistics, optimiser, random numbers and the loader's position are put back."""
    expected = train_on(seeded(steps))
    probed = seeded(steps)
    isolated = Isolated(probed, open_peak=Fixed)
    assert isolated.ask(2).peak_bytes == 7
    assert isolated.time([1, 2], 0.0).passes_s[0][0] == 1
    assert train_on(probed) == expected


def test_the_very_same_objects_are_put_back() -> None:
    """Whoever holds a tensor of the model or of the optimiser still holds the one that is trained."""
    setup = seeded(2)
    model, optimizer = setup.model, setup.optimizer
    assert isinstance(model, Busy)

    def objects() -> list[int]:
        state = [id(tensor) for held in optimizer.state.values() for tensor in held.values()]
        grads = [id(parameter.grad) for parameter in model.parameters()]
        return [*map(id, model.parameters()), *map(id, model.buffers()), *state, *grads]

    before = objects()
    Isolated(setup, open_peak=Fixed).ask(2)
    assert objects() == before
    assert model.num_calls == 2
    assert torch.equal(model.seen, torch.full((2,), 2.0))
    model.eval()
    Isolated(setup, open_peak=Fixed).ask(2)
    assert not model.training


def test_lazy_state_of_the_optimiser_is_taken_away_again() -> None:
    """An optimiser that had not stepped has no state after the probe either, and the options that it had."""
    setup = seeded(0)
    Isolated(setup, open_peak=Fixed).ask(2)
    assert not setup.optimizer.state
    assert all(parameter.grad is None for parameter in setup.model.parameters())


def test_options_and_counters_of_the_optimiser_are_put_back() -> None:
    """A rate that the steps changed, and whether a step was made before the scheduler's: it warns of that."""
    setup = seeded(0)
    scheduler = torch.optim.lr_scheduler.ConstantLR(setup.optimizer)
    rates = [group["lr"] for group in setup.optimizer.param_groups]

    def changing(model: nn.Module, batch: Any) -> torch.Tensor:
        setup.optimizer.param_groups[0].update(lr=7.0, momentum=0.5)
        return setup.loss(model, batch)

    Isolated(replace(setup, loss=changing), open_peak=Fixed).ask(2)
    assert [group["lr"] for group in setup.optimizer.param_groups] == rates
    assert "momentum" not in setup.optimizer.param_groups[0]
    with pytest.warns(UserWarning, match=r"call of `lr_scheduler.step\(\)` before `optimizer.step\(\)`"):
        scheduler.step()


def failing(error: Callable[[], Exception], held: list[weakref.ref[torch.Tensor]]) -> TrainSetup:
    """A setup whose steps fail while a large tensor is in hand, and which remembers the error, as a log may."""
    errors: list[Exception] = []

    def loss(model: nn.Module, batch: Any) -> torch.Tensor:
        activations = torch.ones(1 << 20)
        held.append(weakref.ref(activations))
        errors.append(error())
        raise errors[-1]

    return small(loss)


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (lambda: torch.OutOfMemoryError("out of memory"), "memory"),
        (lambda: RuntimeError("shapes cannot be multiplied"), "model"),
        (lambda: ConfigError("no such option"), "asked"),
    ],
)
def test_errors_are_answers_and_hold_nothing(error: Callable[[], Exception], cause: str) -> None:
    """What did not fit is freed, though an error's frames held it, before the next size is tried."""
    held: list[weakref.ref[torch.Tensor]] = []
    gc.disable()
    setup = failing(error, held)
    try:
        answer = Isolated(setup, open_peak=Fixed).ask(4)
    finally:
        gc.enable()
    assert answer.cause == cause
    assert held
    assert all(one() is None for one in held)


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (lambda model: 3.0, "the loss is a float: it must return a tensor without dimensions"),
        (lambda model: torch.ones(4, requires_grad=True), "the loss has the shape [4]: it must be the sum"),
        (lambda model: torch.ones(()), "the loss does not depend on any parameter that is trained"),
    ],
)
def test_a_loss_that_is_none_is_refused(returned: Callable[[nn.Module], Any], said: str) -> None:
    """A step that learns nothing would measure nothing."""
    answer = Isolated(small(lambda model, batch: returned(model)), open_peak=Fixed).ask(4)
    assert answer.cause == "asked"
    assert answer.error.startswith(said)


def test_a_loader_that_gives_nothing_is_refused() -> None:
    """As one that drops the last batch where the data are fewer."""
    setup = seeded(0)

    def nothing(micro_batch_size: int) -> Iterator[Any]:
        return iter(())

    answer = Isolated(replace(setup, loader=nothing), open_peak=Fixed).ask(64)
    assert answer.error.startswith("loader(64) gave no micro-batch")


def num_held(setup: TrainSetup, *, reserves: bool) -> int:
    """Tensors of the size of the weights that there are during the first step of a probe, gradients not being any."""
    held: list[int] = []

    def counting(model: nn.Module, batch: Any) -> torch.Tensor:
        gc.collect()
        held.append(sum(type(one) is torch.Tensor and one.shape == (2, 3 * SIDE * SIDE) for one in gc.get_objects()))
        return loss(model, batch)

    assert not Isolated(replace(setup, loss=counting), reserves=reserves, open_peak=Fixed).ask(1).error
    return held[0]


def test_several_ranks_hold_the_gradients_twice() -> None:
    """What other ranks' gradients arrive in takes as much again; a wrapper that exchanges them holds it by itself."""
    setup = small()
    alone = num_held(setup, reserves=False)
    assert num_held(setup, reserves=True) == alone + 1
    setattr(setup.model, "no_sync", nullcontext)  # noqa: B010 - as DistributedDataParallel has it
    assert num_held(setup, reserves=True) == alone


@pytest.mark.parametrize("num_items", [0, -1, "all"])
def test_data_without_items_are_refused(num_items: Any) -> None:
    """Whatever the loader gives, a pass over no items is no training."""
    answer = Isolated(replace(small(), num_items=num_items), open_peak=Fixed).ask(1)
    assert answer.error == f"num_items of the setup is {num_items!r}; it must be at least 1, a whole number"


def test_a_model_that_is_spread_over_ranks_is_refused() -> None:
    """Its ranks must compute in step, and memory may run out on one of them."""
    setup = small()
    next(setup.model.parameters()).device_mesh = "of two"  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="spread over ranks, which compute in step"):
        Isolated(setup, open_peak=Fixed)
