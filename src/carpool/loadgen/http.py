"""Requests over HTTP: connections kept alive, bodies built beforehand, every way to fail told apart."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from urllib.parse import urlsplit

import aiohttp

from carpool.errors import ConfigError, ConnectionFailed
from carpool.loadgen.records import OK, Reply

JSON_HEADERS: Mapping[str, str] = MappingProxyType({"Content-Type": "application/json"})

# Servers close an idle connection after a while (uvicorn: 5 s). Letting go before them avoids a request that meets the
# closing, which would be counted against the server.
KEEP_ALIVE_S = 4.0
LONGEST_DETAIL = 200


@dataclass(frozen=True, slots=True)
class Requests:
    """What is sent, over and over: bodies by POST to one URL.

    Args:
        url: Where.
        bodies: Bytes of each; request i takes body i modulo their number.
        headers: Sent with each.
        trusted: Whom to trust over TLS; None for those that the machine does.
    """

    url: str
    bodies: Sequence[bytes] = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=lambda: JSON_HEADERS)
    trusted: ssl.SSLContext | None = None

    def __post_init__(self) -> None:
        check_url(self.url)
        if not self.bodies:
            raise ConfigError(f"there are 0 bodies to send to {self.url}: give at least 1")


def check_url(url: str) -> None:
    """Check that a URL can be called.

    Raises:
        ConfigError: It is not http(s)://host[:port].
    """
    try:
        parts = urlsplit(url)
        named = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        named = False
    if not named:
        raise ConfigError(f"{url!r} is not a URL that can be called: write one such as http://127.0.0.1:8000")


class HttpSender:
    """Sends bodies with aiohttp.

    Args:
        session: Open, without limits or timeouts of its own.
        requests: What to send.
    """

    __slots__ = ("_num", "_requests", "_session")

    def __init__(self, session: aiohttp.ClientSession, requests: Requests) -> None:
        self._session = session
        self._requests = requests
        self._num = len(requests.bodies)

    async def send(self, index: int) -> Reply:
        """Send one request and read its whole answer."""
        requests = self._requests
        try:
            async with self._session.post(requests.url, data=requests.bodies[index % self._num]) as response:
                body = await response.read()
        except (aiohttp.ClientError, OSError) as error:
            return _failure(error)
        if 200 <= response.status < 300:  # noqa: PLR2004 (the class of successes)
            return Reply(OK, response.status, len(body))
        return Reply(f"http {response.status}", response.status, len(body), _explain(response, body))


@asynccontextmanager
async def open_session(
    headers: Mapping[str, str], trusted: ssl.SSLContext | None = None
) -> AsyncIterator[aiohttp.ClientSession]:
    """Open connections that are limited in nothing: the loops hold the limits, where they can be counted."""
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S, ssl=trusted or True)
    async with aiohttp.ClientSession(
        connector=connector,
        headers=headers,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
        auto_decompress=False,
        raise_for_status=False,
    ) as session:
        yield session


def explain(error: aiohttp.ClientError | OSError) -> str:
    """Say what went wrong on the way to a server: with host, port and the system's reason where there was no way."""
    if not isinstance(error, aiohttp.ClientConnectorError):
        return str(error) or type(error).__name__
    return f"no connection to {error.host} port {error.port} ({_reason(error)})"


def _reason(error: aiohttp.ClientConnectorError) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"{error.certificate_error}; give the certificate that vouches for it, in PEM, by --ca FILE"
    cause = error.os_error
    if isinstance(cause, socket.gaierror | ssl.SSLError) or not cause.errno:
        return cause.strerror or str(cause) or type(cause).__name__  # the numbers of these are not the system's
    return os.strerror(cause.errno)


def _failure(error: aiohttp.ClientError | OSError) -> Reply:
    """Name the way in which a connection failed."""
    detail = explain(error)
    kinds: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str], ...] = (
        ((aiohttp.ClientSSLError, ssl.SSLError), "tls"),
        (aiohttp.ClientConnectorError, "not connected"),
        (aiohttp.ServerDisconnectedError, "closed before answering"),
        (aiohttp.ClientPayloadError, "closed mid-answer"),
        (aiohttp.ClientResponseError, "not HTTP"),
        ((aiohttp.ClientOSError, OSError), "connection reset"),
    )
    kind = next((name for types, name in kinds if isinstance(error, types)), type(error).__name__)
    return Reply(kind, detail=detail[:LONGEST_DETAIL])


def _explain(response: aiohttp.ClientResponse, body: bytes) -> str:
    """Give a refusal in the server's own words."""
    words = " ".join(body[: 4 * LONGEST_DETAIL].decode(errors="replace").split())[:LONGEST_DETAIL]
    after = response.headers.get("Retry-After")
    asked = f"Retry-After: {after[:40]}" if after else ""
    return "; ".join(part for part in (asked, words) if part) or (response.reason or "no body")


async def probe(sender: HttpSender, url: str) -> Reply:
    """Send one request before the load, so that a server that can't answer is found at once.

    Raises:
        ConnectionFailed: It failed; the message names the URL, what came back and the remedy.
    """
    reply = await sender.send(0)
    if reply.outcome == OK:
        return reply
    if reply.status:
        raise ConnectionFailed(
            f"the first request to {url} was answered with {reply.outcome}: {reply.detail}. "
            "No load was sent; see that the server is ready, and that URL and body fit it (--model, --api, --data)"
        )
    raise ConnectionFailed(
        f"the first request to {url} failed ({reply.outcome}): {reply.detail}. "
        "No load was sent; see that the server runs there and takes HTTP, for example with curl"
    )
