"""Memory shared between the model and its batches: a larger model leaves less room for batches, and the other way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carpool.cost.memory import MemoryFit
    from carpool.plan.subject import Subject

_MOST_BATCH, _MOST_SCALE = 4096, 1024  # beyond these, nobody asks


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSize:
    """What fits beside a model of some size.

    Args:
        scale: Times as large as the measured one.
        weights_bytes: Its weights.
        largest_batches: Largest batch at each length of the trade; 0 where not even one item fits.
    """

    scale: float
    weights_bytes: float
    largest_batches: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSize:
    """What model fits beside batches of some size.

    Args:
        batch_size: Items in the batch.
        largest_scales: For each length of the trade, how many times as large as the measured model the largest is that
            still fits; 0 where none does.
    """

    batch_size: int
    largest_scales: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryTrade:
    """How one device's memory is shared between a model and its batches.

    A model that is s times as large holds s times the weights; what else is held (libraries, and what a batch needs)
    stays as measured, as it does where a model has more layers of the same width.

    Args:
        limit_bytes: The device's memory, or as much of it as may be used.
        usable_bytes: The same less the largest error that the memory model made.
        weights_bytes: Of the measured model.
        other_bytes: What else is held whatever the batch: libraries, buffers.
        lengths: Padded lengths that the trade is for, ascending.
        item_bytes: What one item of each length adds.
        probed_batch_sizes: Largest batch size at each length that was really probed: beyond it, the line is prolonged.
        model_sizes: The largest batch by model size.
        batch_sizes: The largest model by batch size.
    """

    limit_bytes: int
    usable_bytes: float
    weights_bytes: float
    other_bytes: float
    lengths: tuple[int, ...]
    item_bytes: tuple[float, ...]
    probed_batch_sizes: tuple[int, ...]
    model_sizes: tuple[ModelSize, ...]
    batch_sizes: tuple[BatchSize, ...]

    def memory_bytes(self, scale: float, batch_size: int, index: int = 0) -> float:
        """Return what a model of some size needs with a batch of some size.

        Args:
            scale: Times as large as the measured model.
            batch_size: Items in the batch.
            index: Which of the lengths.
        """
        return self.other_bytes + scale * self.weights_bytes + batch_size * self.item_bytes[index]


def weights_bytes(subject: Subject) -> float:
    """Return what the weights take: as counted, or all that is held beside a batch where they were not counted."""
    memory = subject.cost.memory
    held = 0.0 if memory is None else memory.m0_bytes
    return held if subject.weights_bytes is None else min(float(subject.weights_bytes), held)


def memory_trade(
    subject: Subject, lengths: Sequence[int] = (), *, memory_limit_bytes: int | None = None
) -> MemoryTrade | None:
    """Work out the largest batch for each model size, and the largest model for each batch size.

    Args:
        subject: The measured model.
        lengths: Lengths that arrive; the trade is for their median and their longest. None for typical ones.
        memory_limit_bytes: Most memory of one worker; None for what was allowed when it was measured.

    Returns:
        None where memory was not measured, where there is no limit, or where a batch needs none.
    """
    memory = subject.cost.memory
    limit = subject.memory_limit_bytes if memory_limit_bytes is None else memory_limit_bytes
    if memory is None or limit is None:
        return None
    ordered = sorted(lengths or subject.example_lengths)
    shown = tuple(sorted({ordered[len(ordered) // 2], ordered[-1]}))
    items = tuple(memory.m1_bytes + memory.m2_bytes * length for length in shown)
    weights = weights_bytes(subject)
    if not weights or not min(items):
        return None
    usable, other = limit / memory.worst_low, memory.m0_bytes - weights
    return MemoryTrade(
        limit_bytes=limit,
        usable_bytes=usable,
        weights_bytes=weights,
        other_bytes=other,
        lengths=shown,
        item_bytes=items,
        probed_batch_sizes=tuple(_probed(memory, length) for length in shown),
        model_sizes=_model_sizes(usable - other, weights, items),
        batch_sizes=_batch_sizes(usable - other, weights, items),
    )


def _probed(memory: MemoryFit, length: int) -> int:
    if length > memory.largest_length:
        return 0
    return min(memory.largest_batch_size, memory.most_tokens // length)


def _model_sizes(room: float, weights: float, items: Sequence[float]) -> tuple[ModelSize, ...]:
    """Double the model until nothing fits beside it any more."""
    found, scale = [], 0.5
    while scale <= _MOST_SCALE:
        batches = tuple(_largest_batch(room - scale * weights, item) for item in items)
        found.append(ModelSize(scale=scale, weights_bytes=scale * weights, largest_batches=batches))
        if not any(batches):
            break
        scale *= 2
    return tuple(found)


def _largest_batch(room: float, item: float) -> int:
    return max(0, int(room / item))


def _batch_sizes(room: float, weights: float, items: Sequence[float]) -> tuple[BatchSize, ...]:
    """Double the batch until no model fits beside it any more."""
    found, size = [], 1
    while size <= _MOST_BATCH:
        scales = tuple(max(0.0, (room - size * item) / weights) for item in items)
        found.append(BatchSize(batch_size=size, largest_scales=scales))
        if not any(scales):
            break
        size *= 2
    return tuple(found)
