"""Requests of one stream run side by side and are answered in order."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from carpool.serve.grpc.stream import answer_in_order

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Desk:
    """Answers requests when a test says so."""

    def __init__(self) -> None:
        self.begun: list[bytes] = []
        self.cancelled: list[bytes] = []
        self.written: list[bytes] = []
        self.done: dict[bytes, asyncio.Event] = {}
        self.client_reads = asyncio.Event()
        self.client_reads.set()

    async def answer(self, request: bytes) -> bytes:
        """Answer once the test lets it."""
        self.begun.append(request)
        try:
            await self.done.setdefault(request, asyncio.Event()).wait()
        except asyncio.CancelledError:
            self.cancelled.append(request)
            raise
        return request.upper()

    def finish(self, *requests: bytes) -> None:
        """Let requests be answered."""
        for request in requests:
            self.done.setdefault(request, asyncio.Event()).set()

    async def write(self, answer: bytes) -> None:
        """Send an answer, once the client has room."""
        await self.client_reads.wait()
        self.written.append(answer)


async def sent(*requests: bytes) -> AsyncIterator[bytes]:
    """Send requests, and say that these were all."""
    for request in requests:
        yield request


async def sent_and_open(*requests: bytes) -> AsyncIterator[bytes]:
    """Send requests, and keep the stream open."""
    for request in requests:
        yield request
    await asyncio.Event().wait()


async def settled() -> None:
    """Let everything that can run do so."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_answers_come_in_the_order_of_the_requests() -> None:
    """The second is done first, and waits for the first."""
    desk = Desk()
    stream = asyncio.create_task(
        answer_in_order(sent(b"a", b"b", b"c"), desk.answer, desk.write, closing=asyncio.Event())
    )
    await settled()
    assert desk.begun == [b"a", b"b", b"c"]  # side by side
    desk.finish(b"b", b"c")
    await settled()
    assert desk.written == []
    desk.finish(b"a")
    await stream
    assert desk.written == [b"A", b"B", b"C"]


async def test_a_stream_that_is_cancelled_gives_up_what_is_under_way() -> None:
    """Nothing is computed for a client that has gone."""
    desk = Desk()
    stream = asyncio.create_task(
        answer_in_order(sent_and_open(b"a", b"b"), desk.answer, desk.write, closing=asyncio.Event())
    )
    await settled()
    stream.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stream
    assert sorted(desk.cancelled) == [b"a", b"b"]


async def test_a_client_that_takes_no_answers_is_not_read_from_for_ever() -> None:
    """At most so many requests are under way or answered and not taken."""
    desk = Desk()
    desk.client_reads.clear()
    requests = [b"%d" % number for number in range(10)]
    desk.finish(*requests)
    stream = asyncio.create_task(
        answer_in_order(sent(*requests), desk.answer, desk.write, closing=asyncio.Event(), max_under_way=3)
    )
    await settled()
    assert len(desk.begun) == 3
    desk.client_reads.set()
    await stream
    assert desk.written == requests


async def test_a_stream_whose_requests_fail_to_come_ends_with_that_failure() -> None:
    """What was read before is answered all the same."""
    desk = Desk()
    desk.finish(b"a")

    async def broken() -> AsyncIterator[bytes]:
        yield b"a"
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await answer_in_order(broken(), desk.answer, desk.write, closing=asyncio.Event())
    assert desk.written == [b"A"]


async def test_a_stream_that_is_to_close_answers_what_it_has_read() -> None:
    """It reads nothing more, though the client keeps it open."""
    desk, closing = Desk(), asyncio.Event()
    stream = asyncio.create_task(answer_in_order(sent_and_open(b"a", b"b"), desk.answer, desk.write, closing=closing))
    await settled()
    closing.set()
    await settled()
    assert not stream.done()
    desk.finish(b"a", b"b")
    await stream
    assert desk.written == [b"A", b"B"]
