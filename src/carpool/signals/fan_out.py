"""One sink that tells others, which come and go while events are recorded."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

__all__ = ["FanOut"]

_Event = TypeVar("_Event")
_Taken_contra = TypeVar("_Taken_contra", contravariant=True)


class _Recorder(Protocol[_Taken_contra]):
    """Takes events of a kind."""

    def record(self, event: _Taken_contra, /) -> None:
        """Take one event."""


class FanOut(Generic[_Event]):
    """Tells every event to all of its sinks, in the order in which they came.

    `record` may be called from any thread while others add and remove: the tuple of sinks is only ever replaced.

    Args:
        sinks: those that are told from the beginning.
    """

    def __init__(self, *sinks: _Recorder[_Event]) -> None:
        self._sinks = sinks

    def record(self, event: _Event) -> None:
        """Tell all of them."""
        for sink in self._sinks:
            sink.record(event)

    def add(self, sink: _Recorder[_Event]) -> None:
        """Tell one more from now on."""
        self._sinks = (*self._sinks, sink)

    def remove(self, sink: _Recorder[_Event]) -> None:
        """Tell one no longer; one that is not told is no error."""
        self._sinks = tuple(one for one in self._sinks if one is not sink)
