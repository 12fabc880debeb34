"""Real training steps with one size of micro-batch: their peak of memory, and how long each part takes.

What is tried is what a window does: several micro-batches whose gradients add up, then the optimiser's step. With more
than one, the gradients are held while the next activations are; a search that steps after each would find too much.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import torch

from carpool.core.limits import check_whole
from carpool.errors import ConfigError
from carpool.profile.device import open_device
from carpool.profile.probe_child import open_peak
from carpool.train.autosize.answer import Answer
from carpool.train.ranks import exchanges_gradients, gradients_kept
from carpool.units import with_article

if TYPE_CHECKING:
    from collections.abc import Callable

    from carpool.train.setup import TrainSetup

WINDOWS = (1, 2, 2)
"""Micro-batches of the windows that are tried: two warm up, so that all lazy state of the optimiser exists."""


class Peak(Protocol):
    """Measures the most memory held since it was made."""

    def read(self) -> int:
        """Return the bytes."""
        ...


def device_of(setup: TrainSetup) -> torch.device:
    """The device that a setup's model computes on.

    Args:
        setup: what training consists of.

    Raises:
        ConfigError: the model has no parameters.
    """
    for parameter in setup.model.parameters():
        return parameter.device
    raise ConfigError(f"{type(setup.model).__name__} has no parameters: there is nothing to train")


def probe_steps(
    setup: TrainSetup, size: int, *, reserves: bool = False, open_peak: Callable[[str], Peak] = open_peak
) -> Answer:
    """Make training steps with micro-batches of one size.

    Args:
        setup: what training consists of; it is trained.
        size: items of a micro-batch.
        reserves: hold as much memory beside as the gradients take, as other ranks' are exchanged in.
        open_peak: begins to measure the peak of a device's memory.

    Raises:
        ConfigError: the loss is no scalar, the loader gave nothing, or the data have no items.
        Exception: whatever the model raises.
    """
    check_whole("num_items of the setup", setup.num_items)
    device = str(device_of(setup))
    peak = open_peak(device)
    held = _like_gradients(setup) if reserves else []
    batch = batch_of(setup, size)
    windows = Windows(setup)
    for num in WINDOWS:
        windows.run([batch] * num)
    del held
    return Answer(
        peak_bytes=peak.read(), num_items=setup.num_items, num_valid=int(setup.num_valid(batch)), device=device
    )


def _like_gradients(setup: TrainSetup) -> list[torch.Tensor]:
    """Memory of the size that the gradients take, unless what wraps the model holds it by itself."""
    if exchanges_gradients(setup.model):
        return []
    return [torch.ones_like(parameter) for parameter in setup.model.parameters() if parameter.requires_grad]


def batch_of(setup: TrainSetup, size: int) -> Any:
    """The micro-batch of so many items that takes the most memory.

    Args:
        setup: what training consists of.
        size: items of it.

    Raises:
        ConfigError: the loader gave none.
    """
    try:
        return setup.largest_batch(size)
    except StopIteration:
        raise ConfigError(
            f"loader({size}) gave no micro-batch: it must give at least one, the last with fewer items where the data "
            "have no more; is drop_last set?"
        ) from None


class Windows:
    """Computes windows of micro-batches on one rank, and notes how long their parts take.

    Args:
        setup: what training consists of.
    """

    def __init__(self, setup: TrainSetup) -> None:
        self.updates_s: list[float] = []
        self._setup = setup
        self._device = open_device(str(device_of(setup)))
        self._weight = 1.0

    def run(self, micro_batches: list[Any]) -> list[float]:
        """Compute one window; return the seconds of each of its passes.

        Args:
            micro_batches: at least one.
        """
        self._weight = 1.0 / max(1, sum(int(self._setup.num_valid(batch)) for batch in micro_batches))
        passes_s = [self._device.timed(partial(self._pass, batch))[1] for batch in micro_batches]
        self.updates_s.append(self._device.timed(self._update)[1])
        return passes_s

    def _pass(self, batch: Any) -> None:
        # The gradients of other ranks are none of a probe's: they may be at another size.
        with gradients_kept(self._setup.model):
            loss = self._setup.loss(self._setup.model, batch)
            _check_loss(loss)
            torch.autograd.backward(loss * self._weight)

    def _update(self) -> None:
        self._setup.optimizer.step()
        self._setup.optimizer.zero_grad(set_to_none=True)


def _check_loss(loss: object) -> None:
    if not isinstance(loss, torch.Tensor):
        raise ConfigError(
            f"the loss is {with_article(type(loss).__name__)}: it must return a tensor without dimensions"
        )
    if loss.ndim:
        raise ConfigError(
            f"the loss has the shape {list(loss.shape)}: it must be the sum over the valid items, a tensor "
            "without dimensions"
        )
    if not loss.requires_grad:
        raise ConfigError("the loss does not depend on any parameter that is trained: nothing can be learnt from it")
