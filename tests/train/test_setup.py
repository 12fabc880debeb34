"""What training consists of: how many items a micro-batch has, and which one takes the most memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from carpool.errors import ConfigError
from carpool.train import TrainSetup
from carpool.train.setup import count_items

if TYPE_CHECKING:
    from collections.abc import Callable


class Pair(NamedTuple):
    """A micro-batch with names."""

    x: torch.Tensor
    y: torch.Tensor


@pytest.mark.parametrize(
    ("batch", "num_items"),
    [
        (torch.zeros(5, 2), 5),
        (np.zeros((4, 2)), 4),
        ((torch.zeros(3, 2), torch.zeros(3)), 3),
        ([torch.zeros(2, 2), torch.zeros(2)], 2),
        ({"input_ids": torch.zeros(7, 2), "labels": torch.zeros(7, 2)}, 7),
        ({"inputs": {"ids": (torch.zeros(6, 1),)}}, 6),
        (Pair(torch.zeros(8, 1), torch.zeros(8)), 8),
        (torch.zeros(0, 2), 0),
        (["one text", "another", "third"], 3),
        ([("one text", "another"), torch.zeros(2)], 2),
        ((), 0),
    ],
)
def test_items_are_counted_by_what_a_micro_batch_begins_with(batch: Any, num_items: int) -> None:
    """The length of the first tensor, however deep it lies."""
    assert count_items(batch) == num_items


@pytest.mark.parametrize("batch", [torch.tensor(3.0), np.float64(3), 7, None, (torch.ones(()),), iter([1]), "text"])
def test_a_micro_batch_without_a_length_asks_for_a_count(batch: Any) -> None:
    """What cannot be counted says how it can be."""
    with pytest.raises(ConfigError, match="does not say how many items it has: give count="):
        count_items(batch)


def test_a_list_of_images_is_not_counted_by_its_channels() -> None:
    """Batches of lists of one kind and another say nothing certain."""
    images = [torch.zeros(3, 8, 8) for _ in range(5)]
    with pytest.raises(ConfigError, match="first tensor has length 3, and goes on with something of another length"):
        count_items((images, [{"boxes": torch.zeros(2, 4)}] * 5))


def setup(**changes: Any) -> TrainSetup:
    """Make something to train."""
    model = nn.Linear(2, 1)
    parts: dict[str, Any] = {
        "model": model,
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1),
        "loss": lambda model, batch: model(batch).sum(),
        "loader": lambda size: torch.split(torch.arange(40.0).reshape(20, 2), size),
        "num_items": 20,
    }
    return TrainSetup(**(parts | changes))


def test_valid_items_are_items_unless_something_else_is_counted() -> None:
    """As the tokens of a text are."""

    def count(batch: torch.Tensor) -> int:
        return int((batch > 2).sum())

    batch = torch.arange(6.0).reshape(3, 2)
    assert setup().num_valid(batch) == 3
    assert setup(count=count).num_valid(batch) == 3
    assert setup(count=count).num_valid(batch[:2]) == 1


def test_the_largest_batch_is_the_loaders_first_or_made() -> None:
    """Items that differ need to be told which are largest."""
    make: Callable[[int], torch.Tensor] = lambda size: torch.full((size, 2), 9.0)  # noqa: E731
    assert setup().largest_batch(4).tolist() == torch.arange(8.0).reshape(4, 2).tolist()
    assert setup(worst_batch=make).largest_batch(4).tolist() == [[9.0, 9.0]] * 4
