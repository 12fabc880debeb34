"""A window: the micro-batches of one step of the optimiser, and who is told of them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from math import isfinite, nan
from time import perf_counter
from typing import Any, Literal, Protocol, Self, runtime_checkable

import torch
from torch import nn

from carpool.errors import ConfigError
from carpool.train.optimizer_step import OptimizerStep
from carpool.train.ranks import Ranks, gradients_kept


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowStart:
    """What is known of a window before its first backward pass.

    Args:
        micro_batches: of this rank, in the order in which they are computed.
        sizes: valid items of each of them; 0 for one that is computed only because other ranks have more.
        num_valid: valid items of the window, over all ranks.
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


class Stopwatch:
    """Adds up the seconds of the blocks that it is entered for."""

    def __init__(self, clock: Callable[[], float] = perf_counter) -> None:
        self._clock = clock
        self._since_at = 0.0
        self.seconds = 0.0

    def __enter__(self) -> Self:
        self._since_at = self._clock()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds += self._clock() - self._since_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the windows of an `Accumulator` have in common.

    Args:
        model: that is trained, or what wraps it.
        ranks: that share each window.
        ending: takes the step of the optimiser.
        loss_is: the "sum" over a micro-batch's valid items, or their "mean".
        listeners: are told of the gradients.
        on_end: called with the result once the step is taken.
    """

    model: nn.Module
    ranks: Ranks
    ending: OptimizerStep
    loss_is: Literal["sum", "mean"]
    listeners: Sequence[GradientListener]
    on_end: Callable[[WindowResult], None]


@dataclass(slots=True, kw_only=True)
class Window:
    """The micro-batches of one step of the optimiser: iterate over it, and call `backward` with the loss of each.

    The step is taken when the iteration ends; `result` then says what came of it. A loop that is left early takes no
    step, and the gradients so far are dropped.

    >>> from torch import nn, optim
    >>> from carpool.train import Accumulator, BatchPlan
    >>> model = nn.Linear(3, 1)
    >>> plan = BatchPlan(effective_batch_size=8, micro_batch_size=4)
    >>> accumulator = Accumulator(model, optim.SGD(model.parameters(), lr=0.1), plan=plan)
    >>> for window in accumulator.windows(torch.zeros(16, 3).split(4)):
    ...     for batch in window:
    ...         window.backward((model(batch) - 1).square().sum())
    ...     print(window.result.num_valid, window.result.num_micro_batches)
    8 2
    8 2
    """

    start: WindowStart
    around: Surroundings
    watch: Stopwatch
    _passes: Generator[Any, None, None] | None = None
    _current: int | None = None  # the micro-batch that the loop is at
    _awaited: bool = False  # its backward pass is to come
    _unscaled: bool = False  # the gradients, and their step is to come
    _losses: list[torch.Tensor] = field(default_factory=list)  # of the micro-batches, as the loop gave them
    _result: WindowResult | None = None

    def __iter__(self) -> Generator[Any, None, None]:
        if self._passes is not None:
            raise ConfigError("this window was iterated over already: take the next one from windows(loader)")
        self._passes = self._compute()
        return self._passes

    def __len__(self) -> int:
        return len(self.start.sizes)

    @property
    def begun(self) -> bool:
        """Whether its micro-batches were iterated over, to the end or not."""
        return self._passes is not None

    @property
    def result(self) -> WindowResult:
        """What came of the window.

        Raises:
            ConfigError: its loop is not over, or was left early.
        """
        if self._result is None:
            raise ConfigError("the window has no result before its loop is over: iterate over all its micro-batches")
        return self._result

    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradient of a micro-batch to the window's.

        Args:
            loss: of the micro-batch that the loop is at, as `loss_is` says; a scalar.

        Raises:
            ConfigError: the loss is none that can be differentiated, or it is not its turn.
        """
        with self.watch:
            index = self._expect_backward()
            loss = _checked(loss, index)
            weight = self._num_summands(index) * self._share()
            scaled = self.around.ending.scaled(loss * weight)
        scaled.backward()  # type: ignore[no-untyped-call]
        with self.watch:
            self._losses.append(loss.detach())
            self._awaited = False
        for listener in self.around.listeners:
            listener.after_micro_batch(index, self.start.sizes[index])

    def close(self) -> None:
        """Leave the window: unless it is over, its gradients are dropped, and no step is taken."""
        if self._passes is not None:
            self._passes.close()

    def _compute(self) -> Generator[Any, None, None]:
        self.around.ending.clear()
        try:
            if self.start.num_valid:
                self._tell_start()
                yield from self._pass_by_pass()
            self._end()
        finally:
            self._current = None
            self.start = replace(self.start, micro_batches=())  # whoever keeps the window does not keep its data
            if self._unscaled:  # broken off by a listener or in the step: else the next window could not unscale
                self.around.ending.forget()
            self.around.ending.clear()

    def _tell_start(self) -> None:
        for listener in self.around.listeners:
            listener.before_window(self.start)

    def _pass_by_pass(self) -> Generator[Any, None, None]:
        last = len(self) - 1
        for index, batch in enumerate(self.start.micro_batches):
            with gradients_kept(self.around.model) if index < last else nullcontext():
                self._current = index
                self._awaited = True
                yield batch
                if self._awaited:
                    raise ConfigError(
                        f"micro-batch {index} of the window had no backward pass: call window.backward(loss) for each"
                    )

    def _expect_backward(self) -> int:
        if self._current is None:
            raise ConfigError(
                "no micro-batch waits for its backward pass: call window.backward(loss) in the window's loop"
            )
        if not self._awaited:
            raise ConfigError(
                f"micro-batch {self._current} of the window had its backward pass already: add up its losses, and call "
                "window.backward(loss) once"
            )
        return self._current

    def _num_summands(self, index: int) -> int:
        """What makes a loss the sum over its micro-batch: its valid items where it is their mean.

        Nothing is left of one that has no valid item, and is computed only because other ranks have more.
        """
        size = self.start.sizes[index]
        return size if self.around.loss_is == "mean" else min(size, 1)

    def _share(self) -> float:
        """What a summed loss counts in the window's mean; times the ranks, as their gradients are averaged later."""
        return self.start.num_ranks / self.start.num_valid

    def _end(self) -> None:
        if not self.start.num_valid:
            self._result = self._result_of(loss=nan, norm=0.0, skipped=True)
            self.around.on_end(self._result)
            return
        with self.watch:
            self._unscaled = True
            norm = self.around.ending.gradient_norm()
            losses = torch.stack(self._losses)
        # Reading waits for what an accelerator still computes, which is not ours.
        length, mine = _to_float(norm), self._summed(losses.tolist())
        if not isfinite(length):
            norm = self.around.ending.long_norm()
            length = _to_float(norm)
        told = self.around.ranks.gather(mine, float(isfinite(length)))
        loss = sum(one for one, _ in told) / self.start.num_valid
        skipped = not isfinite(loss) or not all(finite for _, finite in told)
        self._result = self._result_of(loss=loss, norm=length, skipped=skipped)
        for listener in self.around.listeners:
            listener.after_window(self._result)
        self._step(norm, skipped=skipped)
        self.around.on_end(self._result)

    def _summed(self, losses: list[float]) -> float:
        """Sum up the window's losses over all valid items of this rank."""
        return sum(loss * self._num_summands(index) for index, loss in enumerate(losses))

    def _step(self, norm: torch.Tensor, *, skipped: bool) -> None:
        if skipped:
            self.around.ending.skip()
        else:
            self.around.ending.take(norm)
        self._unscaled = False

    def _result_of(self, *, loss: float, norm: float, skipped: bool) -> WindowResult:
        return WindowResult(
            loss=loss,
            num_valid=self.start.num_valid,
            grad_norm=norm,
            skipped=skipped,
            num_micro_batches=len(self),
            overhead_s=self.watch.seconds,
        )


def _checked(loss: Any, index: int) -> torch.Tensor:
    """A loss as a scalar of at least 32 bits, in which factors do not overflow."""
    if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
        what = f"shape {tuple(loss.shape)}" if isinstance(loss, torch.Tensor) else f"type {type(loss).__name__}"
        raise ConfigError(f"the loss of micro-batch {index} has {what}; it must be a tensor of one number: sum it up")
    if not loss.requires_grad:
        raise ConfigError(
            f"the loss of micro-batch {index} does not depend on a parameter that learns: compute it from the model's "
            "output, outside torch.no_grad()"
        )
    scalar = loss.reshape(()) if loss.dim() else loss
    return scalar.float() if scalar.dtype in {torch.float16, torch.bfloat16} else scalar


def _to_float(norm: torch.Tensor) -> float:
    """A norm as a number; that of a sharded model is put together by all ranks."""
    return float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)
