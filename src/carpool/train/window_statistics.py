"""The statistics of a BatchNorm layer over a whole window, and the gradient that flows through them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from carpool.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable


def uses_batch_statistics(layer: nn.Module) -> bool:
    """Whether a layer is a BatchNorm that takes its statistics from the batch.

    Args:
        layer: of a model.
    """
    if not isinstance(layer, _BatchNorm):
        return False
    return layer.training or (layer.running_mean is None and layer.running_var is None)


@dataclass(frozen=True, slots=True)
class Moments:
    """What is known of the values of each channel.

    Args:
        count: values of a channel.
        mean: of each channel, (C,).
        squares: sums of the squared distances from the mean, (C,).
    """

    count: int
    mean: torch.Tensor
    squares: torch.Tensor

    @classmethod
    def of(cls, values: torch.Tensor) -> Self:
        """Those of a layer's input.

        Args:
            values: (N, C, ...); N may be 0.
        """
        wide = values.detach().to(_wide(values.dtype))
        count = wide.numel() // wide.shape[1]
        if not count:
            return cls.none(wide.shape[1], like=wide)
        variance, mean = torch.var_mean(wide, [dim for dim in range(wide.dim()) if dim != 1], correction=0)
        return cls(count, mean, variance * count)

    @classmethod
    def none(cls, num_channels: int, *, like: torch.Tensor) -> Self:
        """Those of no values.

        Args:
            num_channels: C.
            like: has the type and the device.
        """
        nothing = torch.zeros(num_channels, dtype=like.dtype, device=like.device)
        return cls(0, nothing, nothing)

    def merged(self, other: Self) -> Self:
        """Those of these values and others; no digits are lost where the mean is large.

        Source: Chan, Golub, LeVeque 1979, "Updating formulae and a pairwise algorithm for computing sample variances".

        Args:
            other: of the other values.
        """
        count = self.count + other.count
        if not count:
            return self
        apart = other.mean - self.mean
        mean = self.mean + apart * (other.count / count)
        squares = self.squares + other.squares + apart.square() * (self.count * other.count / count)
        return type(self)(count, mean, squares)

    def packed(self) -> torch.Tensor:
        """All of it in one vector for other ranks, (1 + 2 C,); counts up to 2^53 are exact in it."""
        count = torch.tensor([self.count], dtype=torch.float64, device=self.mean.device)
        return torch.cat([count, self.mean.double(), self.squares.double()])

    def united(self, packed: Iterable[torch.Tensor]) -> Self:
        """Those of all ranks, in the types of these.

        Args:
            packed: of each rank, in the order of the ranks.
        """
        together: Self | None = None
        for one in packed:
            mean, squares = one[1:].to(self.mean.dtype).chunk(2)
            rank = type(self)(int(one[0].item()), mean, squares)
            together = rank if together is None else together.merged(rank)
        return self if together is None else together

    @property
    def variance(self) -> torch.Tensor:
        """Of each channel, (C,): the mean squared distance, by which a layer divides."""
        return self.squares / max(1, self.count)

    def is_finite(self) -> bool:
        """Whether all of it is."""
        return bool(torch.isfinite(self.mean).all() & torch.isfinite(self.squares).all())


@dataclass(slots=True, eq=False)
class Site:
    """One call of a layer in a forward pass, in all micro-batches of a window.

    Args:
        name: of the layer.
        moments: of the layer's input; over the window once it is `known`.
        eps: of the layer.
        gain: the layer's weight, (C,).
    """

    name: str
    moments: Moments
    eps: float
    gain: torch.Tensor
    known: bool = False
    reached: bool = False  # the loss depends on the layer's output
    shift: torch.Tensor | None = None  # of `through`, (C,)
    slope: torch.Tensor | None = None
    num_expected: int = 0  # backward passes that bring the gradient through the statistics
    num_delivered: int = 0

    def set_gradient(self, by_weight: torch.Tensor, by_bias: torch.Tensor) -> None:
        """Know the gradients of the window's loss with respect to the layer's weight and bias in this call.

        The loss depends on the mean by `-gain by_bias / deviation` and on the variance by
        `-gain by_weight / (2 deviation^2)`, with `deviation = sqrt(variance + eps)`; an input `x` has the share
        `1 / count` of the one and `2 (x - mean) / count` of the other.

        Source: Ioffe, Szegedy 2015, "Batch normalization", section 3.

        Args:
            by_weight: (C,).
            by_bias: (C,).
        """
        deviation = (self.moments.variance + self.eps).sqrt()
        share = -self.gain / (deviation * self.moments.count)
        self.shift = share * by_bias
        self.slope = share * by_weight / deviation

    def through(self, values: torch.Tensor) -> torch.Tensor:
        """The gradient that reaches a layer's input through the statistics.

        Args:
            values: the input, (N, C, ...).
        """
        assert self.shift is not None
        assert self.slope is not None
        shape = _over_channels(values)
        wide = values.to(self.moments.mean.dtype) - self.moments.mean.view(shape)
        return (self.shift.view(shape) + self.slope.view(shape) * wide).to(values.dtype)


class ThroughStatistics(torch.autograd.Function):
    """Leaves a layer's input as it is, and adds to its gradient what flows through the statistics of the window."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, site: Site) -> torch.Tensor:
        """Pass the input on.

        Args:
            ctx: torch's, for the backward pass.
            values: the layer's input, (N, C, ...).
            site: the call; its gradient is known.
        """
        ctx.save_for_backward(values)
        ctx.site = site
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Add what flows through the statistics.

        Args:
            ctx: torch's, from the forward pass.
            gradients: one, with respect to what was passed on.

        Raises:
            ConfigError: the gradient is to be differentiated in its turn.
        """
        if torch.is_grad_enabled():
            raise ConfigError(
                f"the loss is itself computed from gradients through the BatchNorm layer {ctx.site.name}, which exact "
                "BatchNorm cannot differentiate: freeze its statistics with eval()"
            )
        (values,) = ctx.saved_tensors
        ctx.site.num_delivered += 1
        return gradients[0] + ctx.site.through(values), None


def normalise(
    values: torch.Tensor, moments: Moments, weight: torch.Tensor | None, bias: torch.Tensor | None, eps: float
) -> torch.Tensor:
    """Compute a layer's output with given statistics.

    Args:
        values: its input, (N, C, ...).
        moments: have the statistics.
        weight: of the layer, (C,).
        bias: of the layer, (C,).
        eps: added to the variance.
    """
    dtype = moments.mean.dtype  # half precision keeps its statistics in float32, and torch wants the weights so too
    return functional.batch_norm(
        values,
        moments.mean,
        moments.variance,
        None if weight is None else weight.to(dtype),
        None if bias is None else bias.to(dtype),
        training=False,
        momentum=0.0,
        eps=eps,
    )


def update_running_statistics(layer: _BatchNorm, moments: Moments) -> None:
    """Let a layer's running statistics follow a window, as they follow a batch.

    Args:
        layer: whose they are; one that has none stays as it is.
        moments: of its input, over the window.
    """
    if not layer.training or layer.running_mean is None or layer.running_var is None:
        return
    momentum = layer.momentum
    if layer.num_batches_tracked is not None:
        layer.num_batches_tracked.add_(1)
        if momentum is None:  # the plain mean over all batches
            momentum = 1.0 / float(layer.num_batches_tracked)
    weight = momentum or 0.0
    unbiased = moments.squares / (moments.count - 1)
    layer.running_mean.lerp_(moments.mean.to(layer.running_mean.dtype), weight)
    layer.running_var.lerp_(unbiased.to(layer.running_var.dtype), weight)


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype in {torch.float16, torch.bfloat16} else dtype


def _over_channels(values: torch.Tensor) -> list[int]:
    return [1, -1, *[1] * (values.dim() - 2)]
