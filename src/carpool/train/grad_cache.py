"""Losses that compare every item of a batch with every other, over a batch that is computed in micro-batches.

With in-batch negatives, the loss of an item depends on all others, so that the losses of micro-batches do not add up to
that of the batch: accumulated, they have fewer negatives. But the loss needs only the embeddings of the others, not how
they came about. So these are computed first, without what a backward pass takes; then the loss, and its gradient with
respect to each embedding; and then each micro-batch once more, to pass that gradient on.

Source: Gao, Zhang, Han, Callan 2021, "Scaling deep contrastive learning batch size under memory limited setup".
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.functional import pad
from torch.nn.parallel import DistributedDataParallel

from carpool.errors import ConfigError, ModelError
from carpool.train.batch_norm import find
from carpool.train.exchange import Exchange
from carpool.train.ranks import exchanges_gradients, gradients_kept
from carpool.train.replay import Replay

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from torch.distributed import ProcessGroup

# Of the second pass from the first, relative: dropout that is not repeated changes far more, rounding far less.
_TOLERANCE = 0.05


def call(encoder: nn.Module, batch: Any) -> torch.Tensor:
    """Call an encoder, by name where its input has names.

    Args:
        encoder: to call.
        batch: its input for a micro-batch.
    """
    embeddings: torch.Tensor = encoder(**batch) if isinstance(batch, Mapping) else encoder(batch)
    return embeddings


class GradCache:
    """Computes the gradient of a loss over the embeddings of a whole window in the memory of a micro-batch.

    The gradient is that of one batch of all items, on all ranks. It costs one forward pass more; the embeddings of the
    window, and their gradients, are kept. What steps the optimiser is left to you.

    Dropout draws the same numbers in both passes; other random numbers than torch's are found out, and refused.

    With several ranks, each computes the loss of all ranks' embeddings, in the order of the ranks, and a gradient that
    the encoders' wrapper averages to the whole. Parameters of the loss itself, such as a temperature, have the whole
    gradient on each rank: keep them out of the wrapper.

    Args:
        encoders: one for each input of a micro-batch, on several ranks each as wrapped; one that embeds two inputs is
            given twice.
        loss: takes the embeddings of the whole window, those of each encoder, and returns a scalar.
        encode: takes an encoder and its input, and returns the embeddings, (items, ...).
        scaler: of mixed precision; the gradients have its factor.
        group: the ranks that share a window, where that is not what the encoders' wrapper says.

    Raises:
        ConfigError: there is no encoder, or one where there should be a list of them; or one that learns on several
            ranks does not average their gradients.

    >>> import torch
    >>> from carpool.train import GradCache
    >>> from torch import nn
    >>> from torch.nn.functional import cross_entropy
    >>> def loss(queries, texts):
    ...     return cross_entropy(queries @ texts.T, torch.arange(len(queries)))
    >>> encoders = nn.Linear(5, 4), nn.Linear(3, 4)
    >>> cache = GradCache(encoders, loss)
    >>> batches = zip(torch.randn(8, 5).split(2), torch.randn(8, 3).split(2))
    >>> cache.backward(list(batches)).shape, encoders[0].weight.grad.shape
    (torch.Size([]), torch.Size([4, 5]))
    """

    def __init__(
        self,
        encoders: Sequence[nn.Module],
        loss: Callable[..., torch.Tensor],
        *,
        encode: Callable[[nn.Module, Any], torch.Tensor] = call,
        scaler: torch.amp.GradScaler | None = None,
        group: ProcessGroup | None = None,
    ) -> None:
        if isinstance(encoders, nn.Module) and not isinstance(encoders, nn.ModuleList):
            raise ConfigError(f"encoders is one {type(encoders).__name__}: give a list, with an encoder for each input")
        self._encoders = tuple(encoders)
        if not self._encoders:
            raise ConfigError("there is no encoder: give one for each input of a micro-batch")
        self._loss = loss
        self._encode = encode
        self._scaler = scaler
        self._exchange = Exchange.of(self._encoders, group)
        if self._exchange.num_ranks > 1:
            _check_all_exchange(self._encoders)
        _warn_of_batch_norm(self._encoders)

    def backward(self, micro_batches: Iterable[Sequence[Any]]) -> torch.Tensor:
        """Add the gradient of the loss over a window to the parameters'.

        Args:
            micro_batches: of this rank; each is a tuple or list of an input for each encoder.

        Returns:
            The loss, over all ranks.

        Raises:
            ConfigError: the micro-batches, the embeddings or the loss are not what they must be.
            ModelError: an encoder embedded a micro-batch in one way, and then in another.
        """
        window = list(micro_batches)
        self._check(window)
        replay = Replay(self._encoders)
        parts = self._embed(window, replay)
        united = [self._united(each) for each in parts]
        loss = self._differentiate([one.embeddings for one in united])
        replay.at("after")
        self._pass_on(window, parts, [one.mine() for one in united], replay)
        replay.at("after")
        return loss

    def _check(self, micro_batches: Sequence[Sequence[Any]]) -> None:
        told = self._exchange.objects([_num_inputs(batch) for batch in micro_batches])
        for rank, nums_inputs in enumerate(told):
            where = f" of rank {rank}" if len(told) > 1 else ""
            if not nums_inputs:
                raise ConfigError(f"the window{where} holds no micro-batch: give at least one on each rank")
            wrong = [num for num in nums_inputs if num != len(self._encoders)]
            if wrong:
                what = "is no tuple or list of inputs" if wrong[0] is None else f"has {wrong[0]} inputs"
                raise ConfigError(
                    f"a micro-batch{where} {what}, and there are {len(self._encoders)} encoders: give an input for "
                    "each, and an encoder that embeds two inputs twice"
                )
        sharded = any(hasattr(encoder, "set_requires_gradient_sync") for encoder in self._encoders)
        if sharded and len({len(nums_inputs) for nums_inputs in told}) > 1:
            raise ConfigError(
                "the ranks hold different numbers of micro-batches, and an encoder that is sharded by fully_shard "
                "needs as many passes on each: cut the window alike on all"
            )

    def _embed(self, micro_batches: Sequence[Sequence[Any]], replay: Replay) -> list[list[torch.Tensor]]:
        """Embed a window without what a backward pass takes; for each encoder, the embeddings of each micro-batch."""
        parts: list[list[torch.Tensor]] = [[] for _ in self._encoders]
        with torch.no_grad():
            for index, batch in enumerate(micro_batches):
                for number, (encoder, inputs) in enumerate(zip(self._encoders, batch, strict=True)):
                    replay.at((index, number))
                    # the wrapper would exchange buffers in each pass, and ranks may have different numbers of them
                    plain = encoder.module if isinstance(encoder, DistributedDataParallel) else encoder
                    parts[number].append(_checked(self._encode(plain, inputs)))
        replay.rewind()
        return parts

    def _united(self, parts: list[torch.Tensor]) -> _Embeddings:
        """The embeddings of an encoder on all ranks."""
        mine = torch.cat(parts)
        if self._exchange.num_ranks == 1:
            return _Embeddings(mine.requires_grad_(), 0, len(mine))
        told = self._exchange.objects((tuple(mine.shape), mine.dtype))
        if len({(shape[1:], dtype) for shape, dtype in told}) > 1:
            raise ConfigError(f"the ranks' embeddings differ in shape or type: {told}")
        nums = [shape[0] for shape, _ in told]
        padded = pad(mine, (0, 0) * (mine.dim() - 1) + (0, max(nums) - len(mine)))
        everyone = [one[:num] for one, num in zip(self._exchange.tensors(padded), nums, strict=True)]
        first = sum(nums[: self._exchange.rank])
        return _Embeddings(torch.cat(everyone).requires_grad_(), first, len(mine))

    def _differentiate(self, embeddings: list[torch.Tensor]) -> torch.Tensor:
        """Compute the loss, and its gradient with respect to the embeddings."""
        # copies, since a loss may normalise in place, which leaves of a graph do not allow
        loss: Any = self._loss(*(each.clone() for each in embeddings))
        if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
            what = f"shape {tuple(loss.shape)}" if isinstance(loss, torch.Tensor) else f"type {type(loss).__name__}"
            raise ConfigError(f"the loss has {what}; it must be a tensor of one number")
        if not loss.requires_grad:
            raise ConfigError("the loss does not depend on the embeddings: compute it from those that it is given")
        loss = loss.reshape(())
        (loss if self._scaler is None else self._scaler.scale(loss)).backward()
        result: torch.Tensor = loss.detach()
        return result

    def _pass_on(
        self,
        micro_batches: Sequence[Sequence[Any]],
        parts: list[list[torch.Tensor]],
        gradients: list[torch.Tensor],
        replay: Replay,
    ) -> None:
        """Embed each micro-batch once more, and pass the gradient of its embeddings on to the parameters."""
        calls = [(index, number) for index in range(len(micro_batches)) for number in range(len(self._encoders))]
        last = {self._encoders[number]: (index, number) for index, number in calls}
        shares = [
            torch.split(gradient, [len(part) for part in each]) for gradient, each in zip(gradients, parts, strict=True)
        ]
        drift = _Drift()
        for index, number in calls:
            encoder = self._encoders[number]
            replay.at((index, number))
            with nullcontext() if last[encoder] == (index, number) else gradients_kept(encoder):
                embeddings = self._encode(encoder, micro_batches[index][number])
                drift.add(parts[number][index], embeddings)
                if embeddings.requires_grad:
                    factor = self._exchange.num_ranks if exchanges_gradients(encoder) else 1
                    embeddings.backward(shares[number][index] * factor)  # type: ignore[no-untyped-call]
        drift.check()


@dataclass(frozen=True, slots=True)
class _Embeddings:
    """An encoder's embeddings of a window.

    Args:
        embeddings: of all ranks, (items, ...).
        first: of this rank.
        num: of this rank.
    """

    embeddings: torch.Tensor
    first: int
    num: int

    def mine(self) -> torch.Tensor:
        """The gradient with respect to this rank's; zeros where the loss does not depend on them."""
        gradient = self.embeddings.grad
        whole = torch.zeros_like(self.embeddings) if gradient is None else gradient
        return whole[self.first : self.first + self.num]


class _Drift:
    """How far the embeddings of the second pass are from those of the first."""

    def __init__(self) -> None:
        self._apart: list[torch.Tensor] = []
        self._size: list[torch.Tensor] = []

    def add(self, first: torch.Tensor, second: torch.Tensor) -> None:
        """Compare those of a micro-batch; nothing waits for the device.

        Args:
            first: from the first pass.
            second: from the second one.
        """
        wide = first.float()
        self._apart.append((second.detach().float() - wide).square().sum())
        self._size.append(wide.square().sum())

    def check(self) -> None:
        """Make sure that they are the same.

        Raises:
            ModelError: they are not.
        """
        size = sum(map(float, self._size))
        apart = (sum(map(float, self._apart)) / size) ** 0.5 if size else 0.0
        if apart > _TOLERANCE:
            raise ModelError(
                f"the embeddings of the second pass are {apart:.1%} away from those of the first, so the gradient is "
                "wrong: draw random numbers from torch only, and keep nothing in the encoder from pass to pass"
            )


def _num_inputs(batch: Any) -> int | None:
    return len(batch) if isinstance(batch, tuple | list) else None


def _checked(embeddings: Any) -> torch.Tensor:
    if not isinstance(embeddings, torch.Tensor) or not embeddings.dim() or not embeddings.is_floating_point():
        what = type(embeddings).__name__
        if isinstance(embeddings, torch.Tensor):
            what = f"{embeddings.dtype} of shape {tuple(embeddings.shape)}"
        raise ConfigError(
            f"an encoder returned {what}, not floating-point embeddings, one an item: give encode=, a function of the "
            "encoder and its input that returns them"
        )
    return embeddings.detach()


def _check_all_exchange(encoders: tuple[nn.Module, ...]) -> None:
    for number, encoder in enumerate(encoders):
        learns = any(parameter.requires_grad for parameter in encoder.parameters())
        if learns and not exchanges_gradients(encoder):
            raise ConfigError(
                f"encoder {number}, a {type(encoder).__name__}, learns on several ranks, and does not average their "
                "gradients: wrap it in torch.nn.parallel.DistributedDataParallel, or call fully_shard on it"
            )


def _warn_of_batch_norm(encoders: tuple[nn.Module, ...]) -> None:
    names = [name or type(encoder).__name__ for encoder in dict.fromkeys(encoders) for name in find(encoder)]
    if names:
        warnings.warn(
            f"the encoders hold {len(names)} BatchNorm layers, such as {names[0]}, which take their statistics from a "
            "micro-batch: the gradient is not that of the whole batch. Use LayerNorm, or freeze them with eval()",
            stacklevel=3,
        )
