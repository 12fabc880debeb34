"""The same routes as an ASGI application: to be mounted in another one, or run by another server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import quote, unquote_to_bytes

from carpool.errors import CarpoolError
from carpool.serve.access import Access
from carpool.serve.http.coding import inflate, is_coded
from carpool.serve.http.exchange import Exchange, Reply, request_ids
from carpool.serve.http.limits import Limits, too_large
from carpool.serve.http.routing import let_answer
from carpool.serve.http.wire import has_no_body

if TYPE_CHECKING:
    from collections.abc import Iterator

    from carpool.serve.http.exchange import Headers
    from carpool.serve.http.routing import Router

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]


def as_asgi(router: Router, *, limits: Limits | None = None, access: Access | None = None) -> Application:
    """Return an ASGI application of the same routes.

    Connections, their times and the size of heads are the affair of the server that runs it.

    Args:
        router: finds the endpoint of a request.
        limits: of which the size of bodies counts here.
        access: says whose a request is; None lets everybody in.
    """
    known, ids = limits or Limits(), request_ids()
    entry = access or Access()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await _Request(scope, receive, send, ids).answer(router, known, entry)
        elif scope["type"] == "lifespan":
            await _live(receive, send)
        else:
            raise ValueError(f"only HTTP is spoken here, not {scope['type']!r}")

    return application


async def _live(receive: Receive, send: Send) -> None:
    """Agree to everything: the models are started and closed by whoever made the router."""
    while (message := await receive())["type"] != "lifespan.shutdown":
        await send({"type": f"{message['type']}.complete"})
    await send({"type": "lifespan.shutdown.complete"})


class _Gone(Exception):
    """The client went away before it had sent all."""


class _Request:
    """One request over ASGI, as the channel of its exchange."""

    draining = False

    def __init__(self, scope: Scope, receive: Receive, send: Send, ids: Iterator[str]) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._ids = ids
        self._finished: asyncio.Future[Reply | None] = asyncio.get_running_loop().create_future()

    async def answer(self, router: Router, limits: Limits, access: Access) -> None:
        """Read the request, have it answered, and send that."""
        scope = self._scope
        match = router.match(scope["method"], _path_of(scope) + b"?" + scope.get("query_string", b""))
        headers: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            headers[name] = value if name not in headers else headers[name] + b", " + value
        client = (scope.get("client") or ("",))[0]
        exchange = Exchange(self, match.head(scope["method"], headers), client)
        try:
            exchange.tenant = access.tenant_of(headers, match.route.audience)
            exchange.body = await self._read(headers, match.route.max_body_bytes or limits.max_body_bytes)
        except _Gone:
            return
        except CarpoolError as fault:
            exchange.fail(fault)
        else:
            let_answer(match.route, exchange)
        await self._see_to_the_end(exchange)

    async def _read(self, headers: dict[bytes, bytes], limit_bytes: int) -> bytes:
        declared = headers.get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > limit_bytes:
            raise too_large(limit_bytes)
        body, more = bytearray(), True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise _Gone
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > limit_bytes:
                raise too_large(limit_bytes)
        coding = headers.get(b"content-encoding", b"")
        if is_coded(coding):
            return await asyncio.to_thread(inflate, bytes(body), coding, limit_bytes)
        return bytes(body)

    async def _see_to_the_end(self, exchange: Exchange) -> None:
        """Send the answer once it is there; word of a client that goes away comes first."""
        watch = asyncio.ensure_future(self._until_gone())
        try:
            await asyncio.wait((self._finished, watch), return_when=asyncio.FIRST_COMPLETED)
        finally:
            watch.cancel()
            if not self._finished.done():
                exchange.leave()
        if self._finished.done() and (reply := self._finished.result()) is not None:
            await self._send_reply(exchange, reply)

    async def _until_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            continue

    async def _send_reply(self, exchange: Exchange, reply: Reply) -> None:
        body = b"" if exchange.method == "HEAD" else reply.body
        headers = [*reply.headers, *_id_of(exchange)]
        if not has_no_body(reply.status):
            headers += [(b"content-type", reply.content_type), (b"content-length", b"%d" % len(reply.body))]
        await self._send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})

    # ---------------------------------------------------------------------------------------- as a channel

    def new_id(self) -> str:
        """Make a name for the request."""
        return next(self._ids)

    def send(self, exchange: Exchange, reply: Reply) -> None:
        """Take the whole answer."""
        del exchange
        self._finished.set_result(reply)

    async def stream(self, exchange: Exchange, status: int, headers: Headers, content_type: bytes) -> _Stream:
        """Begin an answer that is sent while it is made."""
        more = [*headers, *_id_of(exchange), (b"content-type", content_type)]
        await self._send({"type": "http.response.start", "status": status, "headers": more})
        return _Stream(exchange, self._send, self._finished)

    def break_off(self, exchange: Exchange) -> None:
        """Break off an answer that has begun: a server closes the connection of an application that raises."""
        del exchange
        self._finished.set_exception(ConnectionError("the answer was broken off"))


class _Stream:
    """The body of an answer that is sent while it is made."""

    def __init__(self, exchange: Exchange, send: Send, finished: asyncio.Future[Reply | None]) -> None:
        self._exchange = exchange
        self._send = send
        self._finished = finished

    async def write(self, part: bytes) -> None:
        """Send a part; the server waits for a client that is slow."""
        if self._exchange.gone:
            raise ConnectionError("the client has gone")
        if part and self._exchange.method != "HEAD":
            await self._send({"type": "http.response.body", "body": part, "more_body": True})

    async def end(self) -> None:
        """Say that this was all."""
        await self._send({"type": "http.response.body", "body": b""})
        self._exchange.ended()
        self._finished.set_result(None)


def _path_of(scope: Scope) -> bytes:
    """Return the path below the one that the application is mounted at, as it stands in a request line.

    Some servers have what it is mounted at stand in `path` and `raw_path`, as the specification says, and some have
    taken it off already.

    Source: https://asgi.readthedocs.io/en/latest/specs/www.html, "HTTP connection scope"
    """
    path = scope.get("raw_path") or quote(scope["path"]).encode()
    root = scope.get("root_path", "").rstrip("/")
    if not root:
        return path
    segments = path.split(b"/")
    num_above = root.count("/") + 1
    below = segments[num_above:]
    is_mounted_there = unquote_to_bytes(b"/".join(segments[:num_above])) == root.encode()
    return b"/" + b"/".join(below) if is_mounted_there else path


def _id_of(exchange: Exchange) -> Headers:
    return [(b"x-request-id", exchange.known_id.encode())] if exchange.known_id else []
