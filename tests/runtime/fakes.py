"""Models and sinks for the tests of the batcher."""

import threading

from carpool.signals.events import Event


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
