"""The latest batches, failed runs and drops, as many as a window may need."""

from __future__ import annotations

from dataclasses import dataclass

from carpool.signals.events import CacheAsked, Event, ItemDropped, ItemRejected, Passage

__all__ = ["MAX_WINDOW_ITEMS", "MAX_WINDOW_RECORDS", "Recent", "Stretch"]

MAX_WINDOW_RECORDS = 4096
MAX_WINDOW_ITEMS = 32_768
_MOST_DEPARTED = 512  # records that are let go of together, since each time the others are copied


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """All batches, failed runs and drops between two instants.

    Args:
        from_at: nothing that ended after this instant and before `to_at` is missing.
        to_at: the latest event seen.
        shared: records in order of recording, which grow at their end and change nowhere else.
        start: the first of them that ended in between.
        stop: one past the last.
    """

    from_at: float
    to_at: float
    shared: list[Passage]
    start: int
    stop: int

    @property
    def num_records(self) -> int:
        """How many ended in between."""
        return self.stop - self.start

    @property
    def records(self) -> list[Passage]:
        """What ended in between, in order of recording."""
        return self.shared[self.start : self.stop]


class Recent:
    """Keeps what ended lately, bounded in time, in records and in items; for one thread at a time.

    Args:
        window_s: seconds to look back.
    """

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._records: list[Passage] = []  # shared with those who read: appended to, and replaced, never changed
        self._start = 0  # the first that is still kept
        self._num_items = 0
        self._from_at = self._to_at = 0.0

    def add(self, event: Event) -> None:
        """Keep what took time, and let go of what is too old or too much."""
        if isinstance(event, ItemRejected | CacheAsked):
            return
        if self._start == len(self._records):
            self._from_at = _began_at(event)
        self._records.append(event)
        self._num_items += _num_items(event)
        self._to_at = max(self._to_at, event.at)
        while self._has_too_many():
            gone = self._records[self._start]
            self._start += 1
            self._num_items -= _num_items(gone)
            self._from_at = max(self._from_at, gone.at)
        if self._start >= _MOST_DEPARTED:
            self._records, self._start = self._records[self._start :], 0

    def freeze(self) -> Stretch:
        """Return what is kept, without copying it."""
        return Stretch(
            from_at=self._from_at,
            to_at=self._to_at,
            shared=self._records,
            start=self._start,
            stop=len(self._records),
        )

    def _has_too_many(self) -> bool:
        num_records = len(self._records) - self._start
        return num_records > 1 and (
            self._records[self._start].at < self._to_at - self._window_s
            or num_records > MAX_WINDOW_RECORDS
            or self._num_items > MAX_WINDOW_ITEMS
        )


def _began_at(record: Passage) -> float:
    if isinstance(record, ItemDropped):
        return record.arrived_at
    return min(record.arrived_at, default=record.started_at)


def _num_items(record: Passage) -> int:
    return 1 if isinstance(record, ItemDropped) else max(1, len(record.arrived_at))
