"""What happened: plain records that a batcher emits and everything else reads.

All instants (`at`, `*_at`) are seconds of the emitting batcher's own monotonic clock; lengths are tokens, or 1 where
items have no length. The records hold no live object, so they can be kept, sent and written to a file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

__all__ = [
    "BatchFailed",
    "BatchRan",
    "CacheAnswer",
    "CacheAsked",
    "DropCause",
    "Event",
    "ItemDropped",
    "ItemRejected",
    "Passage",
    "Sink",
]

DropCause: TypeAlias = Literal["deadline", "cancelled", "abandoned"]
CacheAnswer: TypeAlias = Literal["hit", "joined", "miss"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRan:
    """A batch was run and its items were answered.

    Args:
        at: when the record was made.
        batch_id: number of the batch, unique within one batcher.
        worker: number of the worker that ran it, from 0.
        reason: why it left when it did (`full`, `budget`, `deadline`, `idle`, `drain`, `timer`, `bisect`).
        arrived_at: arrival instant of each item.
        lengths: length of each item, in the same order.
        padded_length: length that every item was padded to; the mean length where they ran without padding.
        dispatched_at: when the batch was formed.
        started_at: when the model began.
        finished_at: when the model was done.
        num_failed: items of the batch that were answered with an error.
        predicted_s: what the cost model had promised for `finished_at - started_at`; None without a cost model.
        profiled_s: what the profile says of it, whatever has been learned since; None without a profile.
        queue_depth: items that were waiting at `at`, when this batch was done.
        drift: what batches take lately over what the profile says of them; None without a profile.
        num_drift_batches: how many batches `drift` rests on.
        num_tokens: tokens that ran, padding included; None where that is items times `padded_length`.
        request_ids: the request that each item came with, in the same order; empty where no request was named.
    """

    at: float
    batch_id: int
    worker: int
    reason: str
    arrived_at: tuple[float, ...]
    lengths: tuple[int, ...]
    padded_length: int
    dispatched_at: float
    started_at: float
    finished_at: float
    num_failed: int = 0
    predicted_s: float | None = None
    profiled_s: float | None = None
    queue_depth: int = 0
    drift: float | None = None
    num_drift_batches: int = 0
    num_tokens: int | None = None
    request_ids: tuple[str, ...] = ()

    @property
    def num_items(self) -> int:
        """Items in the batch."""
        return len(self.arrived_at)

    @property
    def padded_tokens(self) -> int:
        """Tokens that ran, padding included."""
        return self.num_items * self.padded_length if self.num_tokens is None else self.num_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemRejected:
    """An item was refused at arrival and never joined the queue.

    Args:
        at: when it arrived.
        reason: a short word for why, such as `queue_full`, `deadline` or `invalid`.
        tenant: whose item it was; empty where tenants are not told apart.
    """

    at: float
    reason: str
    tenant: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemDropped:
    """An item left the queue without being computed.

    Args:
        at: when it left.
        arrived_at: when it arrived.
        cause: `deadline` (it passed while the item waited), `cancelled` (its client went away) or `abandoned` (the
            batcher stopped, or failed, before its turn came).
    """

    at: float
    arrived_at: float
    cause: DropCause


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchFailed:
    """A run of a batch raised; its items may be tried again in smaller batches.

    Args:
        at: when it failed.
        started_at: when the model began; its time until `at` was spent like that of a batch that ran.
        batch_id: number of the batch.
        num_items: items that were in it.
        error: one line saying what was raised.
        arrived_at: arrival instant of each item that was answered with the error; the others run again.
    """

    at: float
    started_at: float
    batch_id: int
    num_items: int
    error: str
    arrived_at: tuple[float, ...] = ()

    @property
    def num_failed(self) -> int:
        """Items that were answered with the error."""
        return len(self.arrived_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheAsked:
    """It was found out whether an item has an answer already.

    Args:
        at: when.
        answer: `hit` (an equal item was answered lately), `joined` (one waits or runs) or `miss`.
        took_s: how long it took to find out.
    """

    at: float
    answer: CacheAnswer
    took_s: float


Event: TypeAlias = BatchRan | ItemRejected | ItemDropped | BatchFailed | CacheAsked
Passage: TypeAlias = BatchRan | ItemDropped | BatchFailed
"""What took time before its instant, and so has a part in the figures of a stretch of time."""


class Sink(Protocol):
    """Where events go: metrics, a file, a list in a test."""

    def record(self, event: Event) -> None:
        """Take one event; must be cheap, must not raise, may be called from any thread."""
