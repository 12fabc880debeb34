"""Our HTTP on a real loopback socket, in the test's own loop, and a client that writes and reads raw bytes."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from carpool.errors import InvalidItem
from carpool.serve.access import Access
from carpool.serve.http.exchange import Exchange, Reply
from carpool.serve.http.limits import Limits
from carpool.serve.http.listener import Listener
from carpool.serve.http.routing import Route, Router

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Sequence

    from carpool.serve.faults import Fault


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes


def write_error(fault: Fault) -> Reply:
    """Write a fault as JSON."""
    return Reply(json.dumps({"error": str(fault)}).encode(), fault.status, fault.headers)


@dataclass
class Desk:
    """Endpoints to try: what they were asked, and what tests hold in their hands."""

    asked: list[Exchange] = field(default_factory=list)
    held: list[Exchange] = field(default_factory=list)
    num_gone: int = 0
    came: asyncio.Event = field(default_factory=asyncio.Event)
    tasks_cancelled: int = 0

    @property
    def router(self) -> Router:
        """The routes."""
        return Router(
            [
                Route("POST", "/echo", self.echo, write_error),
                Route("POST", "/small", self.echo, write_error, max_body_bytes=10),
                Route("GET", "/hello", self.hello, write_error),
                Route("GET", "/large/{num}", self.large, write_error),
                Route("GET", "/later", self.later, write_error),
                Route("POST", "/hold", self.hold, write_error),
                Route("GET", "/stream/{num}", self.stream, write_error),
                Route("GET", "/broken", self.broken, write_error),
                Route("GET", "/refused", self.refused, write_error),
                Route("GET", "/health", self.hello, write_error, audience="health"),
            ]
        )

    def echo(self, exchange: Exchange) -> Reply:
        """Answer with what came."""
        self.asked.append(exchange)
        return Reply(exchange.body, content_type=b"application/octet-stream")

    def hello(self, exchange: Exchange) -> Reply:
        """Answer at once."""
        self.asked.append(exchange)
        return Reply(b"hello" + exchange.query.encode(), content_type=b"text/plain")

    def large(self, exchange: Exchange) -> Reply:
        """Answer with so many bytes."""
        return Reply(b"x" * int(exchange.params["num"]), content_type=b"text/plain")

    async def later(self, _exchange: Exchange) -> Reply:
        """Answer from a task that waits until it is cancelled, or for a turn of the loop."""
        self.came.set()
        try:
            await asyncio.sleep(0 if not self.held else 3600)
        except asyncio.CancelledError:
            self.tasks_cancelled += 1
            raise
        return Reply(b"later")

    def hold(self, exchange: Exchange) -> None:
        """Keep a request, for the test to answer."""
        self.held.append(exchange)
        exchange.on_gone(self._gone)
        self.came.set()

    def _gone(self) -> None:
        self.num_gone += 1

    async def stream(self, exchange: Exchange) -> None:
        """Answer in parts; the last one may never come."""
        stream = await exchange.stream(200, [(b"x-kind", b"parts")], b"text/plain")
        for number in range(int(exchange.params["num"])):
            await stream.write(b"part %d;" % number)
        if "break" in exchange.query:
            raise RuntimeError("broken in the midst")
        await stream.end()

    def broken(self, _exchange: Exchange) -> Reply:
        """Fail."""
        raise ZeroDivisionError("a secret")

    def refused(self, _exchange: Exchange) -> Reply:
        """Refuse."""
        raise InvalidItem("it is not fit")


class Client:
    """A connection that is written and read as bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def write(self, data: bytes) -> None:
        """Send bytes."""
        self.writer.write(data)

    async def ask(self, method: str, target: str, body: bytes = b"", **headers: str) -> Answer:
        """Send a request, and read its answer."""
        self.write(written(method, target, body, **headers))
        return await self.answer(to=method)

    async def answer(self, *, to: str = "GET") -> Answer:
        """Read one answer."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:-2])}
        status = int(lines[0].split(" ")[1])
        return Answer(status, headers, b"" if to == "HEAD" or status < 200 else await self._body(headers))

    async def _body(self, headers: dict[str, str]) -> bytes:
        if "content-length" in headers:
            return await self.reader.readexactly(int(headers["content-length"]))
        if headers.get("transfer-encoding") != "chunked":
            return await self.reader.read()
        body = b""
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            body += await self.reader.readexactly(size)
            await self.reader.readexactly(2)
        await self.reader.readexactly(2)
        return body

    async def rest(self) -> bytes:
        """Read until the server closes the connection."""
        with suppress(ConnectionError):
            return await self.reader.read()
        return b""

    def reset(self) -> None:
        """Break the connection off, as a client does that is killed."""
        raw = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        self.writer.transport.abort()


def written(method: str, target: str, body: bytes = b"", **headers: str) -> bytes:
    """Write a request; underscores in the names of headers stand for hyphens."""
    lines = [f"{method} {target} HTTP/1.1", "Host: test"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if body and "transfer_encoding" not in {name.lower() for name in headers}:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


class Server:
    """Our HTTP, listening."""

    def __init__(self, desk: Desk, listener: Listener, port: int) -> None:
        self.desk = desk
        self.listener = listener
        self.port = port
        self._clients: list[Client] = []

    async def connect(self, *, tls: ssl.SSLContext | None = None, buffer_bytes: int | None = None) -> Client:
        """Open a connection."""
        raw = socket.socket()
        if buffer_bytes is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        raw.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", self.port))
        except OSError:
            raw.close()
            raise
        name = "localhost" if tls else None
        reader, writer = await asyncio.open_connection(sock=raw, ssl=tls, server_hostname=name, limit=1 << 16)
        self._clients.append(Client(reader, writer))
        return self._clients[-1]

    async def ask(self, method: str, target: str, body: bytes = b"", **headers: str) -> Answer:
        """Send one request on a connection of its own."""
        return await (await self.connect()).ask(method, target, body, **headers)

    def hang_up(self, *, but: Client | None = None) -> None:
        """Close all connections, or all but one."""
        for client in self._clients:
            if client is not but:
                client.writer.close()


@asynccontextmanager
async def serving(
    *,
    access: Access | None = None,
    tls: ssl.SSLContext | None = None,
    desk: Desk | None = None,
    router: Router | None = None,
    **limits: Any,
) -> AsyncIterator[Server]:
    """Listen on a free port, and stop afterwards."""
    desk = desk or Desk()
    known = Limits(**limits)
    listener = Listener(router or desk.router, limits=known, access=access or Access(), tls=tls)
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    await listener.start(bound)
    server = Server(desk, listener, bound.getsockname()[1])
    try:
        yield server
    finally:
        server.hang_up()
        await listener.drain(0.0)
        bound.close()


async def until(come: Any) -> None:
    """Give way to the loop until something has come."""
    while not come():  # noqa: ASYNC110 - it belongs to the server, which sets no event of ours
        await asyncio.sleep(0.001)


def cut(data: bytes, at: Sequence[int]) -> list[bytes]:
    """Cut bytes at some places."""
    places = [0, *sorted(at), len(data)]
    return [data[start:stop] for start, stop in pairwise(places)]
