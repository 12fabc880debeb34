"""A gRPC server in this process and on this loop, and a client that speaks to it in bare messages."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import grpc.aio
import numpy as np

from carpool.serve.access import Access
from carpool.serve.grpc.messages import ModelInferRequest, ModelInferResponse, ModelStreamInferResponse
from carpool.serve.grpc.server import GrpcServer
from carpool.serve.offer import Offer
from carpool.serve.served import Served
from tests.serve.fakes import offer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from google.protobuf.message import Message

    from carpool.serve.control import Control
    from carpool.serve.grpc.server import Certificate
    from tests.serve.fakes import Doubler

SERVICE = "/inference.GRPCInferenceService"
M = TypeVar("M", bound="Message")


@dataclass(frozen=True, slots=True)
class Caller:
    """Calls a server.

    Args:
        served: the model that it has.
        address: its own.
        channel: a connection to it.
        server: itself.
    """

    served: Served
    address: str
    channel: grpc.aio.Channel
    server: GrpcServer

    async def call(self, name: str, request: Message | bytes, response: type[M], **options: Any) -> M:
        """Call once; a refusal is raised as gRPC has it."""
        data = request if isinstance(request, bytes) else request.SerializeToString()
        ask: Any = self.channel.unary_unary(f"{SERVICE}/{name}")
        return response.FromString(await ask(data, **options))

    async def infer(self, request: Message | bytes, **options: Any) -> ModelInferResponse:
        """Ask for inference."""
        return await self.call("ModelInfer", request, ModelInferResponse, **options)

    def stream(self, **options: Any) -> grpc.aio.StreamStreamCall[bytes, bytes]:
        """Begin a stream."""
        return self.channel.stream_stream(f"{SERVICE}/ModelStreamInfer")(**options)


def hold(model: Doubler) -> None:
    """Hold back what a model runs from now on, and forget what warmed it up."""
    model.gate.clear()
    model.seen.clear()
    while model.entered.acquire(blocking=False):
        pass


async def until(condition: Callable[[], object]) -> None:
    """Wait until something is so, which it will be at once or never."""
    for _ in range(10_000):
        if condition():
            return
        await asyncio.sleep(0.001)
    message = "it never came to be so"
    raise AssertionError(message)


async def refusal(call: Any) -> grpc.aio.AioRpcError:
    """Return why a call was not answered."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error
    message = "the call was answered"
    raise AssertionError(message)


async def one_answer(stream: grpc.aio.StreamStreamCall[bytes, bytes]) -> ModelStreamInferResponse:
    """Read one answer from a stream."""
    data = await stream.read()
    assert isinstance(data, bytes), "the stream has ended"
    return ModelStreamInferResponse.FromString(data)


def rows(values: Sequence[Sequence[float]], *, model: str = "m", **more: Any) -> ModelInferRequest:
    """Write a request of rows of floats, sent raw."""
    array = np.array(values, np.float32)
    request = ModelInferRequest(model_name=model, raw_input_contents=[array.tobytes()], **more)
    request.inputs.add(name="input", datatype="FP32", shape=array.shape)
    return request


def floats(response: ModelInferResponse) -> list[list[float]]:
    """Read the only output of an answer, which was sent raw."""
    (output,) = response.outputs
    read: list[list[float]] = np.frombuffer(response.raw_output_contents[0], "<f4").reshape(*output.shape).tolist()
    return read


@asynccontextmanager
async def grpc_serving(
    model: object,
    *,
    access: Access | None = None,
    control: Control | None = None,
    certificate: Certificate | None = None,
    max_message_bytes: int = 1 << 20,
    max_calls: int = 1000,
    request_timeout_s: float = 0.0,
    **policy: Any,
) -> AsyncIterator[Caller]:
    """Serve a model under the name `m` over gRPC, and close it afterwards."""
    served = offer(model, request_timeout_s=request_timeout_s, **policy)
    models = Offer.of(served)
    await asyncio.to_thread(models.start)
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    address = f"127.0.0.1:{taken.getsockname()[1]}"
    server = GrpcServer(
        taken,
        models,
        access or Access(),
        max_message_bytes=max_message_bytes,
        max_calls=max_calls,
        certificate=certificate,
        control=control,
    )
    await server.start()
    options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    try:
        async with grpc.aio.insecure_channel(address, options=options) as channel:
            yield Caller(served, address, channel, server)
    finally:
        await server.drain(0.0)
        await asyncio.to_thread(models.close, 30.0)
