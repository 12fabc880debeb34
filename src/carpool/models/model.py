"""The interface between a model and everything that batches for it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from carpool.errors import ConfigError

Results: TypeAlias = Sequence[Any] | NDArray[np.generic]
"""One result an item, in order: a sequence, or one array whose first axis runs over the items."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """What a loaded model is and where it runs.

    Args:
        name: a short name, for tables, metrics and URLs.
        kind: ``"function"``, ``"torch"``, ``"encoder"`` or ``"onnx"``.
        target: the text or object that it was loaded from.
        device: where it computes, as PyTorch names devices.
        dtype: the type of its weights (``"float32"``, ``"bfloat16"``), empty where that has no meaning.
        num_threads: threads of one operation; None leaves it to the library.
        num_parameters: weights, counted once where shared; None where unknown.
        parameter_bytes: bytes of those weights.
        max_length: the most tokens that an item may have; None where items have no length.
        batching: how items of different lengths run together: ``"packed"`` side by side, or ``"padded"`` to one length;
            empty where neither is known.
    """

    name: str
    kind: str
    target: str
    device: str = "cpu"
    dtype: str = ""
    num_threads: int | None = None
    num_parameters: int | None = None
    parameter_bytes: int | None = None
    max_length: int | None = None
    batching: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a model was made, so that another one can be made like it: for another thread, device or process.

    Args:
        source: a TARGET, or the live object that was wrapped.
        name: a short name.
        target: how to name it in messages.
        device: what was asked for, as PyTorch names devices; None where nothing was.
        dtype: what was asked for.
        num_threads: what was asked for.
        is_independent: whether one that is made again shares nothing with the first: not so for a live instance.
    """

    source: Any
    name: str | None = None
    target: str | None = None
    device: str | None = None
    dtype: str | None = None
    num_threads: int | None = None
    is_independent: bool = True


@dataclass(slots=True)
class Admitted:
    """An item that passed validation, with its own share of the host's work done.

    Args:
        payload: what `Model.run` takes, such as the token ids of a text.
        length: its size in tokens; 1 where length has no meaning.
    """

    payload: Any
    length: int = 1


@dataclass(frozen=True, slots=True)
class Stages:
    """The parts of one call, so that each can be timed apart.

    Args:
        prepare: payloads to one padded batch on the host.
        to_device: that batch to the device.
        compute: the model itself, on the device.
        to_host: its output back to the host.
        finish: the host's output to one result an item.
    """

    prepare: Callable[[Sequence[Any]], Any]
    to_device: Callable[[Any], Any]
    compute: Callable[[Any], Any]
    to_host: Callable[[Any], Any]
    finish: Callable[[Any], Results]

    def run(self, payloads: Sequence[Any]) -> Results:
        """Run the five parts one after the other.

        Args:
            payloads: the payloads of admitted items, at least one.
        """
        on_device = self.to_device(self.prepare(payloads))
        return self.finish(self.to_host(self.compute(on_device)))


class Model(ABC):
    """A model that takes many items at once.

    The life of a model is ``load()``, then ``admit(item)`` from any thread and ``run(payloads)`` from one
    worker thread, then ``close()``. PyTorch keeps a pool of threads for each thread that calls it, so a
    model is best loaded, warmed and run on the same one.
    """

    recipe: Recipe | None = None
    """How it was made; None where only whoever made it knows."""

    @property
    @abstractmethod
    def info(self) -> ModelInfo:
        """What this model is; complete once it is loaded."""

    @property
    def has_length(self) -> bool:
        """Whether items differ in length, so that padding matters."""
        return False

    @property
    def ragged(self) -> bool:
        """Whether items of different lengths run side by side, at the cost of their sum; known once it is loaded."""
        return self.info.batching == "packed"

    @property
    def preferred_tokens(self) -> int | None:
        """Tokens of a ragged batch beyond which larger ones bring little; None where that is not known."""
        return None

    @property
    def stages(self) -> Stages | None:
        """The parts of `run`, or None where they cannot be told apart."""
        return None

    @property
    def concurrent(self) -> bool:
        """Whether several threads may call `run` at the same time; else each needs a model of its own."""
        return False

    @property
    def preferred_workers(self) -> int:
        """How many workers it is best run by where nobody says how many; known before it is loaded."""
        return 1

    def share_cores(self, num_workers: int) -> None:  # noqa: B027 - most models leave threads to their library
        """Take note of how many workers will call `run` beside each other; called before `load`.

        Args:
            num_workers: at least 1.
        """

    @abstractmethod
    def load(self) -> None:
        """Do the heavy work before the first call; a second call does nothing.

        Raises:
            TargetError: what the target names is not a model that can be loaded.
            ModelError: the model's own code failed while loading.
        """

    def load_admission(self) -> None:
        """Do what `admit` needs, and no more: the model itself runs in another process.

        Here it is all of `load`; a model whose weights are large had better do less.

        Raises:
            CarpoolError: as `load`.
        """
        self.load()

    @abstractmethod
    def admit(self, item: object) -> Admitted:
        """Check one item and prepare it; cheap and safe to call from many threads at once.

        Raises:
            InvalidItem: the item can never be run, whatever the batch.
        """

    @abstractmethod
    def run(self, payloads: Sequence[Any]) -> Results:
        """Run one batch and return one result an item, in order.

        Args:
            payloads: the payloads of admitted items, at least one, in any order of length.
        """

    def examples(self, num_items: int, *, length: int | None = None, seed: int = 0) -> list[Any]:
        """Items to measure with, as a caller would send them.

        Args:
            num_items: how many.
            length: exactly so many tokens each; None for a realistic mix.
            seed: another seed gives other items.

        Raises:
            ConfigError: the target offers none.
        """
        del num_items, length, seed
        msg = f"{self.info.target} offers no example items; give the target an attribute `examples` (a list of items)"
        raise ConfigError(msg)

    def flops(self, batch_size: int, length: int) -> float | None:
        """Floating-point operations of one batch, or None where no formula is known.

        Args:
            batch_size: items in the batch.
            length: tokens that each item is padded to.
        """
        del batch_size, length
        return None

    def padded_length(self, length: int) -> int:
        """The length that a batch is padded to, given its longest item's.

        Args:
            length: tokens of the longest item.
        """
        return length

    def rounded_total(self, num_tokens: int) -> int:
        """The tokens that a ragged batch runs, given the sum of its items' lengths.

        Args:
            num_tokens: of all the items.
        """
        return num_tokens

    def close(self) -> None:  # noqa: B027 - most models have nothing to give back
        """Give back what `load` took; a second call does nothing."""
