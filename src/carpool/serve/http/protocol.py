"""One client's connection: its requests are answered one after the other, in the order in which they came.

There is no task, future or timer a request: what is slow is found by the sweep over all connections.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, cast

from msgspec.structs import replace

from carpool.errors import CarpoolError
from carpool.serve.faults import UNAVAILABLE, Fault
from carpool.serve.http.coding import compress, inflate, wanted_coding
from carpool.serve.http.reader import Reader, Reading, Turn
from carpool.serve.http.routing import let_answer
from carpool.serve.http.shared import CLIENT_GONE
from carpool.serve.http.wire import CONTINUE, LAST_CHUNK, NO_BODY

if TYPE_CHECKING:
    from carpool.serve.http.exchange import Exchange, Headers, Reply
    from carpool.serve.http.shared import Shared

TIMED_OUT = 408
# What comes compressed inflates a thousandfold at most: up to here that is quick.
_QUICKLY_INFLATED_BYTES = 2048
_COPIED_BYTES = 64 * 1024  # up to here head and body are joined, and leave in one packet or a few


class Connection(asyncio.Protocol):
    """A client's connection.

    Args:
        shared: what all connections share.
    """

    __slots__ = (
        "_compress_from_bytes",
        "_current",
        "_is_pumping",
        "_progress_at",
        "_reader",
        "_shared",
        "_transport",
        "_turns",
        "_unsent_bytes",
        "_writable",
        "_write_paused",
        "client",
    )

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._transport: asyncio.Transport
        self.client = ""
        least_bytes = shared.limits.compress_from_bytes
        self._compress_from_bytes = math.inf if least_bytes is None else least_bytes
        self._reader = Reader(shared, self)
        self._current: Turn | None = None  # it is being answered
        self._turns: deque[Turn] = deque()  # they wait for that
        self._is_pumping = self._write_paused = False
        self._writable: asyncio.Future[None] | None = None  # a stream waits for it
        self._unsent_bytes = 0
        self._progress_at = 0.0  # when the client last took something of what is unsent

    # --------------------------------------------------------------------------------------- what asyncio says

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, unless there are too many connections."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but its ancestors
        peer = transport.get_extra_info("peername")
        self.client = str(peer[0]) if isinstance(peer, tuple) else ""
        self._shared.joined(self)
        if self._shared.is_full:
            self._reader.refuse(self._shared.no_room())

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - whatever the reason, nobody is there
        """Let go of everything; what is being done for the client is withdrawn."""
        self._shared.left(self)
        turns = [self._current, *self._turns]
        if self._current is not None and self._shared.watcher is not None:
            self._shared.watcher.ended(self._current.exchange, self._current.route, CLIENT_GONE, 0)
        self._reader.close()
        self._current = None
        self._turns.clear()
        self._wake_stream()
        for turn in turns:
            if turn is not None:
                turn.exchange.leave()

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        self._reader.feed(data)

    def pause_writing(self) -> None:
        """Take no more from a client that takes nothing from us."""
        self._write_paused = True
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on: the client has taken most of what waited."""
        self._write_paused = False
        self._wake_stream()
        self._pump()
        self._read_on()

    # ------------------------------------------------------------------------------------------ taking turns

    def take(self, turn: Turn) -> None:
        """Answer a request, now or after those before it."""
        if self._current is None and not self._write_paused and not self._turns:
            self._begin(turn)
            return
        self._turns.append(turn)
        if len(self._turns) >= self._shared.limits.max_pipelined and not self._transport.is_closing():
            self._transport.pause_reading()

    def invite(self) -> None:
        """Tell the client that its body is waited for; while others are answered, it is not told, and sends anyway."""
        if self._current is None:
            self._transport.write(CONTINUE)

    def _begin(self, turn: Turn) -> None:
        self._current = turn
        watcher = self._shared.watcher
        if watcher is not None:
            watcher.began(turn.exchange, turn.route)
        if turn.coding:
            self._begin_inflated(turn)
        else:
            let_answer(turn.route, turn.exchange)

    def _begin_inflated(self, turn: Turn) -> None:
        """Inflate a body, and have it answered."""
        exchange = turn.exchange
        inflating = partial(inflate, exchange.body, turn.coding, turn.route.max_body_bytes or self._max_body_bytes)
        if len(exchange.body) <= _QUICKLY_INFLATED_BYTES:
            try:
                exchange.body = inflating()
            except CarpoolError as fault:
                exchange.fail(fault)
            else:
                let_answer(turn.route, exchange)
            return

        def inflated(done: asyncio.Future[bytes]) -> None:
            error = done.exception()
            if not exchange.waits:
                return
            if error is not None:
                exchange.fail(error)
            else:
                exchange.body = done.result()
                let_answer(turn.route, exchange)

        asyncio.get_running_loop().run_in_executor(None, inflating).add_done_callback(inflated)

    @property
    def _max_body_bytes(self) -> int:
        return self._shared.limits.max_body_bytes

    def _pump(self) -> None:
        """Go on with the requests that wait for their turn; one that is answered at once does not nest into it."""
        if self._is_pumping:
            return
        self._is_pumping = True
        while self._turns and self._current is None and not self._write_paused:
            self._begin(self._turns.popleft())
        self._is_pumping = False
        self._read_on()

    def _read_on(self) -> None:
        may_read = not self._write_paused and len(self._turns) < self._shared.limits.max_pipelined
        if may_read and not self._transport.is_closing():
            self._transport.resume_reading()

    def _finish(self, turn: Turn, status: int, num_bytes: int, *, close: bool) -> None:
        """Take note that the current request has been answered in full."""
        watcher = self._shared.watcher
        if watcher is not None:
            watcher.ended(turn.exchange, turn.route, status, num_bytes)
        self._current = None
        if close:
            self._close()
        elif self._turns:
            self._pump()

    def _closes_after(self, turn: Turn) -> bool:
        if not turn.keep_alive or not self._shared.draining:
            return not turn.keep_alive
        return not self._turns and self._reader.reading is Reading.NOTHING

    def _close(self) -> None:
        """Close once everything is sent, and a client that still sends has had the time to see its answer."""
        self._reader.stop()
        self._turns.clear()
        if self._reader.unread and self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._transport.close()

    # ---------------------------------------------------------------------------------------------- answers

    @property
    def draining(self) -> bool:
        """Whether the server has been asked to stop."""
        return self._shared.draining

    def new_id(self) -> str:
        """Make a name for a request."""
        return self._shared.new_id()

    def send(self, exchange: Exchange, reply: Reply) -> None:
        """Send a whole answer, compressed if it is large and the client asks for that."""
        if len(reply.body) >= self._compress_from_bytes:
            coding = wanted_coding(exchange.raw_header(b"accept-encoding"))
            if coding and not any(name == b"content-encoding" for name, _ in reply.headers):
                self._send_compressed(exchange, reply, coding)
                return
        self._write(exchange, reply)

    def _send_compressed(self, exchange: Exchange, reply: Reply, coding: bytes) -> None:
        def compressed(done: asyncio.Future[bytes]) -> None:
            if done.exception() is not None:  # too little memory, say: it is still an answer as it is
                self._write(exchange, reply)
                return
            headers = (*reply.headers, (b"content-encoding", coding), (b"vary", b"accept-encoding"))
            self._write(exchange, replace(reply, body=done.result(), headers=headers))

        compressing = asyncio.get_running_loop().run_in_executor(None, compress, reply.body, coding)
        compressing.add_done_callback(compressed)

    def _write(self, exchange: Exchange, reply: Reply) -> None:
        turn = self._current
        if turn is None or turn.exchange is not exchange or self._transport.is_closing():
            return  # the connection was lost meanwhile
        close = self._closes_after(turn)
        heads, body, status = self._shared.heads, reply.body, reply.status
        if close or turn.old or reply.headers or exchange.known_id:
            more = [*reply.headers, *_headers_of(turn, close=close)]
            head = heads.with_headers(status, reply.content_type, more, len(body))
        else:
            head = heads.plain(status, reply.content_type, len(body))
        if status in NO_BODY or exchange.method == "HEAD":
            body = b""
        if len(body) <= _COPIED_BYTES:
            self._transport.write(head + body)
        else:
            self._transport.writelines((head, body))
        self._finish(turn, status, len(body), close=close)

    async def stream(self, exchange: Exchange, status: int, headers: Headers, content_type: bytes) -> BodyStream:
        """Begin an answer that is sent while it is made."""
        turn = self._current
        if turn is None or turn.exchange is not exchange:
            raise ConnectionError("the client has gone")
        turn.keep_alive = turn.keep_alive and not turn.old
        more = [*headers, *_headers_of(turn, close=not turn.keep_alive)]
        if not turn.old:
            more.append((b"transfer-encoding", b"chunked"))
        self._transport.write(self._shared.heads.with_headers(status, content_type, more, None))
        turn.status = status
        return BodyStream(self, turn)

    async def write_part(self, turn: Turn, part: bytes) -> None:
        """Send a part of an answer, once the client has taken most of what was sent before."""
        if self._current is not turn or self._transport.is_closing():
            raise ConnectionError("the client has gone")
        if turn.exchange.method == "HEAD":
            return
        self._transport.write(part if turn.old else b"%x\r\n%b\r\n" % (len(part), part))
        turn.num_sent_bytes += len(part)
        if self._write_paused:
            self._writable = asyncio.get_running_loop().create_future()
            await self._writable
        if self._current is not turn:
            raise ConnectionError("the client has gone")

    def end_stream(self, turn: Turn) -> None:
        """Say that an answer has been sent in full."""
        if self._current is turn and not self._transport.is_closing():
            if not turn.old and turn.exchange.method != "HEAD":
                self._transport.write(LAST_CHUNK)
            self._finish(turn, turn.status, turn.num_sent_bytes, close=self._closes_after(turn))

    def break_off(self, exchange: Exchange) -> None:
        """Break off an answer that has begun."""
        if self._current is not None and self._current.exchange is exchange:
            self._transport.abort()

    def _wake_stream(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)

    # ---------------------------------------------------------------------------------- what the sweep asks for

    def check(self, now: float) -> None:
        """Close what is idle, answer what is slow to ask, and break off what is slow to read."""
        unsent_bytes = self._transport.get_write_buffer_size()
        if unsent_bytes != self._unsent_bytes:
            self._unsent_bytes = unsent_bytes
            self._progress_at = now
        elif unsent_bytes and now - self._progress_at > self._shared.limits.write_timeout_s:
            self._transport.abort()
        if unsent_bytes or self._turns:
            self._reader.since = now  # what is not read because of that is not late
        else:
            self._check_reading(now - self._reader.since)

    def _check_reading(self, for_s: float) -> None:
        """See whether what is read takes too long."""
        limits, reading = self._shared.limits, self._reader.reading
        if reading is Reading.WASTE:
            if self._current is None and for_s > limits.linger_s:
                self._transport.abort()
        elif reading is Reading.NOTHING:
            if self._current is None and for_s > limits.idle_timeout_s:
                self._transport.close()
        elif reading is Reading.HEAD and for_s > limits.header_timeout_s:
            self._reader.refuse(_timed_out("head", limits.header_timeout_s))
        elif reading is Reading.BODY and for_s > limits.body_timeout_s:
            self._reader.refuse(_timed_out("body", limits.body_timeout_s))

    @property
    def is_answering(self) -> bool:
        """Whether a request has been taken that is not answered."""
        return self._current is not None or bool(self._turns)

    def close_if_idle(self) -> None:
        """Close the connection if it waits for its next request."""
        if not self.is_answering and self._reader.reading is Reading.NOTHING:
            self._transport.close()

    def give_up(self) -> None:
        """Answer what waits with the news that it is given up, and close."""
        fault = Fault(UNAVAILABLE, "the server is stopping and has given this up: ask again")
        self._reader.stop()
        turns, self._turns = self._turns, deque()
        if self._current is not None:
            self._current.keep_alive = False
            self._current.exchange.give_up(fault)
        for turn in turns:
            turn.exchange.leave()
        self._transport.close()

    def abort(self) -> None:
        """Close at once, whatever is unsent."""
        self._transport.abort()


class BodyStream:
    """The body of an answer that is sent while it is made.

    Args:
        connection: sends it.
        turn: whose answer it is.
    """

    def __init__(self, connection: Connection, turn: Turn) -> None:
        self._connection = connection
        self._turn = turn

    async def write(self, part: bytes) -> None:
        """Send a part, once the client has taken most of what was sent before.

        Raises:
            ConnectionError: the client has gone.
        """
        if part:
            await self._connection.write_part(self._turn, part)

    async def end(self) -> None:
        """Say that this was all."""
        self._turn.exchange.ended()
        self._connection.end_stream(self._turn)


def _headers_of(turn: Turn, *, close: bool) -> Headers:
    """Return the headers that every answer to a request has."""
    known_id = turn.exchange.known_id
    headers = [(b"x-request-id", known_id.encode())] if known_id else []
    if close:
        headers.append((b"connection", b"close"))
    elif turn.old:
        headers.append((b"connection", b"keep-alive"))
    return headers


def _timed_out(what: str, limit_s: float) -> Fault:
    message = f"the {what} of the request did not come within {limit_s:g} s: send it faster, or in smaller requests"
    return Fault(TIMED_OUT, message)
