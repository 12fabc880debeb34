"""What the log says of a model's failures: where it failed, in full once a minute a kind, and then how often."""

from __future__ import annotations

import contextlib
import logging
import os
import sysconfig
import threading
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carpool.errors import CarpoolError, InvalidItem
from carpool.models.blame import text_of, writable
from carpool.units import counted

if TYPE_CHECKING:
    from collections.abc import Callable

    from carpool.core import Batch, Clock

_logger = logging.getLogger("carpool.runtime")

WINDOW_S = 60.0
"""Failures of one kind are counted for so long after one was told in full; seconds."""
_MOST_KINDS = 64  # told in full within a window: what differs beyond that is counted as one kind
_MOST_FRAMES = 32
_RETURNED = "the model returned "
_OTHERS = ("failures", "of other kinds")
_OURS = f"{Path(__file__).parents[1]}{os.sep}"
_LIBRARIES = tuple({f"{sysconfig.get_path(name)}{os.sep}" for name in ("stdlib", "platstdlib", "purelib", "platlib")})


class RaisedThere(Exception):
    """What a worker's process says of the exception that its model raised.

    Args:
        kind: the name of the exception's class.
        place: as `place_of`.
        trace: its traceback.
    """

    def __init__(self, kind: str, place: str, trace: str) -> None:
        super().__init__(f"in the worker's process:\n{trace}")
        self.kind = kind
        self.place = place
        self.trace = trace


def raised_there(error: CarpoolError) -> tuple[str, str, str] | None:
    """Return what `RaisedThere` is made of, for the process that waits; None where no code of the model's raised."""
    place = place_of(error)
    if not place:
        return None
    cause = error.__cause__ or error
    lines = traceback.format_exception(cause, limit=-_MOST_FRAMES)
    return type(cause).__name__, place, "".join(lines).encode("utf-8", "backslashreplace").decode()


def place_of(error: CarpoolError) -> str:
    """Name the line of the model's own code that an error came from: the deepest that is in no library.

    Returns:
        Such as ``models.py, line 12``; empty where none is known.
    """
    cause = error.__cause__ or error
    if isinstance(cause, RaisedThere):
        return cause.place
    frames = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(cause.__traceback__)]
    own = [place for place in frames if not place[0].startswith((_OURS, "<frozen", *_LIBRARIES))]
    if not own and cause is not error:
        own = frames
    return writable(f"{own[-1][0]}, line {own[-1][1]}") if own else ""


@dataclass(slots=True)
class _Kind:
    """Equal failures: until when they are counted, and how many have been."""

    until: float
    num_more: int = 0


class FailureLog:
    """Logs what the batches of a model fail of; safe on any thread, and never raises.

    Args:
        model: how to name it; empty leaves it unnamed.
        clock: tells the time.
        later: makes what calls a function after some seconds, on a thread of its own, once it is started.
    """

    def __init__(self, model: str, clock: Clock, later: Callable[..., threading.Timer] = threading.Timer) -> None:
        self._model = f"model {model}: " if model else ""
        self._clock = clock
        self._later = later
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self._is_closed = False
        self._kinds: dict[tuple[str, str], _Kind] = {}

    def raised(self, batch: Batch, error: CarpoolError) -> None:
        """Log what a batch failed of.

        Args:
            batch: what ran.
            error: what it failed of; where the model refuses an item as invalid, nothing is logged.
        """
        if not isinstance(error, InvalidItem):
            self.failed(f"batch {batch.batch_id} of {counted(len(batch.items), 'item')}", error)

    def failed(self, what: str, error: CarpoolError) -> None:
        """Log that something failed.

        Args:
            what: how to name it, such as "a step of 3 sequences".
            error: what it failed of.
        """
        cause, place = error.__cause__ or error, place_of(error)
        kind = cause.kind if isinstance(cause, RaisedThere) else type(cause).__name__
        where = f" ({place})" if place else ""
        self._note((kind, place), lambda: f"{what} failed: {text_of(error)}{where}", cause if place else None)

    def returned(self, batch: Batch, results: list[Any]) -> None:
        """Log the errors among the results of a batch that ran.

        Args:
            batch: what ran.
            results: what came of each item.
        """
        errors: dict[str, list[CarpoolError]] = {}
        for result in results:
            if isinstance(result, CarpoolError) and not isinstance(result, InvalidItem):
                text = text_of(result)
                kind = text.partition(":")[0] if text.startswith(_RETURNED) else type(result).__name__
                errors.setdefault(kind, []).append(result)
        for kind, alike in errors.items():
            self._note((kind, ""), _some(batch, alike), None)

    def _note(self, kind: tuple[str, str], said: Callable[[], str], cause: BaseException | None) -> None:
        now = self._clock.now()
        with self._lock:
            if kind not in self._kinds and len(self._kinds) >= _MOST_KINDS:
                kind = _OTHERS
            known = self._kinds.get(kind)
            if known is not None and now < known.until:
                known.num_more += 1
                return
            self._kinds[kind] = _Kind(now + WINDOW_S)
            self._wake_at_first_end(now)
        if known is not None:
            self._count(kind, known)
        with contextlib.suppress(Exception):  # whatever a handler of the user's own raises: everyone must be answered
            _logger.error("%s%s", self._model, said(), exc_info=cause)

    def _wake_at_first_end(self, now: float) -> None:
        """Have the counts told when the first window ends; the lock is held."""
        if self._timer is None and self._kinds and not self._is_closed:
            wait_s = min(kind.until for kind in self._kinds.values()) - now
            with contextlib.suppress(RuntimeError):  # no thread can be started: the next of its kind tells the count
                timer = self._later(max(0.0, wait_s), self._tell)
                timer.daemon = True
                timer.start()
                self._timer = timer

    def _tell(self) -> None:
        """Log how many more there were of each kind whose window has passed."""
        now = self._clock.now()
        with self._lock:
            past = {kind: known for kind, known in self._kinds.items() if self._is_closed or known.until <= now}
            self._kinds = {kind: known for kind, known in self._kinds.items() if kind not in past}
            self._timer = None
            self._wake_at_first_end(now)
        for kind, known in past.items():
            self._count(kind, known)

    def close(self) -> None:
        """Log every count now: nothing more is expected to fail."""
        with self._lock:
            self._is_closed = True
            if self._timer is not None:
                self._timer.cancel()
        self._tell()

    def _count(self, kind: tuple[str, str], known: _Kind) -> None:
        if known.num_more:
            what = ", ".join(filter(None, kind))
            with contextlib.suppress(Exception):  # as above
                _logger.error("%s%d more like it in the last minute: %s", self._model, known.num_more, what)


def _some(batch: Batch, alike: list[CarpoolError]) -> Callable[[], str]:
    num_items = counted(len(batch.items), "item")
    return lambda: f"{len(alike)} of {num_items} of batch {batch.batch_id} failed: {text_of(alike[0])}"
