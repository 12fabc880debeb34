"""Training that branches off: several runs from the very same weights, optimiser state, data and random numbers."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch

from carpool.errors import ConfigError
from carpool.train.accumulate import Accumulator
from carpool.train.autosize.kept import Kept, KeptLoaders
from carpool.train.setup import count_items

if TYPE_CHECKING:
    from collections.abc import Iterator

    from carpool.train.batch_plan import BatchPlan
    from carpool.train.setup import TrainSetup


class Fork:
    """Where branches begin: a copy of all that training changes, in host memory.

    Args:
        setup: whose model and optimiser are copied as they are now.
    """

    def __init__(self, setup: TrainSetup) -> None:
        self._kept = Kept(setup)
        self._loaders = KeptLoaders(setup.loader)
        self._setup = replace(setup, loader=self._loaders)

    @contextmanager
    def branch(self, seed: int) -> Iterator[TrainSetup]:
        """Begin at the fork; go back to it at the end, whatever happens, but for where the data stand.

        Args:
            seed: of torch's random numbers.

        Yields:
            What to train.
        """
        torch.manual_seed(seed)
        try:
            yield self._setup
        finally:
            self._kept.restore()

    def rewind(self) -> None:
        """Put the data back to where they stood, so that the next branches see the same ones."""
        self._loaders.restore()


def train(setup: TrainSetup, plan: BatchPlan, num_items: int) -> None:
    """Train on so many items, the loader begun anew as often as it takes.

    Args:
        setup: what to train; the learning rate stays as it is.
        plan: one rank's; micro-batches of one size.
        num_items: of the loader's, a multiple of the effective batch.

    Raises:
        ConfigError: the loader gives nothing.
    """
    accumulator = Accumulator(setup.model, setup.optimizer, plan=plan, count=setup.count or count_items)
    batches = _endless(setup, plan.micro_batch_size)
    for _ in range(num_items // plan.effective_batch_size):
        accumulator.step(islice(batches, plan.num_accumulation_steps), setup.loss)


def loss_of(setup: TrainSetup, micro_batch_size: int, num_items: int) -> float:
    """The loss that a branch ends with: the setup's own measure, or that of a valid item of the training data.

    Args:
        setup: whose model is looked at.
        micro_batch_size: items of a forward pass.
        num_items: of the training data to look at, the first of a new pass over it; where the setup has a measure,
            that decides.

    Raises:
        ConfigError: the data have no valid item.
    """
    with torch.no_grad():
        if setup.validate is not None:
            return float(setup.validate(setup.model))
        setup.model.eval()
        total, num_valid = 0.0, 0
        for batch in islice(_endless(setup, micro_batch_size), -(-num_items // micro_batch_size)):
            total += float(setup.loss(setup.model, batch))
            num_valid += setup.num_valid(batch)
    if not num_valid:
        raise ConfigError("the training data have no valid item: see what count returns for a micro-batch")
    return total / num_valid


def _endless(setup: TrainSetup, micro_batch_size: int) -> Iterator[Any]:
    while True:
        batch = None
        for batch in setup.loader(micro_batch_size):
            yield batch
        if batch is None:
            raise ConfigError("the loader gives no micro-batch: make it give some on every call")
