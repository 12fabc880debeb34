"""Models and sinks for the tests of the batcher."""

import asyncio
import threading
from collections.abc import Callable

from carpool.signals.events import Event

WITHIN_S = 30


def double(numbers: list[int]) -> list[int]:
    """Twice each."""
    return [2 * number for number in numbers]


class Gate:
    """A model that holds every batch until it is opened, and notes what it was given."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.entered = threading.Event()
        self.batches: list[list[int]] = []

    def __call__(self, numbers: list[int]) -> list[int]:
        """Twice each, once open."""
        self.batches.append(list(numbers))
        self.entered.set()
        self.opened.wait()
        return double(numbers)


class Recorder:
    """A sink that keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def record(self, event: Event) -> None:
        """Keep it."""
        self.events.append(event)


async def until(condition: Callable[[], object]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(WITHIN_S):
        while not condition():  # noqa: ASYNC110 - what happens in another process sets no event here
            await asyncio.sleep(0.002)
