"""A window: the micro-batches of one step of the optimiser, and who is told of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowStart:
    """What is known of a window before its first backward pass.

    Args:
        micro_batches: of this rank, in the order in which they are computed.
        sizes: valid items of each of them; 0 for one that is computed only because other ranks have more.
        num_valid: valid items of the window, over all ranks; above 0.
        num_ranks: processes that share the window.
        scale: what the gradient of a micro-batch's summed loss is multiplied with as it reaches a parameter's hook:
            `num_ranks / num_valid` (the ranks' gradients are averaged later), and the factor of mixed precision.
    """

    micro_batches: tuple[Any, ...]
    sizes: tuple[int, ...]
    num_valid: int
    num_ranks: int
    scale: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowResult:
    """What came of a window, over all ranks.

    Args:
        loss: mean of a valid item.
        num_valid: valid items.
        grad_norm: Euclidean norm of the gradient of that mean, before it was clipped.
        skipped: the loss or the gradient was not finite, or there was no valid item, so that nothing was learnt.
        num_micro_batches: that this rank computed.
        overhead_s: spent in the accumulation itself until the optimiser's step: without the passes through the model,
            the loader, the exchange with other ranks and the listeners.
    """

    loss: float
    num_valid: int
    grad_norm: float
    skipped: bool
    num_micro_batches: int
    overhead_s: float


@runtime_checkable
class GradientListener(Protocol):
    """Is told of each window while its gradients are computed; a window without a valid item is not told of.

    All ranks make the same calls in the same order, so that a listener may exchange something in each of them.
    """

    def before_window(self, start: WindowStart) -> None:
        """Hear that the window's first micro-batch is next; the gradients are empty.

        Args:
            start: what is known of the window.
        """
        ...

    def after_micro_batch(self, index: int, num_valid: int) -> None:
        """Hear that a micro-batch's backward pass is over, and its gradient added.

        Args:
            index: of the micro-batch in the window, from 0.
            num_valid: valid items of it.
        """
        ...

    def after_window(self, result: WindowResult) -> None:
        """Hear that the gradients are complete: over all ranks, without the factor of mixed precision, not yet clipped.

        The optimiser's step is next, unless the window is skipped.

        Args:
            result: what came of the window.
        """
        ...
