"""Watching over gRPC calls as over HTTP requests: counted, logged and traced."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from carpool.serve.watch import RequestWatch


class Watching(grpc.aio.ServerInterceptor):
    """Tells a watch of every call; a stream counts as one.

    Args:
        watch: is told.
    """

    def __init__(self, watch: RequestWatch) -> None:
        self._watch = watch

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any) -> Any:
        """Put the watch around what answers a call."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return handler
        name, metadata = handler_call_details.method, _texts(handler_call_details.invocation_metadata or ())
        if handler.unary_unary is not None:
            return grpc.unary_unary_rpc_method_handler(self._around(handler.unary_unary, name, metadata))
        return grpc.stream_stream_rpc_method_handler(self._around_stream(handler.stream_stream, name, metadata))

    def _around(self, answer: Callable[..., Any], name: str, metadata: Mapping[str, str]) -> Callable[..., Any]:
        async def watched(request: bytes, context: Any) -> bytes:
            watched = self._watch.began_call(name, metadata)
            num_bytes = 0
            try:
                answered: bytes = await answer(request, context)
                num_bytes = len(answered)
                return answered
            finally:
                self._watch.ended_call(watched, name, _code(context), client=context.peer(), num_bytes=num_bytes)

        return watched

    def _around_stream(self, answer: Callable[..., Any], name: str, metadata: Mapping[str, str]) -> Callable[..., Any]:
        async def watched(requests: Any, context: Any) -> None:
            watched = self._watch.began_call(name, metadata)
            try:
                await answer(requests, context)
            finally:
                self._watch.ended_call(watched, name, _code(context), client=context.peer(), num_bytes=0)

        return watched


def _texts(metadata: Any) -> dict[str, str]:
    return {key: value for key, value in metadata if isinstance(value, str)}


def _code(context: Any) -> int:
    """Return the status code that a call ends with; gRPC leaves it open where the call was cancelled."""
    if context.cancelled():
        return int(grpc.StatusCode.CANCELLED.value[0])
    code = context.code()
    return code if isinstance(code, int) else int(code.value[0]) if code is not None else 0
