"""Watching over requests: each is counted, logged and traced once, however it ends."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from carpool.serve.access import Access
from carpool.serve.faults import bad_request
from carpool.serve.http.exchange import Exchange, Reply
from carpool.serve.http.limits import Limits
from carpool.serve.http.listener import Listener
from carpool.serve.http.routing import Route, Router
from carpool.serve.logs import logging_to
from carpool.serve.watch import RequestWatch
from carpool.signals.tracing import Traces

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from carpool.serve.faults import Fault

PATTERN = "/say/{what}"


def say(exchange: Exchange) -> Reply:
    """Answer with a word of the path, or refuse it."""
    if exchange.params["what"] == "nothing":
        raise bad_request("say something")
    return Reply(exchange.params["what"].encode())


def write_error(fault: Fault) -> Reply:
    """Write a fault as it is."""
    return Reply(str(fault).encode(), fault.status)


@asynccontextmanager
async def watched(watch: RequestWatch, *routes: Route) -> AsyncIterator[tuple[str, int]]:
    """A server whose requests are watched; gives its address."""
    listener = Listener(
        Router([*routes, Route("GET", PATTERN, say, write_error)]), limits=Limits(), access=Access(), watcher=watch
    )
    with socket.create_server(("127.0.0.1", 0)) as listening:
        await listener.start(listening)
        yield listening.getsockname()
        await listener.drain(1.0)


async def ask(address: tuple[str, int], path: str, *headers: str) -> bytes:
    """Send one request, and read until the server closes."""
    reader, writer = await asyncio.open_connection(*address)
    lines = [f"GET {path} HTTP/1.1", "host: here", "connection: close", *headers]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    answer = await reader.read()
    writer.close()
    return answer


async def test_requests_are_counted_by_what_they_were_answered() -> None:
    """By method, pattern and status; a path's own words would be without end."""
    watch = RequestWatch()
    async with watched(watch) as address:
        for word in ("hello", "there", "nothing"):
            await ask(address, f"/say/{word}")
        await ask(address, "/nowhere")
        _, writer = await asyncio.open_connection(*address)
        await ask(address, "/say/hello")
        assert watch.num_connections == 1
        writer.close()
    assert watch.num_answered == {("GET", PATTERN, 200): 3, ("GET", PATTERN, 400): 1, ("GET", "", 404): 1}
    assert watch.num_connections == 0


async def test_a_request_is_a_line_of_the_log_with_its_id(tmp_path: Path) -> None:
    """The id is the client's own, or ours where it gave none; the answer says it too."""
    path = tmp_path / "serve.log"
    with logging_to(path, form="json", access=True):
        async with watched(RequestWatch(access=True)) as address:
            assert b"x-request-id: mine\r\n" in await ask(address, "/say/hello", "X-Request-Id: mine")
            assert b"x-request-id: " in await ask(address, "/say/nothing")
    first, second = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    assert (first["path"], first["status"], first["request_id"], first["num_bytes"]) == ("/say/hello", 200, "mine", 5)
    assert (second["status"], second["client"]) == (400, "127.0.0.1")
    assert second["request_id"]
    assert first["duration_ms"] >= 0


async def test_a_client_that_leaves_is_told_apart(tmp_path: Path) -> None:
    """Status 499: nobody was there to be answered."""
    waits = asyncio.Event()

    async def never(_exchange: Exchange) -> Reply:
        waits.set()
        never_done: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        return await never_done

    watch = RequestWatch()
    async with watched(watch, Route("GET", "/never", never, write_error)) as address:
        _, writer = await asyncio.open_connection(*address)
        writer.write(b"GET /never HTTP/1.1\r\nhost: here\r\n\r\n")
        await waits.wait()
        writer.transport.abort()
    assert watch.num_answered == {("GET", "/never", 499): 1}


async def test_a_request_is_a_span_in_the_trace_of_its_client() -> None:
    """Named by its route, and ended with its status."""
    spans = InMemorySpanExporter()
    traces = Traces(SimpleSpanProcessor(spans))
    async with watched(RequestWatch(traces=traces)) as address:
        parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        await ask(address, "/say/hello", f"traceparent: {parent}", "X-Request-Id: mine")
    traces.close()
    (span,) = spans.get_finished_spans()
    assert span.name == f"GET {PATTERN}"
    assert span.attributes == {"carpool.request.id": "mine", "http.response.status_code": 200}
    assert span.parent is not None
    assert span.parent.span_id == 0xB7AD6B7169203331
