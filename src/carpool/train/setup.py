"""What training consists of, as a user's `setup()` returns it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sized
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from carpool.errors import ConfigError


class Loss(Protocol):
    """Computes the loss of a micro-batch: the *sum* over its valid items."""

    def __call__(self, model: nn.Module, batch: Any, /) -> torch.Tensor:
        """Compute it.

        Args:
            model: to call.
            batch: as the loader gives it; the loss moves it to the model's device.

        Returns:
            A scalar that can be differentiated.
        """
        ...


class MakeLoader(Protocol):
    """Makes what gives the micro-batches of one pass over the training data."""

    def __call__(self, micro_batch_size: int, /) -> Iterable[Any]:
        """Make it.

        Args:
            micro_batch_size: items of each; the last one may have fewer.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSetup:
    """A model, and what it takes to train it.

    Args:
        model: in training mode, on its device.
        optimizer: of the model's parameters.
        loss: the sum over a micro-batch's valid items, never their mean: only sums add up to the effective batch's.
        loader: makes what gives the micro-batches of one pass over the data.
        num_items: items of one pass over the data.
        count: valid items of a micro-batch, by which the loss of a whole window is divided: for a language model the
            tokens that have a label. `count_items` by default.
        worst_batch: makes the micro-batch of so many items that takes the most memory, as one of the longest texts; the
            loader's first one where all items are alike.
        validate: gives a number that falls as the model learns, such as the loss on data kept apart; for comparing
            batch sizes.
        base_batch_size: the effective batch that the optimiser's learning rate was chosen for; what it is at another
            follows from it.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    loss: Loss
    loader: MakeLoader
    num_items: int
    count: Callable[[Any], int] | None = None
    worst_batch: Callable[[int], Any] | None = None
    validate: Callable[[nn.Module], float] | None = None
    base_batch_size: int | None = None

    def num_valid(self, batch: Any) -> int:
        """Valid items of a micro-batch.

        Args:
            batch: as the loader gives it.
        """
        return (self.count or count_items)(batch)

    def largest_batch(self, num_items: int) -> Any:
        """The micro-batch of so many items that takes the most memory.

        Args:
            num_items: of it.
        """
        if self.worst_batch is not None:
            return self.worst_batch(num_items)
        return next(iter(self.loader(num_items)))


def count_items(batch: Any) -> int:
    """Items of a micro-batch: the length of a tensor's first dimension, or of what a tuple or mapping begins with.

    Args:
        batch: a tensor, or a tuple, list or mapping of them; or texts.

    Raises:
        ConfigError: it has no length.

    >>> import numpy as np
    >>> count_items((np.zeros((8, 3)), np.zeros(8))), count_items({"x": np.zeros((2, 5))})
    (8, 2)
    """
    first = _first_leaf(batch)
    if isinstance(first, str) or not isinstance(first, Sized) or getattr(first, "ndim", 1) == 0:
        raise ConfigError(
            f"a micro-batch of {type(batch).__name__} does not say how many items it has: give count=, a function that "
            "returns it"
        )
    if _contradicts(batch, len(first)):
        raise ConfigError(
            f"a micro-batch begins with a list, whose first tensor has length {len(first)}, and goes on with something "
            "of another length: give count=, a function that returns how many items it has"
        )
    return len(first)


def _first_leaf(batch: Any) -> Any:
    first = batch
    while isinstance(first, Mapping | tuple | list) and first and not _is_texts(first):
        first = next(iter(first.values())) if isinstance(first, Mapping) else first[0]
    return first


def _contradicts(batch: Any, num_items: int) -> bool:
    """Whether a batch of lists, as one of images of different sizes, has its items in them rather than in tensors."""
    if not isinstance(batch, tuple | list) or len(batch) < 2 or not isinstance(batch[0], tuple | list):  # noqa: PLR2004
        return False
    second = _first_leaf(batch[1])
    if isinstance(second, str) or not isinstance(second, Sized) or getattr(second, "ndim", 1) == 0:
        return False
    return len(second) != num_items


def _is_texts(batch: Any) -> bool:
    return not isinstance(batch, Mapping) and all(isinstance(one, str) for one in batch)
