"""Where a text ends because it says something that it was to end at."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class StopStrings:
    r"""Lets text through up to the first stop string, and holds back no more than could still become one.

    The first is the one that is complete first, and of those that end at one place the longest: so the text that comes
    out does not depend on the pieces that it came in.

    Args:
        stops: the texts to end at, none of them empty.
        include: whether the stop string itself is let through.

    >>> watch = StopStrings(["\n\n"])
    >>> watch.push("one\n"), watch.push("two\n"), watch.push("\nthree")
    (('one', None), ('\ntwo', None), ('', '\n\n'))
    """

    def __init__(self, stops: Sequence[str], *, include: bool = False) -> None:
        self._stops = tuple(stops)
        self._include = include
        self._held = ""

    def push(self, text: str, *, armed: bool = True) -> tuple[str, str | None]:
        """Take text in; give what may be sent, and the stop string if there was one.

        Args:
            text: what was generated since the last call.
            armed: False where the text may not end yet: what has come so far is let through, and no stop string begins
                in it.
        """
        if not self._stops:
            return text, None
        pending = self._held + text
        if not armed:
            self._held = ""
            return pending, None
        found = self._first(pending)
        if found is None:
            return self._send(pending), None
        start, stop = found
        self._held = ""
        return pending[: start + len(stop) if self._include else start], stop

    def flush(self) -> str:
        """Give what was held back: the text is over, so that it becomes no stop string any more."""
        held, self._held = self._held, ""
        return held

    def _first(self, pending: str) -> tuple[int, str] | None:
        matches = [(start, stop) for stop in self._stops if (start := pending.find(stop)) >= 0]
        return min(matches, key=lambda match: (match[0] + len(match[1]), match[0]), default=None)

    def _send(self, pending: str) -> str:
        num_held = max(_overlap(pending, stop) for stop in self._stops)
        cut = len(pending) - num_held
        self._held = pending[cut:]
        return pending[:cut]


def _overlap(text: str, stop: str) -> int:
    """Give how many characters at the end of the text a stop string begins with."""
    start = max(0, len(text) - len(stop) + 1)
    while (start := text.find(stop[0], start)) >= 0:
        if stop.startswith(text[start:]):
            return len(text) - start
        start += 1
    return 0
