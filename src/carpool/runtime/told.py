"""What a dispatcher tells its sink of what became of items."""

from typing import Any

from carpool.core import Batch, Item
from carpool.errors import CarpoolError, QueueFull, Rejected
from carpool.models.blame import text_of
from carpool.signals.events import BatchFailed, BatchRan


def run_succeeded(
    batch: Batch,
    results: list[Any],
    *,
    worker: int,
    started_at: float,
    at: float,
    queue_depth: int,
    drift: tuple[float | None, int],
    profiled_s: float | None,
) -> BatchRan:
    """Tell of a run that gave a result an item.

    Args:
        batch: what ran.
        results: what came of each item; errors among them.
        worker: which one ran it.
        started_at: when the model began.
        at: when it ended.
        queue_depth: items that waited then.
        drift: as `BatchFormer.drift`.
        profiled_s: as `BatchFormer.profiled_s`.
    """
    items = batch.items
    return BatchRan(
        at=at,
        batch_id=batch.batch_id,
        worker=worker,
        reason=batch.reason.value,
        arrived_at=tuple([item.arrived_at for item in items]),
        lengths=tuple([item.length for item in items]),
        padded_length=batch.length,
        num_tokens=batch.num_tokens,
        dispatched_at=batch.dispatched_at,
        started_at=started_at,
        finished_at=at,
        num_failed=_num_failed(results),
        predicted_s=batch.predicted_s or None,
        profiled_s=profiled_s,
        queue_depth=queue_depth,
        drift=drift[0],
        num_drift_batches=drift[1],
        request_ids=_request_ids(items),
    )


def run_failed(batch: Batch, guilty: list[Item], error: CarpoolError, *, started_at: float, at: float) -> BatchFailed:
    """Tell of a run that raised.

    Args:
        batch: what ran.
        guilty: the items of it that were answered with the error.
        error: what it failed of.
        started_at: when the model began.
        at: when it failed.
    """
    return BatchFailed(
        at=at,
        started_at=started_at,
        batch_id=batch.batch_id,
        num_items=len(batch.items),
        error=text_of(error),
        arrived_at=tuple([item.arrived_at for item in guilty]),
    )


def _num_failed(results: list[Any]) -> int:
    """Count the results that are errors."""
    if not any(issubclass(kind, CarpoolError) for kind in set(map(type, results))):
        return 0
    return sum([isinstance(result, CarpoolError) for result in results])


def _request_ids(items: list[Item]) -> tuple[str, ...]:
    """Name the request of each item; empty where none has a name."""
    ids = tuple([item.request_id for item in items])
    return ids if any(ids) else ()


def why_rejected(error: CarpoolError) -> str:
    """Say in a word why an item was refused."""
    if isinstance(error, QueueFull):
        return "queue_full"
    return "deadline" if isinstance(error, Rejected) else "invalid"
