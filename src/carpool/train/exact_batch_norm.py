"""BatchNorm over a whole window that is computed in micro-batches: as if the window were one batch.

The statistics of a layer depend on those of the layers before it, so they are found one layer after the other; and the
gradient through the statistics depends on that of the layers after it, so it is found in the opposite order.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from carpool.errors import ConfigError
from carpool.train.exchange import Exchange
from carpool.train.window_passes import WindowPasses

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch.distributed import ProcessGroup

    from carpool.train.setup import Loss
    from carpool.train.window import WindowResult, WindowStart


class ExactBatchNorm:
    """Lets the BatchNorm layers of a model see a whole window, though it is computed in micro-batches.

    Outputs, gradients (also those through the statistics) and running statistics are those of one batch of all the
    window's items, on all ranks. What it costs, for L calls of such layers in a forward pass: L forward passes of each
    micro-batch to find the statistics, L forward passes with part of a backward pass to find the gradients through
    them, and the usual forward and backward pass. So it is for models with few such layers, and for checking what
    another remedy changes. The memory is that of a micro-batch.

    It is a listener of an `Accumulator`: append it to its `listeners`. In a loop of your own, use `window`.

    Dropout draws the same numbers in all passes of a micro-batch; other random numbers than torch's are found out, and
    refused. The layers must be called in the same order for every micro-batch.

    Args:
        model: in the mode in which it is trained; itself, or wrapped in DistributedDataParallel.
        loss: the sum over a micro-batch's valid items, which must call the model that it is given.
        group: the ranks that share a window; all of them by default.

    Raises:
        ConfigError: the model is compiled, sharded or replicated.

    >>> import torch
    >>> from carpool.train import ExactBatchNorm
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    >>> def loss(model, batch):
    ...     return model(batch).square().sum()
    >>> exact = ExactBatchNorm(model, loss)
    >>> with exact.window(torch.randn(8, 3).split(2), scale=1 / 8) as micro_batches:
    ...     for batch in micro_batches:
    ...         (loss(model, batch) / 8).backward()
    """

    def __init__(self, model: nn.Module, loss: Loss, *, group: ProcessGroup | None = None) -> None:
        self._model = _plain(model)
        self._loss = loss
        self._exchange = Exchange.of([model], group)
        self._installed = ExitStack()
        self._passes: WindowPasses | None = None

    @contextmanager
    def window(self, micro_batches: Iterable[Any], *, scale: float = 1.0) -> Iterator[Iterator[Any]]:
        """Prepare a window, and give its micro-batches to compute; the running statistics are updated at its end.

        Args:
            micro_batches: of this rank.
            scale: what each loss is multiplied with before its backward pass.

        Raises:
            ConfigError: the layers cannot be computed exactly, or the passes inside are not of `loss` and `scale`.
        """
        kept = tuple(micro_batches)
        self._open(kept, num_own=len(kept), scale=scale)
        try:
            yield self._each(kept)
            self._close(update=True)
        finally:
            self.close()

    def before_window(self, start: WindowStart) -> None:
        """Find the statistics, and the gradient through them.

        Args:
            start: what is known of the window.

        Raises:
            ConfigError: the layers cannot be computed exactly, or the window has other ranks.
        """
        if start.num_ranks != self._exchange.num_ranks:
            raise ConfigError(
                f"the window is shared by {start.num_ranks} ranks, and exact BatchNorm was made for "
                f"{self._exchange.num_ranks}: give it the model that the accumulator has, wrapped as it is there"
            )
        num_own = sum(size > 0 for size in start.sizes)  # those after it repeat one, for the exchange of gradients only
        self._open(start.micro_batches, num_own=num_own, scale=start.scale)

    def after_micro_batch(self, index: int, num_valid: int) -> None:  # noqa: ARG002 - a GradientListener is told so
        """Go on to the next micro-batch.

        Args:
            index: of the micro-batch that is over.
            num_valid: valid items of it.
        """
        if self._passes is not None:
            self._passes.begin(index + 1)

    def after_window(self, result: WindowResult) -> None:
        """Update the running statistics, unless the window is skipped.

        Args:
            result: what came of the window.

        Raises:
            ConfigError: the passes of the window were not those of `loss`.
        """
        try:
            self._close(update=not result.skipped)
        finally:
            self.close()

    def close(self) -> None:
        """Give up a window that was left before its end, so that the layers are as they always were."""
        self._installed.close()
        self._passes = None

    def _open(self, micro_batches: tuple[Any, ...], *, num_own: int, scale: float) -> None:
        self.close()
        passes = WindowPasses(
            model=self._model,
            loss=self._loss,
            micro_batches=micro_batches[:num_own],
            scale=scale,
            exchange=self._exchange,
        )
        with ExitStack() as stack:
            stack.enter_context(passes.installed())
            passes.prepare()
            self._installed = stack.pop_all()
        self._passes = passes
        passes.begin(0)

    def _each(self, micro_batches: tuple[Any, ...]) -> Iterator[Any]:
        for index, batch in enumerate(micro_batches):
            if self._passes is not None:
                self._passes.begin(index)
            yield batch

    def _close(self, *, update: bool) -> None:
        passes = self._passes
        if passes is None:
            return
        if update:
            passes.check()
        self._installed.close()
        if update:
            passes.update_running_statistics()


def _plain(model: nn.Module) -> nn.Module:
    """A model without what wraps it for several ranks: the passes before the last one exchange no gradient."""
    if isinstance(model, DistributedDataParallel):
        model = model.module
    if any(hasattr(part, "set_requires_gradient_sync") for part in model.modules()):
        raise ConfigError("the model is sharded by fully_shard: exact BatchNorm needs DistributedDataParallel")
    if isinstance(model, nn.DataParallel):
        raise ConfigError("exact BatchNorm does not work in DataParallel: use DistributedDataParallel")
    if any(hasattr(part, "_orig_mod") or part._compiled_call_impl is not None for part in model.modules()):  # noqa: SLF001
        raise ConfigError("the model is compiled: exact BatchNorm needs it as it was before torch.compile")
    return model
