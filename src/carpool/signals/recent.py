"""The latest batches and drops, as many as a window may need."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from carpool.signals.events import BatchRan, Event, ItemDropped

__all__ = ["MAX_WINDOW_ITEMS", "MAX_WINDOW_RECORDS", "Recent", "Stretch"]

MAX_WINDOW_RECORDS = 4096
MAX_WINDOW_ITEMS = 32_768


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """All batches and drops between two instants.

    Args:
        from_at: nothing that ended after this instant and before `to_at` is missing.
        to_at: the latest event seen.
        records: what ended in between, in order of recording.
    """

    from_at: float
    to_at: float
    records: tuple[BatchRan | ItemDropped, ...]


class Recent:
    """Keeps what ended lately, bounded in time, in records and in items; for one thread at a time.

    Args:
        window_s: seconds to look back.
    """

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._records: deque[BatchRan | ItemDropped] = deque()
        self._num_items = 0
        self._from_at = self._to_at = 0.0

    def add(self, event: Event) -> None:
        """Keep a batch or a drop, and let go of what is too old or too much."""
        if not isinstance(event, BatchRan | ItemDropped):
            return
        if not self._records:
            self._from_at = min(event.arrived_at) if isinstance(event, BatchRan) else event.arrived_at
        self._records.append(event)
        self._num_items += _num_items(event)
        self._to_at = max(self._to_at, event.at)
        while self._has_too_many():
            gone = self._records.popleft()
            self._num_items -= _num_items(gone)
            self._from_at = max(self._from_at, gone.at)

    def freeze(self) -> Stretch:
        """Copy what is kept."""
        return Stretch(from_at=self._from_at, to_at=self._to_at, records=tuple(self._records))

    def _has_too_many(self) -> bool:
        return len(self._records) > 1 and (
            self._records[0].at < self._to_at - self._window_s
            or len(self._records) > MAX_WINDOW_RECORDS
            or self._num_items > MAX_WINDOW_ITEMS
        )


def _num_items(record: BatchRan | ItemDropped) -> int:
    return record.num_items if isinstance(record, BatchRan) else 1
