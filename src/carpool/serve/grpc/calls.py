"""Calls for inference: one at a time, or many over one stream."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from carpool.errors import CarpoolError
from carpool.serve.call import CallOptions
from carpool.serve.faults import UNAVAILABLE, Fault, to_fault
from carpool.serve.grpc.infer import InferCall, read_request, write_answer
from carpool.serve.grpc.messages import ModelInferRequest, ModelInferResponse, ModelStreamInferResponse
from carpool.serve.grpc.rpc import SMALL_MESSAGE_BYTES, Caller, abort, caller_of, parse, unexpected
from carpool.serve.grpc.stream import answer_in_order
from carpool.serve.served import tensor_names

if TYPE_CHECKING:
    from grpc.aio import ServicerContext

    from carpool.serve.access import Access
    from carpool.serve.offer import Offer
    from carpool.serve.served import Served

_logger = logging.getLogger("carpool.serve")


class Inference:
    """Answers requests with what the models on offer make of them.

    Args:
        offer: the models.
        access: lets callers in.
    """

    def __init__(self, offer: Offer, access: Access) -> None:
        self._offer = offer
        self._access = access
        self.closing = asyncio.Event()  # set once the server has been asked to stop: streams end then
        self.num_given_up = 0  # requests that were cancelled since

    async def infer(self, request: ModelInferRequest, caller: Caller) -> ModelInferResponse:
        """Answer one request; being cancelled withdraws its rows that still wait.

        Raises:
            CarpoolError: it can't be answered; the message says why.
        """
        served, num_bytes = self._served(request), request.ByteSize()
        if num_bytes <= SMALL_MESSAGE_BYTES:
            call = _read(request, served)
        else:
            call = await asyncio.to_thread(_read, request, served)
            served = self._served(request)  # another version may have come into force meanwhile
        options = CallOptions(
            timeout_s=_sooner(call.parameters.timeout_s, caller.left_s()),
            priority=call.parameters.item_priority,
            tenant=caller.tenant,
            request_id=call.id or caller.request_id,
        )
        try:
            answer = await served.call(call.items, options, num_bytes=num_bytes)
        except asyncio.CancelledError:
            self.num_given_up += self.closing.is_set()
            raise
        _, output_name = tensor_names(served.model.info.kind)
        return write_answer(
            call,
            answer.results,
            model=served.name,
            version=served.version,
            output_name=output_name,
            signature=served.signature,
        )

    def _served(self, request: ModelInferRequest) -> Served:
        served = self._offer.named(request.model_name, request.model_version)
        served.check_ready()
        return served

    async def stream(self, requests: Any, context: ServicerContext[Any, Any]) -> None:
        """Answer the requests of a stream, which outlives those that can't be answered."""
        try:
            caller = caller_of(context, self._access, "clients")
        except CarpoolError as error:
            await abort(context, to_fault(error))

        async def answer(data: bytes) -> bytes:
            return (await self._answer_one(data, caller)).SerializeToString()

        await answer_in_order(requests, answer, context.write, closing=self.closing)
        if self.closing.is_set():
            await abort(context, Fault(UNAVAILABLE, "the server is stopping: open a stream to it anew"))

    async def _answer_one(self, data: bytes, caller: Caller) -> ModelStreamInferResponse:
        """Answer one request of a stream, with what went wrong if it did."""
        request = ModelInferRequest()
        try:
            request = await parse(ModelInferRequest, data)
            response = await self.infer(request, caller)
        except CarpoolError as error:
            return _refusal(request, to_fault(error))
        except Exception:
            _logger.exception("unexpected failure, a fault in carpool, in a request of a stream")
            return _refusal(request, unexpected())
        response.parameters["triton_final_response"].bool_param = True  # each request has one response
        return ModelStreamInferResponse(infer_response=response)


def _refusal(request: ModelInferRequest, fault: Fault) -> ModelStreamInferResponse:
    """Say why a request was not answered, and which."""
    named = ModelInferResponse(model_name=request.model_name, model_version=request.model_version, id=request.id)
    return ModelStreamInferResponse(error_message=str(fault), infer_response=named)


def _read(request: ModelInferRequest, served: Served) -> InferCall:
    return read_request(request, served.signature, max_rows=served.max_rows)


def _sooner(one: float | None, other: float | None) -> float | None:
    return min((limit for limit in (one, other) if limit is not None), default=None)
