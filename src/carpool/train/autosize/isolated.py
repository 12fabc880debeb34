"""Probes in this process, on an accelerator: its allocator raises an error of its own type, and nothing stays."""

from __future__ import annotations

import gc
import traceback
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from carpool.errors import ConfigError
from carpool.profile.probe_child import open_peak
from carpool.train.autosize.answer import Answer
from carpool.train.autosize.kept import Kept, KeptLoaders
from carpool.train.autosize.probe import Peak, probe_steps
from carpool.train.autosize.timing import time_sizes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from carpool.train.setup import TrainSetup


class Isolated:
    """Trains a setup for a probe, and puts everything back afterwards, as if it had not been trained.

    Args:
        setup: what training consists of.
        reserves: hold as much memory beside as the gradients take, as other ranks' are exchanged in.
        open_peak: begins to measure the peak of a device's memory.

    Raises:
        ConfigError: the model's parameters are spread over ranks, so that no rank can probe by itself.
    """

    def __init__(
        self, setup: TrainSetup, *, reserves: bool = False, open_peak: Callable[[str], Peak] = open_peak
    ) -> None:
        if any(hasattr(parameter, "device_mesh") for parameter in setup.model.parameters()):
            raise ConfigError(
                f"the parameters of {type(setup.model).__name__} are spread over ranks, which compute in step, and "
                "memory may run out on one of them only: search before fully_shard, or choose the size by hand"
            )
        self._setup = setup
        self._reserves = reserves
        self._open_peak = open_peak

    def ask(self, size: int) -> Answer:
        """Train with micro-batches of one size.

        Args:
            size: items of a micro-batch.
        """
        return self._try(lambda setup: probe_steps(setup, size, reserves=self._reserves, open_peak=self._open_peak))

    def time(self, sizes: Sequence[int], budget_s: float) -> Answer:
        """Time micro-batches of several sizes.

        Args:
            sizes: items; they must fit.
            budget_s: seconds to measure for.
        """
        return self._try(lambda setup: time_sizes(setup, sizes, budget_s=budget_s))

    def _try(self, train: Callable[[TrainSetup], Answer]) -> Answer:
        loaders = KeptLoaders(self._setup.loader)
        kept = Kept(self._setup)
        self._setup.optimizer.zero_grad(set_to_none=True)
        try:
            return train(replace(self._setup, loader=loaders))
        except Exception as error:  # noqa: BLE001 - an answer, not a fault
            answer = Answer.of(error)
            _let_go(error)
        finally:
            kept.restore()
            loaders.restore()
        del kept
        free_memory()
        return answer


def _let_go(error: BaseException) -> None:
    """Drop what an error holds: its frames' variables are the very activations that did not fit."""
    here: BaseException | None = error
    while here is not None:
        traceback.clear_frames(here.__traceback__)
        here.__traceback__, here = None, here.__cause__ or here.__context__


def free_memory() -> None:
    """Collect what is garbage, and give the accelerator's unused blocks back."""
    gc.collect()
    if torch.accelerator.is_available() and hasattr(torch.accelerator, "empty_cache"):
        torch.accelerator.empty_cache()
