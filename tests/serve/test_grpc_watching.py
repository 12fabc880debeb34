"""gRPC calls are watched as requests are: counted, logged with their ids, traced from their clients."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from carpool.serve.access import Access
from carpool.serve.grpc.messages import ModelMetadataRequest, ServerLiveRequest
from carpool.serve.grpc.server import GrpcServer
from carpool.serve.logs import logging_to
from carpool.serve.offer import Offer
from carpool.serve.watch import RequestWatch
from carpool.signals.tracing import Traces
from tests.serve.fakes import Doubler, offer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

SERVICE = "/inference.GRPCInferenceService"
LIVE, METADATA, STREAM = (f"{SERVICE}/{name}" for name in ("ServerLive", "ModelMetadata", "ModelStreamInfer"))


@asynccontextmanager
async def watched(watch: RequestWatch) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to a server whose calls are watched."""
    taken = socket.create_server(("127.0.0.1", 0))
    server = GrpcServer(taken, Offer.of(offer(Doubler())), Access(), max_message_bytes=1024, max_calls=8, watch=watch)
    await server.start()
    async with grpc.aio.insecure_channel(server.address) as channel:
        yield channel
    await server.drain(5.0)


async def call(channel: grpc.aio.Channel, name: str, message: Any, **metadata: str) -> None:
    """Call once."""
    ask: Any = channel.unary_unary(name)
    await ask(message.SerializeToString(), metadata=tuple((key.replace("_", "-"), metadata[key]) for key in metadata))


async def test_calls_are_counted_by_how_they_ended() -> None:
    """By method and gRPC's code; a stream counts once."""
    watch = RequestWatch()
    async with watched(watch) as channel:
        await call(channel, LIVE, ServerLiveRequest())
        with pytest.raises(grpc.aio.AioRpcError):
            await call(channel, METADATA, ModelMetadataRequest(name="nobody"))
        stream: Any = channel.stream_stream(STREAM)()
        await stream.write(b"")
        await stream.read()
        await stream.done_writing()
        assert await stream.read() is grpc.aio.EOF
    codes = {name.rpartition("/")[2]: code for name, code in watch.num_called}
    assert set(codes) == {"ServerLive", "ModelMetadata", "ModelStreamInfer"}
    assert codes["ServerLive"] == codes["ModelStreamInfer"] == 0
    assert sum(watch.num_called.values()) == 3


async def test_a_call_is_a_line_of_the_log_with_its_id(tmp_path: Path) -> None:
    """What the client calls it, as with HTTP."""
    path = tmp_path / "serve.log"
    with logging_to(path, form="json", access=True):
        async with watched(RequestWatch(access=True)) as channel:
            await call(channel, LIVE, ServerLiveRequest(), x_request_id="mine")
    (line,) = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    assert (line["method"], line["path"], line["status"], line["request_id"]) == ("gRPC", LIVE, 0, "mine")
    assert line["client"].startswith("ipv4:127.0.0.1:")


async def test_a_call_is_a_span_in_the_trace_of_its_client() -> None:
    """Named by its method, and ended with its code."""
    spans = InMemorySpanExporter()
    traces = Traces(SimpleSpanProcessor(spans))
    async with watched(RequestWatch(traces=traces)) as channel:
        parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        await call(channel, LIVE, ServerLiveRequest(), traceparent=parent, x_request_id="mine")
        await asyncio.sleep(0)
    traces.close()
    (span,) = spans.get_finished_spans()
    assert span.name == LIVE
    assert span.attributes == {"carpool.request.id": "mine", "rpc.grpc.status_code": 0}
    assert span.parent is not None
    assert span.parent.span_id == 0xB7AD6B7169203331
