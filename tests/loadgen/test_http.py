"""Load over real connections on loopback, against servers that behave badly."""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import socket
import ssl
from types import SimpleNamespace
from typing import TYPE_CHECKING

import aiohttp
import numpy as np
import pytest
from aiohttp import web

from carpool.errors import ConfigError, ConnectionFailed
from carpool.loadgen.clock import run_in_loop
from carpool.loadgen.http import JSON_HEADERS, HttpSender, Requests, explain, open_session
from carpool.loadgen.records import OK, TIMEOUT, Reply
from carpool.loadgen.run import ClosedLoad, Load, run_closed, run_load
from carpool.plan.arrivals import constant
from tests.loadgen.web import raw_serving, serving

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from carpool.loadgen.records import LoadResult

BODY = b'{"input": "a text"}'


def unused_port() -> int:
    """A loopback port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def load(
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]],
    *,
    num: int = 4,
    timeout_s: float = 5.0,
    first_timeout_s: float | None = None,
) -> LoadResult:
    """Send a few requests to a server."""
    async with serving(answer) as url:
        requests, arrivals = Requests(f"{url}/x", [BODY]), constant(num * 100, 0.01)
        return await run_load(
            Load(
                requests=requests,
                arrivals=arrivals,
                duration_s=0.01,
                timeout_s=timeout_s,
                first_timeout_s=first_timeout_s,
            )
        )


async def send_once(url: str) -> Reply:
    """Send one request."""
    async with open_session(JSON_HEADERS) as session:
        return await HttpSender(session, Requests(url, [BODY])).send(0)


@pytest.mark.parametrize(
    ("cause", "reason"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed"), os.strerror(errno.ECONNREFUSED)),
        (OSError("Multiple exceptions: this, that"), "Multiple exceptions: this, that"),
        (ConnectionResetError(), "ConnectionResetError"),
        # Resolvers and TLS number their errors anew: 8 is no "Exec format error", 1 no "Operation not permitted".
        (socket.gaierror(8, "nodename nor servname provided, or not known"), "nodename nor servname provided"),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number"), "[SSL: WRONG_VERSION_NUMBER] wrong"),
    ],
)
def test_a_failed_connection_is_told_by_host_port_and_reason(cause: OSError, reason: str) -> None:
    """In place of the library's own words, which speak of `ssl:default` where there is no TLS."""
    key = SimpleNamespace(host="gpu7", port=8000, ssl=True)
    said = explain(aiohttp.ClientConnectorError(key, cause))  # type: ignore[arg-type]
    assert said.startswith(f"no connection to gpu7 port 8000 ({reason}")


async def test_https_to_a_server_of_http_is_told_as_such() -> None:
    """The handshake fails, which is neither a refusal nor a reset."""

    async def never(_request: web.Request) -> web.StreamResponse:
        raise AssertionError

    async with serving(never) as url:
        reply = await send_once(url.replace("http:", "https:"))
    assert reply.outcome == "tls"
    assert reply.detail.startswith("no connection to 127.0.0.1 port ")


async def test_bodies_and_headers_arrive_as_they_are() -> None:
    """The server sees the bytes that were prepared, in turn, as JSON, over one kept connection."""
    seen: list[tuple[bytes, str, object]] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        seen.append((await request.read(), request.content_type, request.transport))
        return web.Response(body=b"12345")

    async with serving(answer) as url:
        requests = Requests(f"{url}/x", [b"[1]", b"[2]"], {**JSON_HEADERS, "X-Key": "secret"})
        result = await run_closed(
            ClosedLoad(requests=requests, connections=1, duration_s=5.0, num_requests=4, timeout_s=5.0)
        )
    assert [body for body, _, _ in seen] == [b"[1]", b"[1]", b"[2]", b"[1]", b"[2]"]  # the first is the probe
    assert {kind for _, kind, _ in seen} == {"application/json"}
    assert len({id(connection) for _, _, connection in seen}) == 1
    assert result.ok.all()
    assert result.num_bytes.tolist() == [5] * 4


async def test_a_full_server_is_counted_with_its_own_words() -> None:
    """429 with Retry-After is a failure of its own kind, explained."""
    count = itertools.count()

    async def answer(_request: web.Request) -> web.StreamResponse:
        if next(count) % 2 == 0:
            return web.Response(body=b"fine")
        return web.json_response({"error": "queue is full"}, status=429, headers={"Retry-After": "2"})

    result = await load(answer)
    assert sorted(result.outcome) == ["http 429", "http 429", OK, OK]
    assert result.details["http 429"] == 'Retry-After: 2; {"error": "queue is full"}'


async def test_a_server_that_hangs_after_a_while_gives_timeouts() -> None:
    """Requests without an answer end at the limit."""
    count = itertools.count()

    async def answer(_request: web.Request) -> web.StreamResponse:
        if next(count) > 2:
            await asyncio.sleep(60)
        return web.Response(body=b"fine")

    result = await load(answer, timeout_s=0.2)
    assert sorted(result.outcome) == [OK, OK, TIMEOUT, TIMEOUT]


async def test_a_server_that_drops_connections_is_counted() -> None:
    """A connection that ends before the answer is a failure of its own kind."""
    count = itertools.count()

    async def answer(request: web.Request) -> web.StreamResponse:
        if next(count) and request.transport is not None:
            request.transport.abort()
        return web.Response(body=b"fine")

    result = await load(answer)
    assert set(result.outcome) <= {"closed before answering", "connection reset"}
    assert not result.ok.any()


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (b"", "closed before answering"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", "closed mid-answer"),
        (b"220 mail.example ESMTP\r\n", "not HTTP"),
    ],
    ids=["nothing", "half", "another protocol"],
)
async def test_every_way_to_break_an_answer_has_a_name(answer: bytes, outcome: str) -> None:
    """Servers that break off or speak another protocol are told apart."""
    async with raw_serving(answer) as url:
        assert (await send_once(url)).outcome == outcome


async def test_a_server_that_is_not_there_fails_at_once() -> None:
    """The first request names the URL and the remedy, and no load is sent."""
    url = f"http://127.0.0.1:{unused_port()}/v1/embeddings"
    requests = Requests(url, [BODY])
    with pytest.raises(
        ConnectionFailed, match=rf"the first request to {url} failed \(not connected\).*see that the server"
    ):
        await run_load(Load(requests=requests, arrivals=constant(1, 100), duration_s=100))


async def test_a_wrong_path_fails_at_once_with_the_servers_words() -> None:
    """A first answer other than success ends the run before it starts."""

    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=404, text="no such model")

    with pytest.raises(ConnectionFailed, match="answered with http 404: no such model"):
        await load(answer)


async def test_a_server_that_never_answers_the_first_request_is_named() -> None:
    """A hung server is found by the first request's timeout."""

    async def answer(_request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(60)
        return web.Response()

    with pytest.raises(ConnectionFailed, match=r"had no answer within 0\.05 s"):
        await load(answer, timeout_s=0.05)


async def test_a_first_answer_may_be_late_where_that_is_allowed() -> None:
    """A server that has just started on a busy machine is no reason to give up; the load keeps its own timeout."""
    calls = itertools.count()

    async def answer(_request: web.Request) -> web.StreamResponse:
        if next(calls) == 0:
            await asyncio.sleep(0.3)
        return web.Response()

    assert len((await load(answer, timeout_s=0.2, first_timeout_s=30.0)).ok) == 4


@pytest.mark.parametrize("url", ["", "127.0.0.1:8000", "ftp://host/x", "http://", "http://host:99999/", "http://[::1"])
def test_a_url_that_can_not_be_called_is_refused(url: str) -> None:
    """Only http and https URLs with a host are called."""
    with pytest.raises(ConfigError, match="is not a URL that can be called: write one such as"):
        Requests(url, [BODY])


def test_no_bodies_and_no_arrivals_are_refused() -> None:
    """There must be something to send, and a time to send it."""
    with pytest.raises(ConfigError, match="there are 0 bodies to send"):
        Requests("http://host/x", [])
    with pytest.raises(ConfigError, match="0 requests arrive in 5 s: raise the rate or the duration"):
        Load(requests=Requests("http://host/x", [BODY]), arrivals=np.array([]), duration_s=5)


def test_the_fine_loop_serves_sockets_and_timers() -> None:
    """The loop with fine timers runs everything else as asyncio's own does."""

    async def work() -> tuple[str, str]:
        async def answer(_request: web.Request) -> web.StreamResponse:
            return web.Response(body=b"fine")

        async with serving(answer) as url:
            reply = await send_once(url)
        return reply.outcome, await asyncio.wait_for(asyncio.sleep(0.0005, "woke"), 1)

    assert run_in_loop(work()) == (OK, "woke")
