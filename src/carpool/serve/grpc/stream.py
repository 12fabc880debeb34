"""Many requests over one stream: run side by side, answered in the order in which they came."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine

MAX_UNDER_WAY = 1024
"""Requests of one stream that are read before the first of them is answered and the client has taken the answer."""


async def answer_in_order(
    requests: AsyncIterator[bytes],
    answer: Callable[[bytes], Coroutine[None, None, bytes]],
    write: Callable[[bytes], Awaitable[None]],
    *,
    closing: asyncio.Event,
    max_under_way: int = MAX_UNDER_WAY,
) -> None:
    """Answer the requests of a stream.

    Clients match answers to requests by their order, as they may with a server of this protocol; what is behind a slow
    request is computed meanwhile all the same. When this is cancelled, so is every request under way.

    Args:
        requests: as the client sends them; ends when it sends no more.
        answer: answers one; failures are answers too, so it raises nothing but what ends the stream.
        write: sends an answer, and returns once the client has room for the next.
        closing: set when no more requests are to be read; those that were are still answered.
        max_under_way: how many requests are read ahead of the answers; then the client has to wait.
    """
    under_way: asyncio.Queue[asyncio.Task[bytes] | None] = asyncio.Queue()
    room = asyncio.Semaphore(max_under_way)

    async def read() -> None:
        try:
            async for request in requests:
                await room.acquire()
                under_way.put_nowait(asyncio.create_task(answer(request)))
        finally:
            under_way.put_nowait(None)

    reading = asyncio.create_task(read())
    ending = asyncio.create_task(_cancel_when(closing, reading))
    current: asyncio.Task[bytes] | None = None
    try:
        while (current := await under_way.get()) is not None:
            await write(await current)
            room.release()
        if not closing.is_set():
            await reading
    finally:
        reading.cancel()
        left = [task for task in (reading, ending, current, *_drained(under_way)) if task is not None]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


async def _cancel_when(event: asyncio.Event, task: asyncio.Task[None]) -> None:
    await event.wait()
    task.cancel()


def _drained(queue: asyncio.Queue[asyncio.Task[bytes] | None]) -> list[asyncio.Task[bytes] | None]:
    return [queue.get_nowait() for _ in range(queue.qsize())]
