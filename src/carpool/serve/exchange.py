"""One HTTP exchange over ASGI: the body in, within its limit; the answer out; and word of a client that went away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from carpool.errors import CarpoolError
from carpool.serve.faults import FAILED, TOO_LARGE, UNAVAILABLE, Fault, to_fault
from carpool.units import format_bytes

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Headers: TypeAlias = list[tuple[bytes, bytes]]
T = TypeVar("T")

OK = 200
_logger = logging.getLogger("carpool.serve")


class ClientGone(Exception):
    """The client went away: nobody is left to answer."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer to send.

    Args:
        body: the whole of it.
        status: the HTTP status.
        headers: besides the content's type and length.
        content_type: what the body is.
    """

    body: bytes
    status: int = OK
    headers: Sequence[tuple[bytes, bytes]] = ()
    content_type: bytes = b"application/json"


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request, as an endpoint sees it.

    Args:
        scope: what ASGI says of it.
        receive: gives the body, and later word that the client went away.
        body: the whole body.
    """

    scope: Scope
    receive: Receive
    body: bytes

    @property
    def model(self) -> str:
        """The model that the path names; empty where it names none."""
        name: str = self.scope.get("path_params", {}).get("model", "")
        return name

    def header(self, name: bytes) -> str:
        """Return a header; empty where it is not there.

        Args:
            name: in lower case.
        """
        return next((value.decode("latin-1") for key, value in self.scope["headers"] if key == name), "")


class Endpoint:
    """An ASGI application that answers whole requests, and turns every failure into a reply.

    Args:
        answer: answers one request; may raise `CarpoolError`.
        write_error: writes a fault in the protocol's own way.
        max_body_bytes: the largest body that is read.
    """

    def __init__(
        self,
        answer: Callable[[Exchange], Awaitable[Reply]],
        write_error: Callable[[Fault], Reply],
        *,
        max_body_bytes: int,
    ) -> None:
        self._answer = answer
        self._write_error = write_error
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            body = await read_body(scope, receive, self._max_body_bytes)
            reply = await self._answer(Exchange(scope, receive, body))
        except ClientGone:
            return
        except asyncio.CancelledError:  # the drain timeout has passed; nobody else cancels an exchange
            reply = self._write_error(Fault(UNAVAILABLE, "the server is stopping and has given this up: ask again"))
        except CarpoolError as error:
            reply = self._write_error(to_fault(error))
        except Exception:
            _logger.exception("unexpected failure, a fault in carpool, at %s", scope["path"])
            reply = self._write_error(Fault(FAILED, "the server failed unexpectedly: its log says how"))
        await send_reply(send, reply)


async def read_body(scope: Scope, receive: Receive, limit_bytes: int) -> bytes:
    """Read the whole body of a request.

    Args:
        scope: what ASGI says of the request.
        receive: gives the parts of the body.
        limit_bytes: the largest body that is read.

    Raises:
        Fault: it is larger, or says that it will be.
        ClientGone: the client went away before it had sent all.
    """
    declared = next((value for key, value in scope["headers"] if key == b"content-length"), b"0")
    _check_size(int(declared) if declared.isdigit() else 0, limit_bytes)
    message = await _receive_part(receive)
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False):
        _check_size(len(body), limit_bytes)
        return body
    parts = bytearray(body)
    while message.get("more_body", False):
        _check_size(len(parts), limit_bytes)
        message = await _receive_part(receive)
        parts += message.get("body", b"")
    _check_size(len(parts), limit_bytes)
    return bytes(parts)


async def _receive_part(receive: Receive) -> Message:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGone
    return message


def _check_size(size_bytes: int, limit_bytes: int) -> None:
    if size_bytes > limit_bytes:
        raise Fault(
            TOO_LARGE,
            f"the body has {format_bytes(size_bytes)} or more, of {format_bytes(limit_bytes)} that are read: "
            "send less at once, or allow more with --max-body",
        )


async def send_reply(send: Send, reply: Reply) -> None:
    """Send a whole answer; what is left of a body that was too large is not waited for."""
    headers = [
        (b"content-type", reply.content_type),
        (b"content-length", b"%d" % len(reply.body)),
        *reply.headers,
    ]
    if reply.status == TOO_LARGE:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})


async def unless_gone(answer: Coroutine[Any, Any, T], receive: Receive) -> T:
    """Wait for an answer; when the client goes away, cancel it.

    Args:
        answer: what is awaited.
        receive: tells of the client that goes away.

    Raises:
        ClientGone: nobody is left to answer.
    """
    answering = asyncio.ensure_future(answer)
    watch = asyncio.ensure_future(_await_disconnect(receive))
    try:
        await asyncio.wait((answering, watch), return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            raise ClientGone
        return answering.result()
    finally:
        watch.cancel()
        answering.cancel()


async def _await_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue
