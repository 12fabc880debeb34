"""Training that branches off: several runs from the very same weights, optimiser state and random numbers."""

from __future__ import annotations

from contextlib import contextmanager
from copy import copy, deepcopy
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch

from carpool.errors import ConfigError
from carpool.train.accumulate import Accumulator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from carpool.train.batch_plan import BatchPlan
    from carpool.train.setup import TrainSetup


class Fork:
    """Where branches begin: a copy of the weights and of the optimiser's state, in host memory.

    Args:
        setup: whose model and optimiser are copied as they are now.
    """

    def __init__(self, setup: TrainSetup) -> None:
        self._setup = setup
        self._training = setup.model.training
        self._model = _copied(setup.model.state_dict())
        self._optimizer = _copied(setup.optimizer.state_dict())

    @contextmanager
    def branch(self, seed: int) -> Iterator[None]:
        """Begin at the fork, with torch's random numbers from a seed; go back to it at the end, whatever happens.

        Args:
            seed: of torch's random numbers, so that branches with the same one see the data in the same order.
        """
        devices = {one.device for one in self._setup.model.parameters() if one.device.type == "cuda"}
        with torch.random.fork_rng(devices=list(devices)):
            torch.manual_seed(seed)
            try:
                yield
            finally:
                self._return()

    def _return(self) -> None:
        model, optimizer = self._setup.model, self._setup.optimizer
        model.load_state_dict(self._model)
        optimizer.load_state_dict(deepcopy(self._optimizer))  # which keeps the tensors that it is given
        optimizer.zero_grad(set_to_none=True)
        model.train(self._training)


def train(setup: TrainSetup, plan: BatchPlan, num_items: int) -> None:
    """Train on so many items, the loader begun anew as often as it takes.

    Args:
        setup: what to train; the learning rate stays as it is.
        plan: one rank's; micro-batches of one size.
        num_items: of the loader's, a multiple of the effective batch.

    Raises:
        ConfigError: the loader gives nothing.
    """
    accumulator = Accumulator(setup.model, setup.optimizer, plan=plan, count=setup.num_valid)
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
    """
    with torch.no_grad():
        if setup.validate is not None:
            return float(setup.validate(setup.model))
        setup.model.eval()
        total, num_valid = 0.0, 0
        for batch in islice(_endless(setup, micro_batch_size), -(-num_items // micro_batch_size)):
            total += float(setup.loss(setup.model, batch))
            num_valid += setup.num_valid(batch)
    return total / num_valid if num_valid else float("nan")


def _endless(setup: TrainSetup, micro_batch_size: int) -> Iterator[Any]:
    while True:
        batch = None
        for batch in setup.loader(micro_batch_size):
            yield batch
        if batch is None:
            raise ConfigError("the loader gives no micro-batch: make it give some on every call")


def _copied(state: Any) -> Any:
    """A deep copy of a state, its tensors in host memory."""
    if isinstance(state, torch.Tensor):
        return state.detach().to("cpu", copy=True)
    if isinstance(state, dict):
        alike = copy(state)  # with the attributes that a module's state has besides
        alike.update((key, _copied(value)) for key, value in state.items())
        return alike
    return [_copied(value) for value in state] if isinstance(state, list) else deepcopy(state)
