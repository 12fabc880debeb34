"""A small server on loopback whose answers a test chooses."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

METADATA = {"name": "echo", "inputs": [{"name": "text", "datatype": "BYTES", "shape": [-1]}]}


@asynccontextmanager
async def serving(answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    """Serve one answer to everything on a free loopback port; gives the base URL."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.01, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def raw_serving(answer: bytes) -> AsyncIterator[str]:
    """Serve fixed bytes to whatever comes, then close the connection; gives the base URL."""

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(speak, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()[:2]
        yield f"http://{host}:{port}"


async def both_protocols(request: web.Request) -> web.StreamResponse:
    """Answer as a server of one model, over both APIs."""
    match request.path:
        case "/v1/models":
            return web.json_response({"data": [{"id": "echo"}]})
        case "/v2/models/echo":
            return web.json_response(METADATA)
        case "/v2/models/echo/infer":
            return web.json_response({"outputs": (await request.json())["inputs"]})
        case "/v1/embeddings":
            return web.json_response({"data": [{"embedding": [1.0]}]})
    return web.json_response({"error": f"nothing at {request.path}"}, status=404)
