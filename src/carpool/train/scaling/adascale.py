"""AdaScale: the learning rate of a large batch, scaled by what the batch gains at this point of training.

The gain is 1 where gradients are alike, so that more of them say nothing new, and the ratio of the batches where they
are all noise. A step counts for as many steps at the base batch as it gains, and the schedule is followed by those.

Source: T. Johnson, P. Agrawal, H. Gu, C. Guestrin, "AdaScale SGD: A User-Friendly Algorithm for Distributed Training",
2020, arXiv:2007.05105, algorithm 1.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

from carpool.core.limits import check_whole
from carpool.errors import ConfigError
from carpool.train.scaling.choose import kind
from carpool.train.scaling.groups import MARK, innermost, read, write

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler


class Moments(Protocol):
    """What is known of the noise of the gradients."""

    @property
    def S(self) -> float:  # noqa: N802 - as the estimate calls it
        """tr(Sigma): how single items' gradients scatter."""
        ...

    @property
    def G2(self) -> float:  # noqa: N802
        """|G|^2: the squared norm of the gradient of all the data; below 0 where chance will have it."""
        ...


class Noise(Protocol):
    """What measures the noise of the gradients as training goes on: `NoiseScale` does."""

    def estimate(self) -> Moments:
        """Say what is known so far; 0 and 0 where nothing is."""
        ...


def adascale_gain(variance: float, squared_norm: float, *, batch_size: float, base_batch_size: float) -> float:
    """How many steps at the base batch one step at this batch is worth: from 1 to the ratio of the two.

    Args:
        variance: tr(Sigma), how single items' gradients scatter; or the noise scale, which may be infinite.
        squared_norm: |G|^2, of the gradient of all the data, where an estimate below 0 is taken for 0; or 1, beside the
            noise scale.
        batch_size: effective, in items.
        base_batch_size: that the learning rate was tuned for, in items.

    Source:
        Johnson et al. 2020, arXiv:2007.05105: (s + m) / (s/S + m), with s the variance of a gradient of the base batch,
        m the squared norm of its mean, and S the ratio of the batches.

    >>> adascale_gain(1.0, 0.0, batch_size=4, base_batch_size=1)
    4.0
    >>> round(adascale_gain(1000.0, 1.0, batch_size=1024, base_batch_size=32), 3)
    16.316
    """
    ratio = batch_size / base_batch_size
    if variance == math.inf:
        return ratio
    scatter, mean = max(variance, 0.0) / base_batch_size, max(squared_norm, 0.0)
    if scatter + mean == 0:
        return 1.0
    return (scatter + mean) / (scatter / ratio + mean)


class AdaScale:
    """Scales an optimiser's learning rates by the gain at each of its steps, and takes that back after the step.

    It stands between the optimiser and its schedule, which goes on as if the batch were the base batch. Until something
    is known of the noise, the gain is 1. A window that holds less than the batch, as the last of a pass may, counts as
    if it held all of it.

    Args:
        optimizer: SGD, whose learning rates belong to the base batch.
        noise: measures the noise of the gradients: a `NoiseScale` that listens to the `Accumulator`. Its `decay` is the
            smoothing: `1 - S/1000` in the paper, at S times the base batch.
        batch_size: effective, in items.
        base_batch_size: that the learning rates and the schedule were tuned for, in items.
        scheduler: of the learning rate, one step for each step at the base batch; it is stepped here, and must not be
            stepped elsewhere.

    Raises:
        ConfigError: a size is no whole number from 1, the batch is below the base batch, the optimiser divides by the
            size of its gradients, or its learning rates were scaled already.

    >>> import torch
    >>> from carpool.train.noise.estimate import NoiseAverages, WindowNorms
    >>> noise = NoiseAverages()
    >>> noise.add(WindowNorms.of([1, 1, 1, 1], [1.0, 1.0, 1.0, 1.0], 0.25))  # of four orthogonal gradients
    >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(4))], lr=0.1)
    >>> AdaScale(optimizer, noise, batch_size=4, base_batch_size=1).gain
    4.0
    """

    def __init__(
        self,
        optimizer: Optimizer,
        noise: Noise,
        *,
        batch_size: int,
        base_batch_size: int,
        scheduler: LRScheduler | None = None,
    ) -> None:
        check_whole("batch_size", batch_size)
        check_whole("base_batch_size", base_batch_size)
        if batch_size < base_batch_size:
            raise ConfigError(
                f"batch_size is {batch_size}, and base_batch_size {base_batch_size}: AdaScale only goes to larger "
                "batches; for a smaller one use scale_hyperparameters"
            )
        optimizer = innermost(optimizer)
        _check_rates(optimizer)
        self.batch_size = batch_size
        self.base_batch_size = base_batch_size
        self.num_base_steps = 0.0
        """Steps at the base batch that all steps so far were worth: train until they are as many as were planned."""
        self._noise = noise
        self._scheduler = scheduler
        self._gain = 1.0
        self._rates: list[float] = []
        self._hooks = (
            optimizer.register_step_pre_hook(self._before_step),
            optimizer.register_step_post_hook(self._after_step),
        )

    @property
    def gain(self) -> float:
        """Steps at the base batch that the next step is worth, by what is known now."""
        known = self._noise.estimate()
        return adascale_gain(known.S, known.G2, batch_size=self.batch_size, base_batch_size=self.base_batch_size)

    def close(self) -> None:
        """Scale the optimiser's steps no longer."""
        for hook in self._hooks:
            hook.remove()

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps, beside that of the noise, of the optimiser and of its schedule."""
        return {"base_batch_size": self.base_batch_size, "num_base_steps": self.num_base_steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint, be it with another batch; the base batch must be the same.

        Args:
            state: from `state_dict`.

        Raises:
            ConfigError: something is missing in it, or it counts by another base batch.
        """
        missing = [name for name in self.state_dict() if name not in state]
        if missing:
            raise ConfigError(f"AdaScale's checkpoint lacks {' and '.join(missing)}: it was saved by something else")
        if state["base_batch_size"] != self.base_batch_size:
            raise ConfigError(
                f"the checkpoint counts steps at a base batch of {state['base_batch_size']}, and base_batch_size is "
                f"{self.base_batch_size}: give the checkpoint's"
            )
        self.num_base_steps = state["num_base_steps"]

    def _before_step(self, optimizer: Optimizer, *_: object) -> None:
        self._gain = self.gain
        self._rates = [read(group, "lr") for group in optimizer.param_groups]
        for group, rate in zip(optimizer.param_groups, self._rates, strict=True):
            write(group, "lr", rate * self._gain)

    def _after_step(self, optimizer: Optimizer, *_: object) -> None:
        for group, rate in zip(optimizer.param_groups, self._rates, strict=True):
            write(group, "lr", rate)
        num_before = math.floor(self.num_base_steps)
        self.num_base_steps += self._gain
        if self._scheduler is not None:
            for _step in range(num_before, math.floor(self.num_base_steps)):
                self._scheduler.step()


def _check_rates(optimizer: Any) -> None:
    if kind(optimizer) not in {"sgd", None}:
        raise ConfigError(
            f"AdaScale is derived for SGD, and {type(optimizer).__name__} divides by the size of its gradients: use "
            "scale_hyperparameters"
        )
    factors = [group[MARK] for group in optimizer.param_groups if MARK in group]
    if factors:
        raise ConfigError(
            f"the optimiser's learning rates were already scaled by {factors[0]:g}, and AdaScale scales those of the "
            "base batch: give them unscaled"
        )
