"""The critical batch size, measured on problems in which it is known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from carpool.errors import ConfigError
from carpool.train.noise.measure import measure_critical_batch
from carpool.train.setup import TrainSetup

if TYPE_CHECKING:
    from collections.abc import Iterator

CURVATURE = 1 / np.arange(1, 51)
RATE = 0.1
NUM_ITEMS = 1024
FACTORS = (1, 2, 4, 8, 16, 32)


class Bowl(nn.Module):
    """A quadratic whose items each add a slope of their own: the noisy quadratic, as a model that trains."""

    def __init__(self) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.ones(50, dtype=torch.float64))

    def forward(self, slopes: torch.Tensor) -> torch.Tensor:
        """The loss of each item."""
        return (torch.tensor(CURVATURE) * self.theta.square()).sum() / 2 + slopes @ self.theta


class Slopes:
    """A stream of items without end, drawn from torch's random numbers."""

    def __init__(self, micro_batch_size: int) -> None:
        self._size = micro_batch_size

    def __iter__(self) -> Iterator[torch.Tensor]:
        for _ in range(1000):
            yield torch.randn(self._size, 50, dtype=torch.float64) * torch.tensor(CURVATURE).sqrt()


def _height(model: nn.Module) -> float:
    (theta,) = model.parameters()
    return float((torch.tensor(CURVATURE) * theta.square()).sum()) / 2


def _setup(**more: Any) -> TrainSetup:
    model = Bowl()
    return TrainSetup(
        **{
            "model": model,
            "optimizer": torch.optim.SGD(model.parameters(), lr=RATE),
            "loss": lambda model, batch: model(batch).sum(),
            "loader": Slopes,
            "num_items": 100_000,
            "validate": _height,
            **more,
        }
    )


def _expected_height(factor: int) -> float:
    """Of the mean over all noise, by the recursion of the noisy quadratic; the rate goes up with the batch."""
    rate, batch_size = factor * RATE, factor * 16
    squares = np.ones(50)
    for _ in range(NUM_ITEMS // batch_size):
        squares = (1 - rate * CURVATURE) ** 2 * squares + rate**2 * CURVATURE / batch_size
    return float((CURVATURE * squares).sum()) / 2


def test_largest_batch_that_does_as_well_is_the_one_that_theory_gives() -> None:
    """On the noisy quadratic the loss of each branch is known on average, and so is where it rises."""
    expected = {16 * factor: _expected_height(factor) for factor in FACTORS}
    tolerance = 0.1
    good = [size for size, height in expected.items() if height <= expected[16] + tolerance]
    found = measure_critical_batch(
        _setup(),
        batch_size=16,
        micro_batch_size=16,
        num_items=NUM_ITEMS,
        factors=FACTORS,
        tolerance=tolerance,
        num_repeats=3,
    )
    assert (found.batch_size, found.beyond) == (good[-1], 2 * good[-1])
    assert found.text.startswith(
        f"critical batch size from {good[-1]} to {2 * good[-1]}: at batch {2 * good[-1]} the loss"
    )
    for branch in found.branches[:-1]:
        assert branch.loss == pytest.approx(expected[branch.batch_size], abs=0.05)


def test_everything_is_put_back() -> None:
    """Weights, buffers, modes, the optimiser's state and rates, random numbers, and where a shuffled loader stands."""
    model = nn.Sequential(nn.Linear(50, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 1))
    model[1].eval()
    order = torch.Generator().manual_seed(5)
    setup = _setup(
        model=model,
        optimizer=torch.optim.AdamW(model.parameters(), lr=1e-3),
        loader=lambda size: DataLoader(
            TensorDataset(torch.zeros(40, 50)), batch_size=size, shuffle=True, generator=order
        ),
        loss=lambda model, batch: model(batch[0]).square().sum(),
        validate=None,
    )
    model(torch.randn(8, 50)).sum().backward()
    setup.optimizer.step()
    setup.optimizer.zero_grad()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    moments = [value.clone() for state in setup.optimizer.state.values() for value in state.values()]
    groups = [{key: value for key, value in group.items() if key != "params"} for group in setup.optimizer.param_groups]
    random_states = [torch.get_rng_state(), order.get_state()]
    measure_critical_batch(setup, batch_size=16, micro_batch_size=8, num_items=64, factors=(1, 2), tolerance=10.0)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    after = [value for state in setup.optimizer.state.values() for value in state.values()]
    assert all(map(torch.equal, moments, after))
    assert [
        {key: value for key, value in group.items() if key != "params"} for group in setup.optimizer.param_groups
    ] == groups
    assert all(map(torch.equal, [torch.get_rng_state(), order.get_state()], random_states))
    assert [module.training for module in model] == [True, False, True, True]
    assert all(parameter.grad is None for parameter in model.parameters())


def test_everything_is_put_back_when_a_branch_fails() -> None:
    """An error in the middle of a branch leaves the training run as it was."""
    calls = iter(range(100))

    def loss(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        if next(calls) > 5:
            message = "the disk is gone"
            raise OSError(message)
        return torch.as_tensor(model(batch).sum())

    setup = _setup(loss=loss)
    with pytest.raises(OSError, match="the disk is gone"):
        measure_critical_batch(setup, batch_size=8, micro_batch_size=8, num_items=256)
    assert setup.optimizer.param_groups[0]["lr"] == RATE
    assert all((parameter == 1).all() for parameter in setup.model.parameters())


def test_branches_see_the_same_items_in_the_same_order() -> None:
    """However they are batched, and other ones in another repetition: batches are compared, not luck."""
    seen: list[list[torch.Tensor]] = []

    def loss(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        seen[-1].append(batch)
        return torch.as_tensor(model(batch).sum())

    def validate(model: nn.Module) -> float:
        seen.append([])
        return _height(model)

    seen.append([])
    measure_critical_batch(
        _setup(loss=loss, validate=validate),
        batch_size=8,
        micro_batch_size=4,
        num_items=64,
        factors=(1, 2, 4),
        tolerance=100.0,
        num_repeats=2,
    )
    first, other, *more = [torch.cat(batches) for batches in seen if batches]
    assert len(first) == 64
    assert not torch.equal(first, other)
    assert all(torch.equal(one, first) for one in more[::2])
    assert all(torch.equal(one, other) for one in more[1::2])


def test_batches_that_all_do_as_well_leave_it_open_above() -> None:
    """At least the largest that was tried; the loss of training data stands in where nothing else is measured."""
    found = measure_critical_batch(
        _setup(validate=None), batch_size=8, micro_batch_size=8, num_items=100, factors=(1, 2), tolerance=10.0
    )
    assert (found.batch_size, found.beyond, found.num_items) == (16, None, 112)
    assert found.text.startswith("critical batch size at least 16: its loss of ")
    assert found.text.endswith("at batch 8 after 112 items, from the same start")


def test_batch_that_diverges_is_beyond() -> None:
    """A loss that is no number is no good loss."""
    found = measure_critical_batch(
        _setup(),
        batch_size=8,
        micro_batch_size=8,
        num_items=1024,
        factors=(1, 2),
        scale=lambda optimizer, factor: optimizer.param_groups[0].update(lr=1e30 * factor),
    )
    assert (found.batch_size, found.beyond) == (8, 16)
    assert "below 16, and perhaps below 8" in found.text


def test_smallest_batch_that_diverges_is_no_measure() -> None:
    """There is nothing to compare with."""
    setup = _setup(validate=lambda model: float("nan"))
    with pytest.raises(ConfigError, match="the loss of the smallest batch becomes nan: train with a lower"):
        measure_critical_batch(setup, batch_size=8, micro_batch_size=8, num_items=64)


def test_data_without_a_valid_item_are_refused() -> None:
    """Nothing can be learnt from them, nor measured."""
    with pytest.raises(ConfigError, match="the training data have no valid item: see what count returns"):
        measure_critical_batch(
            _setup(count=lambda batch: 0, validate=None), batch_size=8, micro_batch_size=8, num_items=64
        )


def test_loader_that_gives_more_than_was_asked_for_is_refused() -> None:
    """Its batches would not be those that are compared."""
    with pytest.raises(ConfigError, match="a window holds 16 items, and the plan is effective batch 8"):
        measure_critical_batch(
            _setup(loader=lambda size: Slopes(2 * size)), batch_size=8, micro_batch_size=8, num_items=64
        )


def test_optimiser_without_a_rule_is_refused_before_anything_is_computed() -> None:
    """Not after the smallest batch has been trained."""

    def loss(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        message = "a branch was trained"
        raise AssertionError(message)

    model = Bowl()
    setup = _setup(model=model, optimizer=torch.optim.Adagrad(model.parameters()), loss=loss)
    with pytest.raises(ConfigError, match="no rule is known for Adagrad"):
        measure_critical_batch(setup, batch_size=8, micro_batch_size=8, num_items=64)


def test_loader_that_gives_nothing_is_refused() -> None:
    """Rather than waited for."""
    with pytest.raises(ConfigError, match="the loader gives no micro-batch"):
        measure_critical_batch(
            _setup(loader=lambda micro_batch_size: []), batch_size=8, micro_batch_size=8, num_items=64
        )


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"micro_batch_size": 3}, "batch_size is 8, no multiple of micro_batch_size 3"),
        ({"factors": (1,)}, r"factors is \[1\]; it must begin with 1 and go on"),
        ({"factors": (2, 4)}, r"factors is \[2, 4\]"),
        ({"factors": (1, 4, 2)}, r"factors is \[1, 4, 2\]; it must rise"),
        ({"factors": ()}, r"factors is \[\]"),
        ({"factors": (1, 1.5)}, "factors is 1.5"),
        ({"factors": "12"}, "factors is '1'"),
        ({"tolerance": None}, "tolerance is None"),
        ({"tolerance": -1.0}, "tolerance is -1.0"),
        ({"tolerance": float("nan")}, "tolerance is nan"),
        ({"num_items": 0}, "num_items is 0"),
        ({"num_repeats": 0}, "num_repeats is 0"),
    ],
)
def test_knobs_out_of_range_are_refused(wrong: dict[str, Any], said: str) -> None:
    """Each by its name and value, before anything is computed."""
    with pytest.raises(ConfigError, match=said):
        measure_critical_batch(_setup(), **({"batch_size": 8, "micro_batch_size": 8, "num_items": 64} | wrong))
