"""Counts and figures folded from events: what `stats()`, the metrics page and the verdicts read.

The definitions of the figures stand in `carpool.signals.figures`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from carpool.signals.counts import Counts, Totals
from carpool.signals.recent import Recent, Stretch
from carpool.signals.window import WindowFigures, window_figures

if TYPE_CHECKING:
    from carpool.signals.events import Event

__all__ = ["FOLD_AT", "Metrics", "Snapshot", "Totals"]

FOLD_AT = 8
"""Events that may wait before they are folded: few, as a worker folds between batches (8 of 64 items: 0.2 ms)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What a batcher did, since it began and lately; plain data, fit for JSON.

    Args:
        max_batch_size: most items that a batch could hold.
        num_workers: workers that ran batches.
        totals: counts since the batcher began.
        window: figures of the latest stretch of time; None before anything has ended.
    """

    max_batch_size: int
    num_workers: int
    totals: Totals
    window: WindowFigures | None


class Metrics:
    """Counts events cheaply and says what they come to.

    `record` may be called from any thread while others read, without a lock. It appends to a deque, which is atomic.
    Folding is done by whoever takes the one token out of another deque, which is atomic too; what was folded is
    published by one assignment and never changed afterwards. Who finds the token taken goes on: a recorder because its
    event is queued already, a reader with the totals that were published last, which lack what is being folded. While
    nobody records, a read is complete.

    Args:
        max_batch_size: most items that a batch may hold, for the fill ratio.
        num_workers: workers that run batches, for the utilisation.
        window_s: seconds that the window's figures look back; under heavy load the window is shorter, at most
            32,768 items, and says from when it counts.

    >>> from carpool.signals.events import ItemRejected
    >>> metrics = Metrics(max_batch_size=4)
    >>> metrics.record(ItemRejected(at=1.0, reason="queue_full"))
    >>> metrics.totals().rejections["queue_full"]
    1
    """

    def __init__(self, *, max_batch_size: int, num_workers: int = 1, window_s: float = 60.0) -> None:
        self.max_batch_size = max_batch_size
        self.num_workers = num_workers
        self._pending: deque[Event] = deque()
        self._token: deque[None] = deque([None])
        self._counts = Counts(max_batch_size)
        self._recent = Recent(window_s)
        self._window_s = window_s
        self._published = (self._counts.freeze(), self._recent.freeze())

    def record(self, event: Event) -> None:
        """Take one event; well under a microsecond, but for one call in `FOLD_AT` that folds."""
        self._pending.append(event)
        if len(self._pending) >= FOLD_AT:
            self._fold()

    def set_max_batch_size(self, max_batch_size: int) -> None:
        """Take note that a batch may hold so many items from now on."""
        self._fold()  # what ran before is held against what it was allowed
        self.max_batch_size = max_batch_size
        self._counts.max_batch_size = max_batch_size

    def totals(self) -> Totals:
        """What was counted since the beginning."""
        self._fold()
        return self._published[0]

    def snapshot(self, *, now: float | None = None, objective_s: float | None = None) -> Snapshot:
        """Counts since the beginning and figures of the latest window.

        Args:
            now: end of the window, on the clock of the events; the latest event where it is not given.
            objective_s: latency up to which an item counts into the goodput.
        """
        self._fold()
        totals, recent = self._published
        return Snapshot(
            max_batch_size=self.max_batch_size,
            num_workers=self.num_workers,
            totals=totals,
            window=self._window(recent, now, objective_s),
        )

    def _window(self, recent: Stretch, now: float | None, objective_s: float | None) -> WindowFigures | None:
        if not recent.num_records:
            return None
        to_at = recent.to_at if now is None else now
        from_at = max(recent.from_at, to_at - self._window_s)
        return window_figures(
            [record for record in recent.records if from_at <= record.at <= to_at],
            from_at=from_at,
            to_at=to_at,
            max_batch_size=self.max_batch_size,
            num_workers=self.num_workers,
            objective_s=objective_s,
        )

    def _fold(self) -> None:
        try:
            self._token.pop()
        except IndexError:
            return
        try:
            # Counting first bounds the work: others may go on recording meanwhile.
            for _ in range(len(self._pending)):
                event = self._pending.popleft()
                self._counts.add(event)
                self._recent.add(event)
            self._published = (self._counts.freeze(), self._recent.freeze())
        finally:
            self._token.append(None)
