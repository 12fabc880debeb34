"""Calling a model on offer from a test, and looking at what it was given."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from carpool.core import Policy
from carpool.models.target import wrap
from carpool.serve.call import Answer, CallOptions
from carpool.serve.served import Served

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from carpool.serve.cache import SharingPolicy


class Squarer:
    """Squares numbers; may fail on one, and runs nothing while its gate is shut."""

    def __init__(self, unlucky: int | None = None) -> None:
        self.unlucky = unlucky
        self.batches: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)

    def __call__(self, numbers: Sequence[int]) -> list[int]:
        """Square a batch, once the gate is open."""
        self.batches.append(list(numbers))
        self.entered.release()
        self.gate.wait(30)
        if self.unlucky in numbers:
            message = f"{self.unlucky} brings bad luck"
            raise RuntimeError(message)
        return [number * number for number in numbers]

    @property
    def seen(self) -> list[int]:
        """Every number that it was given, in the order of the batches."""
        return [number for batch in self.batches for number in batch]

    async def hold(self, served: Served, **options: Any) -> asyncio.Task[Answer]:
        """Shut the gate behind a batch of its own, so that whatever comes waits; return the call that is held."""
        self.gate.clear()
        held = asyncio.create_task(call(served, 10**6, **options))
        await asyncio.to_thread(self.entered.acquire)
        return held


def call(served: Served, *numbers: int, **options: Any) -> Any:
    """Call a model with rows."""
    return served.call(list(numbers), CallOptions(**options))


async def until(true: Callable[[], bool]) -> None:
    """Give way until something is so."""
    for _ in range(10_000):
        if true():
            return
        await asyncio.sleep(0)
    message = "it never came to be"
    raise AssertionError(message)


@asynccontextmanager
async def on_offer(
    model: object,
    *,
    sharing: SharingPolicy | None = None,
    num_workers: int = 1,
    request_timeout_s: float = 0.0,
    **policy: Any,
) -> AsyncIterator[Served]:
    """Put a model on offer for a while."""
    served = Served(
        wrap(model, "m"),
        name="m",
        policy=Policy(**policy),
        num_workers=num_workers,
        request_timeout_s=request_timeout_s,
        sharing=sharing,
    )
    await asyncio.to_thread(served.start)
    try:
        yield served
    finally:
        await asyncio.to_thread(served.close, 30.0)
