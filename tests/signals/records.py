"""Batches for the tests of what is made of them."""

from __future__ import annotations

from typing import Any

from carpool.signals.events import BatchRan


def batch(arrived_at: tuple[float, ...], *, start: float, end: float, **changes: Any) -> BatchRan:
    """A batch of items of 10 tokens, padded to 16, that was formed and begun at `start`."""
    values: dict[str, Any] = {
        "at": end,
        "batch_id": 0,
        "worker": 0,
        "reason": "idle",
        "arrived_at": arrived_at,
        "lengths": (10,) * len(arrived_at),
        "padded_length": 16,
        "dispatched_at": start,
        "started_at": start,
        "finished_at": end,
    }
    return BatchRan(**(values | changes))


def closed_loop(num_batches: int, *, batch_size: int = 4, compute_s: float = 0.01) -> list[BatchRan]:
    """One worker, always busy: every batch arrives when the one before is done and waits for nothing."""
    return [
        batch((i * compute_s,) * batch_size, start=i * compute_s, end=(i + 1) * compute_s, batch_id=i)
        for i in range(num_batches)
    ]
