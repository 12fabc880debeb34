"""HTTP by hand: as little work for the load generator as can be, since it shares the machine with what it loads."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from carpool.loadgen.records import OK, Reply

if TYPE_CHECKING:
    from collections.abc import Sequence

END_OF_HEADERS = b"\r\n\r\n"
LENGTH = b"content-length:"
CHUNKED = b"transfer-encoding: chunked"
LAST_CHUNK = b"0\r\n\r\n"


class Connection(asyncio.Protocol):
    """One connection, one request at a time; answers with a length or in chunks."""

    def __init__(self) -> None:
        self.answer: bytes = b""
        self.broken = False
        self._received = b""
        self._head_size = 0
        self._size: int | None = None
        self._waiting: asyncio.Future[int] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way to the server."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Take in a part of an answer."""
        self._received += data
        if not self._head_size and not self._read_head():
            return
        if self._size is None:
            if self._received.endswith(LAST_CHUNK):
                self._finish(_joined(self._received[self._head_size :]))
        elif len(self._received) >= self._head_size + self._size:
            self._finish(self._received[self._head_size :])

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell who waits."""
        self.broken = True
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(exc or ConnectionResetError("closed before answering"))

    async def ask(self, request: bytes) -> int:
        """Send one request; return the status of its answer, whose body is then in `answer`.

        Raises:
            OSError: the connection broke.
        """
        assert self._transport is not None
        self._received, self._head_size = b"", 0
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._waiting

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.abort()

    def _read_head(self) -> bool:
        end = self._received.find(END_OF_HEADERS)
        if end < 0:
            return False
        head = self._received[:end].lower()
        self._head_size = end + len(END_OF_HEADERS)
        at = head.find(LENGTH)
        if at < 0 and CHUNKED not in head:
            message = f"an answer with neither a length nor chunks: {head.decode(errors='replace')}"
            raise ValueError(message)
        self._size = None if at < 0 else int(head[at + len(LENGTH) :].split(b"\r\n", 1)[0])
        return True

    def _finish(self, body: bytes) -> None:
        self.answer = body
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(int(self._received[9:12]))  # HTTP/1.1 200


def _joined(body: bytes) -> bytes:
    """Put the chunks of a whole body together."""
    at, parts = 0, list[bytes]()
    while True:
        end = body.index(b"\r\n", at)
        size = int(body[at:end], 16)
        if not size:
            return b"".join(parts)
        parts.append(body[end + 2 : end + 2 + size])
        at = end + 2 + size + 2


def as_request(url: str, body: bytes) -> bytes:
    """Write a request as it goes over the wire."""
    parts = urlsplit(url)
    head = f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


class WireSender:
    """Sends bodies over as many connections as are needed at once, each kept alive.

    Args:
        url: where.
        bodies: request i takes body i modulo their number.
    """

    def __init__(self, url: str, bodies: Sequence[bytes]) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._requests = [as_request(url, body) for body in bodies]
        self._idle: list[Connection] = []

    async def open(self, num: int) -> None:
        """Open connections beforehand."""
        self._idle += [await self._connect() for _ in range(num)]

    async def send(self, index: int) -> Reply:
        """Send one request and read its whole answer."""
        try:
            connection = self._idle.pop() if self._idle else await self._connect()
        except OSError as error:
            return Reply("not connected", detail=str(error))
        try:
            status = await connection.ask(self._requests[index % len(self._requests)])
        except asyncio.CancelledError:  # its answer may still come: nobody else may use the connection
            connection.close()
            raise
        except OSError as error:
            return Reply("connection reset", detail=str(error))
        if not connection.broken:
            self._idle.append(connection)
        size = len(connection.answer)
        return Reply(OK if status == 200 else f"http {status}", status, size, "" if status == 200 else "refused")

    async def fetch(self, index: int) -> bytes:
        """Send one request and return the body of its answer.

        Raises:
            OSError: it was not answered with success.
        """
        connection = await self._connect()
        try:
            status = await connection.ask(self._requests[index % len(self._requests)])
        finally:
            connection.close()
        if status != 200:
            message = f"the server answered {status}: {connection.answer[:500].decode(errors='replace')}"
            raise OSError(message)
        return connection.answer

    def close(self) -> None:
        """Hang up everywhere."""
        for connection in self._idle:
            connection.close()

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(Connection, self._host, self._port)
        return connection
