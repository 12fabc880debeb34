"""Time as something that is handed over, so that a test or a simulation can hold it in its hand."""

from typing import Protocol


class Clock(Protocol):
    """Tells the time in seconds, from any fixed origin, never going back."""

    def now(self) -> float:
        """Return the present instant."""
        ...


class VirtualClock:
    """A clock that moves only when told to.

    >>> clock = VirtualClock()
    >>> clock.advance_to(2.5)
    >>> clock.now()
    2.5
    """

    def __init__(self, now: float = 0.0) -> None:
        self._now = now

    def now(self) -> float:
        """Return the instant that was set last."""
        return self._now

    def advance_to(self, instant: float) -> None:
        """Move forward to `instant`.

        Raises:
            ValueError: it lies in the past.
        """
        if instant < self._now:
            raise ValueError(f"a clock does not go back: {instant} lies before {self._now}")
        self._now = instant
