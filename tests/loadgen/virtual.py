"""An event loop in which time passes only when everyone waits, so that tests of waiting take none."""

from __future__ import annotations

import asyncio
import selectors
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from carpool.loadgen.records import Reply

Result = TypeVar("Result")


class _Skipping(selectors.DefaultSelector):
    """Instead of sleeping until a timer is due, moves the clock there."""

    passed_s = 0.0

    def select(self, timeout: float | None = None) -> Any:
        """Never wait."""
        assert timeout is not None, "everyone waits and no timer is set: this would hang"
        self.passed_s += max(0.0, timeout)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose `time()` is virtual."""

    def __init__(self) -> None:
        self.skipping = _Skipping()
        super().__init__(self.skipping)

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self.skipping.passed_s


def run_virtually(work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    """Run a coroutine in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work())


def virtual_now() -> float:
    """The running loop's virtual time."""
    return asyncio.get_running_loop().time()


class FakeServer:
    """A sender that answers as a function says: how long, and what, given a request's number and when it came."""

    def __init__(self, answer: Callable[[int, float], tuple[float, Reply]]) -> None:
        self.answer = answer
        self.seen: list[int] = []

    async def send(self, index: int) -> Reply:
        """Answer after a delay."""
        self.seen.append(index)
        delay_s, reply = self.answer(index, virtual_now())
        await asyncio.sleep(delay_s)
        return reply
