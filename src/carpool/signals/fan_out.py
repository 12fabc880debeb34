"""One sink that tells others, which come and go while events are recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from carpool.signals.events import Event, Sink

__all__ = ["FanOut"]


class FanOut:
    """Tells every event to all of its sinks, in the order in which they came.

    `record` may be called from any thread while others add and remove: the tuple of sinks is only ever replaced.

    Args:
        sinks: those that are told from the beginning.
    """

    def __init__(self, *sinks: Sink) -> None:
        self._sinks = sinks

    def record(self, event: Event) -> None:
        """Tell all of them."""
        for sink in self._sinks:
            sink.record(event)

    def add(self, sink: Sink) -> None:
        """Tell one more from now on."""
        self._sinks = (*self._sinks, sink)

    def remove(self, sink: Sink) -> None:
        """Tell one no longer; one that is not told is no error."""
        self._sinks = tuple(one for one in self._sinks if one is not sink)
