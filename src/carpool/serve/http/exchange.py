"""One HTTP request and its answer, as an endpoint sees them, whatever carries them."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from itertools import count
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from carpool.errors import CarpoolError
from carpool.serve.faults import FAILED, Fault, to_fault

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    Headers = Sequence[tuple[bytes, bytes]]

OK = 200
JSON = b"application/json"
_SANE_ID = re.compile(rb"[\x21-\x7e]{1,128}")
_logger = logging.getLogger("carpool.serve")


def request_ids() -> Iterator[str]:
    """Yield names for requests whose clients gave none: unique within a server, and most likely beyond it."""
    server = token_hex(6)
    return (f"{server}-{number:x}" for number in count(1))


class Reply(msgspec.Struct, frozen=True):  # one is made a request, which a frozen dataclass makes dear
    """A whole answer.

    Args:
        body: the whole of it.
        status: the HTTP status.
        headers: besides the content's type and length, in lower case.
        content_type: what the body is.
    """

    body: bytes
    status: int = OK
    headers: Headers = ()
    content_type: bytes = JSON


class Head(msgspec.Struct, frozen=True):
    """What the head of a request says: the same for all requests whose heads are of the same bytes.

    Args:
        method: such as `POST`.
        path: decoded, without the query.
        query: as it came, without the question mark.
        params: what the route's pattern found in the path, decoded.
        headers: by their names in lower case.
        write_error: writes a fault in the way of the protocol that the path belongs to.
        given_id: the client's own X-Request-Id, if it is fit to be written into a header and a log; else empty.
    """

    method: str
    path: str
    query: str
    params: dict[str, str]
    headers: Mapping[bytes, bytes]
    write_error: Callable[[Fault], Reply]
    given_id: str


def given_id(headers: Mapping[bytes, bytes]) -> str:
    """Return a client's own X-Request-Id, if it is fit to be written into a header and a log; else empty.

    Args:
        headers: by their names in lower case.
    """
    given = headers.get(b"x-request-id")
    return given.decode("ascii") if given and _SANE_ID.fullmatch(given) else ""


class Stream(Protocol):
    """An answer that is sent while it is made."""

    async def write(self, part: bytes) -> None:
        """Send a part, once the client has taken most of what was sent before.

        Raises:
            ConnectionError: the client has gone.
        """

    async def end(self) -> None:
        """Say that this was all."""


class Channel(Protocol):
    """What carries an exchange: a connection, or another server that calls us."""

    @property
    def draining(self) -> bool:
        """Whether the server has been asked to stop."""

    def new_id(self) -> str:
        """Make a name for a request."""

    def send(self, exchange: Exchange, reply: Reply) -> None:
        """Send the whole answer; the client is there, and has not been answered."""

    async def stream(self, exchange: Exchange, status: int, headers: Headers, content_type: bytes) -> Stream:
        """Begin an answer that is sent while it is made."""

    def break_off(self, exchange: Exchange) -> None:
        """Break off an answer that has begun, so that the client does not take it for the whole."""


class Exchange:
    """A whole request, and the one answer to it; lives on one event loop.

    Args:
        channel: what carries it.
        head: what its head says.
        client: the address of the other side.
    """

    __slots__ = (
        "_answered",
        "_channel",
        "_headers",
        "_on_gone",
        "_unended",
        "_write_error",
        "body",
        "client",
        "gone",
        "known_id",
        "method",
        "params",
        "path",
        "query",
        "tenant",
        "watched",
    )

    def __init__(self, channel: Channel, head: Head, client: str) -> None:
        self.method = head.method
        self.path = head.path
        self.query = head.query
        self.params = head.params
        self.known_id = head.given_id  # what it is called, where the client said so or somebody has asked; else empty
        self.client = client
        self.body = b""
        self.tenant = ""
        self.gone = False
        self.watched: Any = None  # what whoever watches over requests keeps of this one
        self._channel = channel
        self._headers = head.headers
        self._write_error = head.write_error
        self._answered = False
        self._unended = False  # a stream has begun, and not ended
        self._on_gone: list[Callable[[], object]] | None = None

    def header(self, name: bytes) -> str:
        """Return a header; empty where it is not there.

        Args:
            name: in lower case.
        """
        return self._headers.get(name, b"").decode("latin-1")

    def raw_header(self, name: bytes) -> bytes:
        """Return a header as it came; empty where it is not there.

        Args:
            name: in lower case.
        """
        return self._headers.get(name, b"")

    def headers(self) -> Iterable[tuple[bytes, bytes]]:
        """Return all headers, their names in lower case."""
        return self._headers.items()

    @property
    def who(self) -> str:
        """Who asks, for those who read of it later: the tenant, or the client's address."""
        return self.tenant or self.client

    @property
    def id(self) -> str:
        """What the request is called in logs, traces and the answer: by the client's X-Request-Id, or by us."""
        if not self.known_id:
            self.known_id = self._channel.new_id()
        return self.known_id

    @property
    def draining(self) -> bool:
        """Whether the server has been asked to stop."""
        return self._channel.draining

    @property
    def waits(self) -> bool:
        """Whether a client is there that has not got the whole answer."""
        return not self.gone and (self._unended or not self._answered)

    # ----------------------------------------------------------------------------------------------- answers

    def respond(self, reply: Reply) -> None:
        """Answer, on the loop; does nothing where the client is gone or has been answered."""
        if not self._answered and not self.gone:
            self._answered = True
            self._on_gone = None
            self._channel.send(self, reply)

    def fail(self, error: BaseException) -> None:
        """Answer with why there is no answer; an answer that has begun is broken off.

        Args:
            error: a `CarpoolError`, which the client is told, or a fault of ours, which is logged.
        """
        reply = self._telling(error)
        if self._unended:
            self._unended = False
            self._channel.break_off(self)
        else:
            self.respond(reply)

    def _telling(self, error: BaseException) -> Reply:
        """Return an answer that tells of an error; there is always one, whatever the error holds."""
        try:
            return self._write_error(to_fault(error) if isinstance(error, CarpoolError) else self._logged(error))
        except Exception:
            _logger.exception("unexpected failure, a fault in carpool, in writing an error (request %s)", self.id)
            return Reply(b'{"error":"the server failed unexpectedly: its log says how"}', FAILED)

    def _logged(self, error: BaseException) -> Fault:
        _logger.error(
            "unexpected failure, a fault in carpool, at %s %s (request %s)",
            self.method,
            self.path,
            self.id,
            exc_info=error,
        )
        return Fault(FAILED, f"the server failed unexpectedly: its log says how, at request {self.id}")

    def answer_with(self, write: Callable[[list[Any]], Reply]) -> Callable[[list[Any] | CarpoolError], None]:
        """Return what to give to `Served.submit` as `done`: it answers with what `write` makes of the results.

        Args:
            write: turns one result a row into a reply; may raise.
        """

        def done(outcome: list[Any] | CarpoolError) -> None:
            if isinstance(outcome, CarpoolError):
                self.fail(outcome)
                return
            try:
                reply = write(outcome)
            except Exception as error:  # noqa: BLE001 - whatever it is, the client gets an answer
                self.fail(error)
            else:
                self.respond(reply)

        return done

    async def stream(self, status: int, headers: Headers, content_type: bytes) -> Stream:
        """Begin an answer that is sent while it is made.

        Args:
            status: the HTTP status.
            headers: besides the content's type, in lower case.
            content_type: what the body is.

        Raises:
            ConnectionError: the client has gone.
        """
        if self.gone or self._answered:
            raise ConnectionError("nobody waits for this answer")
        self._answered = self._unended = True
        return await self._channel.stream(self, status, headers, content_type)

    def ended(self) -> None:
        """Take note that a stream has come to its end; for the channel."""
        self._unended = False
        self._on_gone = None

    # -------------------------------------------------------------------------------------- who waits for it

    def on_gone(self, callback: Callable[[], object]) -> None:
        """Have a function called on the loop if nobody waits for the answer any more, before it is given.

        Args:
            callback: at once where that is so already; must not raise.
        """
        if self.gone:
            callback()
        elif not self._answered or self._unended:
            self._on_gone = [*(self._on_gone or ()), callback]

    def leave(self) -> None:
        """Take note that the client has gone; for the channel."""
        self.gone = True
        self._tell_gone()

    def give_up(self, fault: Fault) -> None:
        """Answer with a fault, and stop what is being done for it; for the channel."""
        callbacks = self._on_gone
        self.fail(fault)
        self._on_gone = callbacks
        self._tell_gone()

    def _tell_gone(self) -> None:
        callbacks, self._on_gone = self._on_gone, None
        for callback in callbacks or ():
            callback()
