"""The noise scale of a training run, measured while it goes on: no pass and no copy of a gradient besides."""

from __future__ import annotations

from math import fsum
from typing import TYPE_CHECKING, Any

import torch

from carpool.errors import ConfigError
from carpool.train.noise.estimate import NoiseAverages, NoiseEstimate, WindowNorms
from carpool.train.noise.norms import GradientNorms
from carpool.train.ranks import Ranks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn
    from torch.distributed import ProcessGroup

    from carpool.train.window import WindowResult, WindowStart

_ROUNDING = 0.02  # of norms that are summed in another order, bfloat16 included


class NoiseScale:
    """Measures the gradient noise scale from the micro-batches of each window.

    Give it to an `Accumulator`, whose `listeners` it is one of. The micro-batches of all ranks count, so that two ranks
    without accumulation suffice as well as two micro-batches on one; windows that have fewer, and those that are
    skipped, are left out. It works under mixed precision, whose factor is divided out, and under
    DistributedDataParallel, where it sees each rank's gradient before ranks are averaged. It costs a norm of each
    parameter's gradient for each micro-batch, and one exchange of two numbers for each window.

    Micro-batches must be drawn at random. Where they are sorted, as by length, what they differ by is not noise alone.

    Args:
        model: that is trained, bare or wrapped.
        optimizer: that trains it; needed only where it has other parameters than those of the model that require a
            gradient.
        num_items: valid items of the training data where a pass takes each once; None for items drawn independently,
            as from a stream without end, and for all data whose number is far above the noise scale.
        decay: what the weight of each earlier window is multiplied by: 0.99 looks back over some hundred of them,
            since the noise scale grows as training goes on; 1 averages over all.
        confidence: of the interval.
        group: the ranks that average gradients, where those are not all.

    Raises:
        ConfigError: one of them is out of its range.

    Source: S. McCandlish, J. Kaplan, D. Amodei, "An Empirical Model of Large-Batch Training", 2018, arXiv 1812.06162.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        optimizer: torch.optim.Optimizer | None = None,
        num_items: int | None = None,
        decay: float = 0.99,
        confidence: float = 0.95,
        group: ProcessGroup | None = None,
    ) -> None:
        self._averages = NoiseAverages(num_items=num_items, decay=decay, confidence=confidence)
        self._norms = GradientNorms(model, optimizer)
        self._checked = False
        self._group = group or getattr(model, "process_group", None)
        self._device = next((one.device for one in model.parameters()), torch.device("cpu"))
        self._start: WindowStart | None = None
        self._squares: list[torch.Tensor] = []

    def before_window(self, start: WindowStart) -> None:
        """Hear that a window begins.

        Args:
            start: what is known of it.
        """
        self._start = start
        self._squares = []
        self._norms.watch()

    def after_micro_batch(self, index: int, num_valid: int) -> None:
        """Hear that the backward pass of a micro-batch is over.

        Args:
            index: of it in the window.
            num_valid: valid items of it.

        Raises:
            ConfigError: it had items, and no gradient reached a parameter.
        """
        if num_valid:
            self._squares.append(self._norms.take(index) / num_valid)
        else:
            self._norms.watch()

    def after_window(self, result: WindowResult) -> None:
        """Hear that the window's gradients are complete, and take them in.

        Args:
            result: what came of the window.

        Raises:
            ConfigError: the gradients contradict each other, so that not all of them were seen.
        """
        start, self._start = self._start, None
        self._norms.rest()
        if start is None or result.skipped:
            return
        self._check(result.grad_norm)
        squares, num_micro_batches = self._over_ranks(start.num_ranks)
        self._squares = []
        if num_micro_batches < 2:  # noqa: PLR2004 - one says nothing of scatter
            return
        self._averages.add(
            WindowNorms(
                num_valid=result.num_valid,
                num_micro_batches=num_micro_batches,
                weighted_squares=squares / start.scale**2,
                squared_norm=result.grad_norm**2,
            )
        )

    def _check(self, grad_norm: float) -> None:
        """Once: see that the gradient is that of the parameters which are watched."""
        if self._checked:
            return
        watched = self._norms.added_up()
        if abs(watched - grad_norm) > _ROUNDING * max(watched, grad_norm):
            raise ConfigError(
                f"the gradient's norm is {grad_norm:.4g}, and that of the parameters which NoiseScale watches "
                f"{watched:.4g}: the optimiser has others than the model; give NoiseScale optimizer= as well"
            )
        self._checked = True

    def _over_ranks(self, num_ranks: int) -> tuple[float, int]:
        """Sum the micro-batches' squared norms over their items, and count the micro-batches; over all ranks."""
        squares = fsum(torch.stack(self._squares).tolist()) if self._squares else 0.0
        told = Ranks(num_ranks, self._group, self._device).gather(squares, len(self._squares))
        return fsum(one for one, _ in told), round(sum(num for _, num in told))

    def estimate(self) -> NoiseEstimate:
        """Say what is known so far; the same on all ranks."""
        return self._averages.estimate()

    def close(self) -> None:
        """Take the hooks off the model's parameters."""
        self._norms.close()

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return self._averages.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint.

        Args:
            state: from `state_dict`.

        Raises:
            ConfigError: it is not one.
        """
        self._averages.load_state_dict(state)
