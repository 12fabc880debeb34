"""The latest batches, failed runs and drops, as many as a window may need."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from carpool.signals.events import BatchFailed, BatchRan, CacheAsked, Event, ItemRejected, Passage

__all__ = ["MAX_WINDOW_ITEMS", "MAX_WINDOW_RECORDS", "Recent", "Stretch"]

MAX_WINDOW_RECORDS = 4096
MAX_WINDOW_ITEMS = 32_768


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """All batches, failed runs and drops between two instants.

    Args:
        from_at: nothing that ended after this instant and before `to_at` is missing.
        to_at: the latest event seen.
        records: what ended in between, in order of recording.
    """

    from_at: float
    to_at: float
    records: tuple[Passage, ...]


class Recent:
    """Keeps what ended lately, bounded in time, in records and in items; for one thread at a time.

    Args:
        window_s: seconds to look back.
    """

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._records: deque[Passage] = deque()
        self._num_items = 0
        self._from_at = self._to_at = 0.0

    def add(self, event: Event) -> None:
        """Keep what took time, and let go of what is too old or too much."""
        if isinstance(event, ItemRejected | CacheAsked):
            return
        if not self._records:
            self._from_at = _began_at(event)
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


def _began_at(record: Passage) -> float:
    if isinstance(record, BatchRan):
        return min(record.arrived_at)
    return record.started_at if isinstance(record, BatchFailed) else record.arrived_at


def _num_items(record: Passage) -> int:
    return record.num_items if isinstance(record, BatchRan) else 1
