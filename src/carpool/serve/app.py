"""The web application: which path leads to which protocol."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

import carpool
from carpool.serve import oip, openai
from carpool.serve.call import CallOptions
from carpool.serve.exchange import OK, Endpoint, Exchange, Reply, unless_gone
from carpool.serve.faults import NOT_FOUND, UNAVAILABLE, Fault
from carpool.serve.served import Served, tensor_names
from carpool.signals.export import prometheus_page

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from starlette.requests import Request

MAX_BODY_BYTES = 16 * 1024 * 1024
VERSION = "1"
_PROMETHEUS = b"text/plain; version=0.0.4; charset=utf-8"

_encode = msgspec.json.Encoder().encode


def create_app(models: Mapping[str, Served], *, max_body_bytes: int = MAX_BODY_BYTES) -> Starlette:
    """Put models on offer: Open Inference Protocol v2, OpenAI's embeddings, health and metrics.

    The models are started and closed by the caller; until one is ready its requests are answered 503.

    Args:
        models: by the name that clients call them.
        max_body_bytes: the largest body of a request that is read.
    """
    offer = _Offer(models)
    routes = [
        *_routes(_oip_error, max_body_bytes, {
            ("POST", "/v2/models/{model}/infer"): offer.infer,  # first, since routes are tried in order
            ("GET", "/v2"): offer.server,
            ("GET", "/v2/health/live"): offer.live,
            ("GET", "/v2/health/ready"): offer.ready,
            ("GET", "/v2/models/{model}"): offer.metadata,
            ("GET", "/v2/models/{model}/ready"): offer.model_ready,
            ("GET", "/v2/models/{model}/versions/{version}"): offer.metadata,
            ("GET", "/v2/models/{model}/versions/{version}/ready"): offer.model_ready,
            ("POST", "/v2/models/{model}/versions/{version}/infer"): offer.infer,
            ("GET", "/metrics"): offer.metrics,
        }),
        *_routes(_openai_error, max_body_bytes, {
            ("GET", "/v1/models"): offer.models,
            ("POST", "/v1/embeddings"): offer.embeddings,
        }),
    ]  # fmt: skip
    return Starlette(routes=routes, exception_handlers={HTTPException: _no_route})


def _routes(
    write_error: Callable[[Fault], Reply],
    max_body_bytes: int,
    endpoints: Mapping[tuple[str, str], Callable[[Exchange], Awaitable[Reply]]],
) -> list[Route]:
    return [
        Route(path, Endpoint(answer, write_error, max_body_bytes=max_body_bytes), methods=[method])
        for (method, path), answer in endpoints.items()
    ]


def _oip_error(fault: Fault) -> Reply:
    return Reply(oip.write_error(fault), fault.status, fault.headers)


def _openai_error(fault: Fault) -> Reply:
    fault = openai.as_openai(fault)
    return Reply(openai.write_error(fault), fault.status, fault.headers)


def _no_route(request: Request, error: Exception) -> Response:
    """Answer what no route takes, in the way of the protocol that was meant."""
    assert isinstance(error, HTTPException), "registered for these alone"
    what = "there is nothing at" if error.status_code == NOT_FOUND else f"{request.method} is not for"
    fault = Fault(error.status_code, f"{what} {request.url.path}: see /v2, /v1/models and /metrics")
    reply = _openai_error(fault) if request.url.path.startswith("/v1") else _oip_error(fault)
    return Response(reply.body, reply.status, headers=error.headers, media_type="application/json")


class _Offer:
    """The endpoints over a fixed set of models."""

    def __init__(self, models: Mapping[str, Served]) -> None:
        self._models = models
        self._created_at = int(time.time())

    def _named(self, name: str, *, param: str = "") -> Served:
        served = self._models.get(name)
        if served is None:
            known = ", ".join(self._models)
            message = f"there is no model {name[:60]!r} here: use one of {known}"
            raise Fault(NOT_FOUND, message, code="model_not_found", param=param)
        return served

    def _of_path(self, exchange: Exchange) -> Served:
        served = self._named(exchange.model)
        version = exchange.scope["path_params"].get("version", VERSION)
        if version != VERSION:
            raise Fault(NOT_FOUND, f"the model {served.name!r} has no version {version[:60]!r}: it has {VERSION}")
        return served

    # ------------------------------------------------------------------------------------------- health

    async def server(self, _exchange: Exchange) -> Reply:
        return Reply(_encode({"name": "carpool", "version": carpool.__version__, "extensions": []}))

    async def live(self, _exchange: Exchange) -> Reply:
        return Reply(_encode({"live": True}))

    async def ready(self, _exchange: Exchange) -> Reply:
        return _readiness({"ready": all(served.ready for served in self._models.values())})

    async def model_ready(self, exchange: Exchange) -> Reply:
        served = self._of_path(exchange)
        return _readiness({"name": served.name, "ready": served.ready})

    async def metrics(self, _exchange: Exchange) -> Reply:
        page = prometheus_page({name: served.batcher.metrics for name, served in self._models.items()})
        return Reply(page, content_type=_PROMETHEUS)

    # -------------------------------------------------------------------------- Open Inference Protocol

    async def metadata(self, exchange: Exchange) -> Reply:
        served = self._of_path(exchange)
        served.check_ready()
        return Reply(oip.write_metadata(served.name, [VERSION], served.model.info.kind, served.signature))

    async def infer(self, exchange: Exchange) -> Reply:
        served = self._of_path(exchange)
        served.check_ready()
        json_bytes = exchange.header(b"inference-header-content-length")
        call = oip.parse_request(exchange.body, served.signature, max_rows=served.max_rows, json_bytes=json_bytes)
        options = CallOptions(
            timeout_s=call.timeout_s, priority=call.priority, tenant=exchange.header(b"x-tenant"), request_id=call.id
        )
        asked = served.call(call.items, options, num_bytes=len(exchange.body))
        results = (await unless_gone(asked, exchange.receive)).results
        _, output_name = tensor_names(served.model.info.kind)
        written = oip.write_answer(
            call,
            results,
            model=served.name,
            version=VERSION,
            output_name=output_name,
            signature=served.signature,
        )
        if written.json_bytes is None:
            return Reply(written.body)
        headers = [(b"inference-header-content-length", b"%d" % written.json_bytes)]
        return Reply(written.body, headers=headers, content_type=b"application/octet-stream")

    # -------------------------------------------------------------------------------------------- OpenAI

    async def models(self, _exchange: Exchange) -> Reply:
        return Reply(openai.write_models(list(self._models), created_at=self._created_at))

    async def embeddings(self, exchange: Exchange) -> Reply:
        call = openai.parse_request(exchange.body, max_rows=self._max_rows)
        served = self._named(call.model, param="model")
        served.check_ready()
        call.check_dimensions(served.check_embeds(call.items))
        options = CallOptions(tenant=exchange.header(b"x-tenant"))
        asked = served.call(call.items, options, num_bytes=len(exchange.body))
        answer = await unless_gone(asked, exchange.receive)
        num_tokens = sum(answer.lengths) if served.model.has_length else 0
        return Reply(openai.write_answer(call, answer.results, model=served.name, num_tokens=num_tokens))

    @property
    def _max_rows(self) -> int:
        return max((served.max_rows for served in self._models.values()), default=1)


def _readiness(document: Mapping[str, Any]) -> Reply:
    return Reply(_encode(document), OK if document["ready"] else UNAVAILABLE)
