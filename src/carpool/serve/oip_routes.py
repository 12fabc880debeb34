"""The paths of the Open Inference Protocol, version 2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

import carpool
from carpool.serve import oip
from carpool.serve.call import CallOptions
from carpool.serve.faults import UNAVAILABLE, Fault
from carpool.serve.http.exchange import OK, Exchange, Reply
from carpool.serve.http.routing import Route
from carpool.serve.served import tensor_names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from carpool.serve.offer import Offer
    from carpool.serve.served import Served

_BINARY = b"application/octet-stream"
_encode = msgspec.json.Encoder().encode


def write_error(fault: Fault) -> Reply:
    """Write a fault as this protocol does."""
    return Reply(oip.write_error(fault), fault.status, fault.headers)


def oip_routes(offer: Offer) -> list[Route]:
    """Return the routes.

    Args:
        offer: the models.
    """
    paths = _Paths(offer)
    model = "/v2/models/{model}"
    return [
        Route("POST", f"{model}/infer", paths.infer, write_error),
        Route("POST", f"{model}/versions/{{version}}/infer", paths.infer, write_error),
        Route("GET", "/v2", paths.server, write_error),
        Route("GET", "/v2/health/live", paths.live, write_error, audience="health"),
        Route("GET", "/v2/health/ready", paths.ready, write_error, audience="health"),
        Route("GET", model, paths.metadata, write_error),
        Route("GET", f"{model}/ready", paths.model_ready, write_error, audience="health"),
        Route("GET", f"{model}/versions/{{version}}", paths.metadata, write_error),
        Route("GET", f"{model}/versions/{{version}}/ready", paths.model_ready, write_error, audience="health"),
    ]


class _Paths:
    """The endpoints over the models on offer."""

    def __init__(self, offer: Offer) -> None:
        self._offer = offer

    def _of_path(self, exchange: Exchange) -> Served:
        return self._offer.named(exchange.params["model"], exchange.params.get("version", ""))

    def server(self, _exchange: Exchange) -> Reply:
        return Reply(_encode({"name": "carpool", "version": carpool.__version__, "extensions": []}))

    def live(self, _exchange: Exchange) -> Reply:
        return Reply(_encode({"live": True}))

    def ready(self, exchange: Exchange) -> Reply:
        return _readiness({"ready": self._offer.ready and not exchange.draining})

    def model_ready(self, exchange: Exchange) -> Reply:
        served = self._of_path(exchange)
        return _readiness({"name": served.name, "ready": served.ready and not exchange.draining})

    def metadata(self, exchange: Exchange) -> Reply:
        served = self._of_path(exchange)
        served.check_ready()
        versions = self._offer.versions(served.name)
        return Reply(oip.write_metadata(served.name, versions, served.model.info.kind, served.signature))

    def infer(self, exchange: Exchange) -> None:
        served = self._of_path(exchange)
        served.check_ready()
        body = exchange.body
        json_bytes = exchange.header(b"inference-header-content-length")
        call = oip.parse_request(body, served.signature, max_rows=served.max_rows, json_bytes=json_bytes)
        options = CallOptions(
            timeout_s=call.timeout_s,
            priority=call.priority,
            tenant=exchange.tenant,
            request_id=call.id or exchange.known_id,
        )

        def write(results: list[Any]) -> Reply:
            return _write_answer(call, results, served)

        ticket = served.submit(call.items, options, exchange.answer_with(write), num_bytes=len(body))
        exchange.on_gone(ticket.cancel)


def _write_answer(call: oip.Call, results: list[Any], served: Served) -> Reply:
    written = oip.write_answer(
        call,
        results,
        model=served.name,
        version=served.version,
        output_name=tensor_names(served.model.info.kind)[1],
        signature=served.signature,
    )
    if written.json_bytes is None:
        return Reply(written.body)
    headers = [(b"inference-header-content-length", b"%d" % written.json_bytes)]
    return Reply(written.body, headers=headers, content_type=_BINARY)


def _readiness(document: Mapping[str, Any]) -> Reply:
    return Reply(_encode(document), OK if document["ready"] else UNAVAILABLE)
