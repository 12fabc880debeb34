"""Bytes into requests: one connection's parser, and what it refuses."""

from __future__ import annotations

import enum
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import httptools

from carpool.serve.faults import BAD_REQUEST, Fault
from carpool.serve.http.coding import is_coded
from carpool.serve.http.exchange import Channel, Exchange, Head, Reply
from carpool.serve.http.known import MOST_HEAD_BYTES, KnownHead, is_plain
from carpool.serve.http.limits import too_large

if TYPE_CHECKING:
    from carpool.serve.http.routing import Route
    from carpool.serve.http.shared import Shared

EXPECTATION_FAILED, HEADERS_TOO_LARGE, NOT_IMPLEMENTED = 417, 431, 501
_END_OF_HEAD = b"\r\n\r\n"
_QUIET_BYTES = 512 * 1024  # of trailers and chunk headers between two parts of a body


class Reading(enum.Enum):
    """What is read next."""

    NOTHING = "nothing of a request has come yet"
    HEAD = "the rest of a request's head"
    BODY = "the rest of its body"
    WASTE = "what is dropped: no more is answered on this connection"


class Turn:
    """A request of a connection, which is answered in its turn.

    Args:
        route: who answers.
        exchange: the request.
    """

    __slots__ = ("coding", "exchange", "keep_alive", "num_sent_bytes", "old", "route", "status")

    def __init__(self, route: Route, exchange: Exchange) -> None:
        self.route = route
        self.exchange = exchange
        self.coding = b""  # how the body must be inflated
        self.keep_alive = True  # whether the connection stays open after it
        self.old = False  # HTTP/1.0: knows no chunks, and must be told that the connection stays open
        self.status = 0  # of an answer that is sent while it is made
        self.num_sent_bytes = 0  # of such an answer


class Taker(Channel, Protocol):
    """Who takes the requests: the connection."""

    client: str

    def take(self, turn: Turn) -> None:
        """Have a whole request, or a refused one, answered in its turn."""

    def invite(self) -> None:
        """Tell the client that its body is waited for."""


class Reader:
    """Parses what a client sends; keeps the limits of heads and bodies.

    Args:
        shared: what all connections share.
        taker: takes the requests.
    """

    __slots__ = (
        "_body",
        "_body_bytes",
        "_head",
        "_head_bytes",
        "_headers",
        "_limit_bytes",
        "_num_headers",
        "_parser",
        "_quiet_bytes",
        "_raw_head",
        "_shared",
        "_taker",
        "_target",
        "reading",
        "since",
        "turn",
        "unread",
    )

    def __init__(self, shared: Shared, taker: Taker) -> None:
        self._shared = shared
        self._taker = taker
        self._parser = httptools.HttpRequestParser(self)
        self.reading = Reading.NOTHING
        self.since = shared.now  # when that began
        self.turn: Turn | None = None  # its head has come, its body not yet
        self.unread = False  # whether a refused request may have more to come
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._head_bytes = self._num_headers = self._body_bytes = self._limit_bytes = self._quiet_bytes = 0
        self._body: bytes | bytearray = b""
        self._head: Head  # of the request that is read
        self._raw_head = b""  # its bytes, where they are to be known from now on

    def feed(self, data: bytes) -> None:
        """Take what came: whole requests whose heads are known at once; whatever else there is, is parsed."""
        if self.reading is not Reading.NOTHING:
            self._read_on(data)
            return
        taker, start, end = self._taker, 0, len(data)
        while True:
            body_at = data.find(_END_OF_HEAD, start, start + MOST_HEAD_BYTES) + len(_END_OF_HEAD)
            known = self._shared.known_heads.find(data[start:body_at])
            if known is None or (stop := body_at + known.num_body_bytes) > end:
                break
            exchange = Exchange(taker, known.head, taker.client)
            exchange.tenant = known.tenant
            exchange.body = data[body_at:stop]
            self.since = self._shared.now
            taker.take(Turn(known.route, exchange))
            if stop == end or self.reading is not Reading.NOTHING:  # an answer may close the connection
                return
            start = stop
        if start:
            self._parse(data[start:])
            return
        self.reading = Reading.HEAD
        self.since = self._shared.now
        self._head_bytes = end
        is_new_head = known is None and body_at >= len(_END_OF_HEAD)
        self._parse(data, body_at if is_new_head else 0)

    def _read_on(self, data: bytes) -> None:
        """Take more of a request that is being read, or drop it."""
        if self.reading is Reading.HEAD:
            self._head_bytes += len(data)
        elif self.reading is Reading.BODY:
            self._quiet_bytes += len(data)
        else:
            return
        self._parse(data)

    def _parse(self, data: bytes, body_at: int = 0) -> None:
        """Have bytes parsed, of which those before a place may be a head that is to be known from now on."""
        parser = self._parser
        try:
            if body_at:
                # The last byte goes alone: if it is the one by which the parser has a head, the bytes are that head's.
                parser.feed_data(data[: body_at - 1])
                self._raw_head = data[:body_at] if self._head_bytes else b""
                parser.feed_data(data[body_at - 1 : body_at])
                if self._head_bytes:
                    self._raw_head = b""
            if body_at < len(data):
                parser.feed_data(data[body_at:] if body_at else data)
        except httptools.HttpParserUpgrade:
            self.stop()  # nothing else is spoken here: the request, if whole, is answered as if it had not asked
        except httptools.HttpParserError as error:
            self._misunderstood(error)
        if self.reading is Reading.HEAD and self._head_bytes > self._shared.limits.max_header_bytes:
            self.refuse(self._head_too_large())
        elif self.reading is Reading.BODY and self._quiet_bytes > _QUIET_BYTES:
            message = "there is too much between the parts of the body: send larger chunks, and short trailers"
            self.refuse(Fault(BAD_REQUEST, message))

    def stop(self) -> None:
        """Drop what comes from now on."""
        self.reading = Reading.WASTE
        self.since = self._shared.now

    def close(self) -> None:
        """Let go of the parser, which holds on to this object."""
        self.stop()
        del self._parser

    # -------------------------------------------------------------------------------------- what the parser says

    def on_message_begin(self) -> None:
        """Take note that a request has begun, which may be all that there is of it so far."""
        if self.reading is not Reading.WASTE:
            self.reading = Reading.HEAD

    def on_url(self, url: bytes) -> None:
        """Take the target of a request line, or a part of it."""
        if self.reading is not Reading.WASTE:
            self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; trailers are dropped."""
        if self.reading is Reading.HEAD:
            self._num_headers += 1
            name = name.lower()
            headers = self._headers
            headers[name] = value if name not in headers else headers[name] + b", " + value

    def on_headers_complete(self) -> None:
        """See who answers, and whether there are reasons to read no further."""
        if self.reading is Reading.WASTE:
            return
        turn = self._turn(self._parser.get_method().decode("latin-1"))
        headers = self._headers
        num_headers, num_bytes = self._num_headers, _size(turn.exchange.method, self._target, headers)
        self.turn, self._headers, self._target = turn, {}, b""
        self.reading = Reading.BODY
        self.since = self._shared.now
        self._body_bytes = self._quiet_bytes = 0
        self._limit_bytes = turn.route.max_body_bytes or self._shared.limits.max_body_bytes
        self._num_headers = self._head_bytes = 0
        try:
            self._check_head(headers, num_headers, num_bytes)
            turn.exchange.tenant = self._shared.access.tenant_of(headers, turn.route.audience)
        except Fault as fault:
            self.refuse(fault)
            return
        if b"expect" in headers:
            self._taker.invite()

    def _turn(self, method: str) -> Turn:
        match = self._shared.router.match(method, _origin_form(self._target))
        self._head = match.head(method, self._headers)
        return Turn(match.route, Exchange(self._taker, self._head, self._taker.client))

    def _check_head(self, headers: dict[bytes, bytes], num_headers: int, num_bytes: int) -> None:
        """Refuse what can be refused before the body has come."""
        limits = self._shared.limits
        if num_headers > limits.max_headers or num_bytes > limits.max_header_bytes:
            raise self._head_too_large()
        declared = headers.get(b"content-length")
        if declared is not None and int(declared) > self._limit_bytes:
            raise too_large(self._limit_bytes)
        host = headers.get(b"host")
        if (host is None and self._is_current) or (host is not None and b"," in host):
            raise Fault(BAD_REQUEST, "a request has one Host header: send one")
        if b"transfer-encoding" in headers:
            self._check_transfer(headers[b"transfer-encoding"])
        if b"expect" in headers and headers[b"expect"].lower() != b"100-continue":
            raise Fault(EXPECTATION_FAILED, "the only Expect that is met here is 100-continue: leave it out")

    def _check_transfer(self, coding: bytes) -> None:
        if not self._is_current:
            raise Fault(BAD_REQUEST, "only HTTP/1.1 has a Transfer-Encoding: send a Content-Length")
        if coding.lower() != b"chunked":
            raise Fault(NOT_IMPLEMENTED, "the Transfer-Encoding is none that is read here: use chunked alone")

    def _head_too_large(self) -> Fault:
        limits = self._shared.limits
        most = f"{limits.max_headers} headers and {limits.max_header_bytes:,} bytes"
        message = f"the request's head is too large: it may have up to {most}, of which its first line counts"
        return Fault(HEADERS_TOO_LARGE, message)

    @property
    def _is_current(self) -> bool:
        version: str = self._parser.get_http_version()
        return version == "1.1"

    def on_body(self, part: bytes) -> None:
        """Take a part of the body."""
        if self.reading is not Reading.BODY:
            return
        self._quiet_bytes = 0
        self._body_bytes += len(part)
        if self._body_bytes > self._limit_bytes:
            self.refuse(too_large(self._limit_bytes))
        elif not self._body:
            self._body = part
        else:
            body = self._body if isinstance(self._body, bytearray) else bytearray(self._body)
            body += part
            self._body = body

    def on_message_complete(self) -> None:
        """Hand over a whole request."""
        turn = self.turn
        if self.reading is Reading.WASTE or turn is None:
            self.unread = False  # a refused request has come to its end
            return
        exchange = turn.exchange
        exchange.body = self._body if isinstance(self._body, bytes) else bytes(self._body)
        self._body = b""
        self.turn = None
        self.reading = Reading.NOTHING
        self.since = self._shared.now
        coding = exchange.raw_header(b"content-encoding")
        if coding and is_coded(coding):
            turn.coding = coding
        turn.keep_alive = self._parser.should_keep_alive()
        if not turn.keep_alive:
            self.stop()
            turn.old = not self._is_current
        elif exchange.raw_header(b"connection"):
            turn.old = not self._is_current
        if self._raw_head:
            self._learn(turn)
        self._taker.take(turn)

    def _learn(self, turn: Turn) -> None:
        """Know the head of a request from now on, if there is nothing unusual about it."""
        raw, self._raw_head = self._raw_head, b""
        head, exchange = self._head, turn.exchange
        if turn.keep_alive and self._is_current and is_plain(head.method, head.headers):
            self._shared.known_heads.add(raw, KnownHead(turn.route, head, exchange.tenant, len(exchange.body)))

    # ------------------------------------------------------------------------------------------- what goes wrong

    def _misunderstood(self, error: Exception) -> None:
        if self.reading is Reading.WASTE:  # refused already, or it comes after the last request of the connection
            return
        if isinstance(error, httptools.HttpParserCallbackError):
            self._shared.log_failure(error)
        self.refuse(Fault(BAD_REQUEST, f"this is no request of HTTP/1.1 ({error}): send one that is"))

    def refuse(self, fault: Fault) -> None:
        """Have the request that is being read answered with a fault, in its turn, and read nothing more."""
        turn = self.turn or self._turn("GET")
        self.turn = None
        self._body = b""
        self.unread = True
        self.stop()

        def raise_fault(_exchange: Exchange) -> Reply:
            raise fault

        turn.route = replace(turn.route, endpoint=raise_fault)
        turn.keep_alive = False
        self._taker.take(turn)


def _size(method: str, target: bytes, headers: dict[bytes, bytes]) -> int:
    """Return how many bytes the first line of a request and its headers take, written the shortest way."""
    line = len(method) + len(target) + len("  HTTP/1.1\r\n")
    return line + sum(map(len, headers)) + sum(map(len, headers.values())) + len(": \r\n") * len(headers)


def _origin_form(target: bytes) -> bytes:
    """Return the path and query of a target, which a client may have sent with the server's address before it."""
    if target.startswith(b"/"):
        return target
    _, found, rest = target.partition(b"://")
    _, slash, path = rest.partition(b"/")
    return slash + path if found and slash else b"/" if found else b"/" + target
