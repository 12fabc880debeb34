"""What became of the requests of one model, listened to for as long as a trial needs it."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from carpool.serve.switchback import Seen
from carpool.signals.events import BatchFailed, BatchRan, ItemDropped, ItemRejected

if TYPE_CHECKING:
    from carpool.serve.switchback import Instants, Switchback
    from carpool.signals.events import Event

_CLIENTS_FAULT = "invalid"


class Ear:
    """Keeps the arrivals and latencies that a trial compares; a sink.

    `record` may be called from any thread; all else from one.
    """

    def __init__(self) -> None:
        self._events: deque[Event] = deque()
        self._seen = Seen(np.empty(0), np.empty(0))

    def record(self, event: Event) -> None:
        """Take one event."""
        self._events.append(event)

    def seen(self, switchback: Switchback) -> Seen:
        """Return what a trial has yet to compare, and forget the rest."""
        parts = [(self._seen.arrived_at, self._seen.latency_s)]
        parts += [_arrivals(self._events.popleft()) for _ in range(len(self._events))]
        arrived_at, latency_s = (np.concatenate([part[side] for part in parts]) for side in (0, 1))
        needed = switchback.is_compared(arrived_at)
        self._seen = Seen(arrived_at[needed], latency_s[needed])
        return self._seen


def _arrivals(event: Event) -> tuple[Instants, Instants]:
    """Return the instants of arrival that an event tells of, and the seconds to the answer; infinite without one."""
    match event:
        case BatchRan():
            arrived_at = np.array(event.arrived_at)
            latency_s = event.finished_at - arrived_at
            latency_s[: event.num_failed] = math.inf  # which of them failed is not told, and makes no difference
            return arrived_at, latency_s
        case ItemDropped():
            return np.array([event.arrived_at]), np.array([math.inf])
        case ItemRejected() if event.reason != _CLIENTS_FAULT:
            return np.array([event.at]), np.array([math.inf])
        case BatchFailed():
            return np.full(event.num_items, event.started_at), np.full(event.num_items, math.inf)
    return np.empty(0), np.empty(0)
