"""The door of the way in: who is inside is answered, who comes later is refused, and who is left is counted."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from carpool.serve.faults import Fault
from carpool.serve.ray.door import Door
from carpool.serve.ray.front import refuse
from carpool.serve.ray.replica import Asked

if TYPE_CHECKING:
    from carpool.serve.http.asgi import Message, Receive, Scope, Send

ASKED = Asked(method="GET", path=b"/", query=b"", headers=(), body=b"", client="")


class Building:
    """A door before an application that answers once it may, and the list of what was answered."""

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()
        self.answers: list[str] = []
        self.door = Door(self.answer, self.turn_away)

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer once it may."""
        if scope["type"] == "http":
            await self.may_answer.wait()
        self.answers.append(scope["type"])

    async def turn_away(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse."""
        self.answers.append("refused")

    async def come(self, kind: str = "http") -> None:
        """Be one request."""
        await self.door({"type": kind}, _receive, _send)


async def _receive() -> Message:
    return {}


async def _send(message: Message) -> None:
    del message


async def test_who_is_inside_is_answered_and_who_comes_later_refused() -> None:
    """The door says that nobody is left once the last one is answered."""
    building = Building()
    inside = [asyncio.ensure_future(building.come()) for _ in range(2)]
    await asyncio.sleep(0)
    closing = asyncio.ensure_future(building.door.close(60.0))
    await asyncio.sleep(0)
    await building.come()
    assert building.answers == ["refused"]
    assert not closing.done()
    building.may_answer.set()
    assert await closing == 0
    await asyncio.gather(*inside)
    assert building.answers == ["refused", "http", "http"]


async def test_who_is_not_answered_in_time_is_counted() -> None:
    """One that would wait for ever."""
    building = Building()
    inside = asyncio.ensure_future(building.come())
    await asyncio.sleep(0)
    assert await building.door.close(0.0) == 1
    inside.cancel()


async def test_an_empty_house_is_closed_at_once() -> None:
    """What is no request, such as the begin of the application, is not counted."""
    building = Building()
    await building.come("lifespan")
    assert await building.door.close(60.0) == 0
    assert building.answers == ["lifespan"]


async def test_the_refusal_says_that_the_server_stops() -> None:
    """As one that may be tried elsewhere."""
    with pytest.raises(Fault, match="the server is stopping") as raised:
        await refuse(ASKED)
    assert raised.value.status == 503
