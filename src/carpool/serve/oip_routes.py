"""The paths of the Open Inference Protocol that ask a model, or ask about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from carpool.serve import oip, oip_documents
from carpool.serve.asked import Asked, answer
from carpool.serve.call import CallOptions
from carpool.serve.faults import UNAVAILABLE, Fault
from carpool.serve.http.exchange import OK, Exchange, Reply
from carpool.serve.http.routing import Route
from carpool.serve.operation import OF_A_MODEL, RUNS_A_MODEL, Header, Operation
from carpool.serve.served import tensor_names

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from carpool.serve.http.routing import Audience
    from carpool.serve.offer import Offer
    from carpool.serve.served import Served

GROUP = "Open Inference Protocol"
_BINARY = b"application/octet-stream"
_JSON_BYTES = Header(
    "Inference-Header-Content-Length",
    "How much of the body is JSON; the rest is the bytes of tensors, in the order of the inputs.",
    {"type": "integer", "minimum": 0},
)
_encode = msgspec.json.Encoder().encode


def write_error(fault: Fault) -> Reply:
    """Write a fault as this protocol does."""
    return Reply(oip.write_error(fault), fault.status, fault.headers)


def inference_operations(offer: Offer) -> list[Operation]:
    """Return what asks a model, or about it.

    Args:
        offer: the models.
    """
    paths = _Paths(offer)
    return [
        *_for_model("POST", "/infer", paths.infer, "Run a model on tensors.", oip.InferResponse,
                    request=oip.InferRequest, statuses=RUNS_A_MODEL, headers=(_JSON_BYTES,), binary=True),
        *_for_model("GET", "", paths.metadata, "What a model takes and gives.", oip_documents.ModelMetadata),
        *_for_model("GET", "/ready", paths.model_ready, "Whether a model answers.", oip_documents.ModelReady,
                    audience="health"),
        *_for_model("GET", "/config", paths.config, "How a model is run.", dict[str, Any]),
        *_for_model("GET", "/stats", paths.stats, "What a model has done.", oip_documents.StatisticsDocument),
        _about("/v2", paths.server, "What the server is.", oip_documents.ServerMetadata),
        _about("/v2/health/live", paths.live, "Whether the server answers.", oip_documents.ServerLive,
               audience="health"),
        _about("/v2/health/ready", paths.ready, "Whether every model answers.", oip_documents.ServerReady,
               audience="health", statuses=(UNAVAILABLE,)),
        _about("/v2/models/stats", paths.all_stats, "What all models have done.", oip_documents.StatisticsDocument),
    ]  # fmt: skip


def _for_model(
    method: str,
    end: str,
    endpoint: Callable[[Exchange], Any],
    summary: str,
    kind: Any,
    *,
    statuses: Sequence[int] = OF_A_MODEL,
    audience: Audience = "clients",
    **more: Any,
) -> list[Operation]:
    """Return an operation on a model, and the same on one version of it."""
    return [
        Operation(
            route=Route(method, f"/v2/models/{{model}}{version}{end}", endpoint, write_error, audience=audience),
            summary=summary,
            group=GROUP,
            answer=kind,
            statuses=tuple(statuses),
            **more,
        )
        for version in ("", "/versions/{version}")
    ]


def _about(
    path: str,
    endpoint: Callable[[Exchange], Any],
    summary: str,
    kind: Any,
    *,
    audience: Audience = "clients",
    statuses: tuple[int, ...] = (),
) -> Operation:
    route = Route("GET", path, endpoint, write_error, audience=audience)
    return Operation(route=route, summary=summary, group=GROUP, answer=kind, statuses=statuses)


class _Paths:
    """The endpoints over the models on offer."""

    def __init__(self, offer: Offer) -> None:
        self._offer = offer

    def _of_path(self, exchange: Exchange) -> Served:
        return self._offer.named(exchange.params["model"], exchange.params.get("version", ""))

    def server(self, _exchange: Exchange) -> Reply:
        return Reply(_encode(oip_documents.server_metadata()))

    def live(self, _exchange: Exchange) -> Reply:
        return Reply(_encode(oip_documents.ServerLive(live=True)))

    def ready(self, exchange: Exchange) -> Reply:
        ready = self._offer.ready and not exchange.draining
        return Reply(_encode(oip_documents.ServerReady(ready)), OK if ready else UNAVAILABLE)

    def model_ready(self, exchange: Exchange) -> Reply:
        served = self._offer.find(exchange.params["model"], exchange.params.get("version", ""))
        ready = served.ready and not exchange.draining
        return Reply(_encode(oip_documents.ModelReady(served.name, ready)), OK if ready else UNAVAILABLE)

    def metadata(self, exchange: Exchange) -> Reply:
        served = self._of_path(exchange)
        served.check_ready()
        return Reply(_encode(oip_documents.model_metadata(served, self._offer.versions(served.name))))

    def config(self, exchange: Exchange) -> Reply:
        served = self._of_path(exchange)
        served.check_ready()
        return Reply(_encode(oip_documents.model_config(served)))

    def stats(self, exchange: Exchange) -> Reply:
        named, version = self._of_path(exchange), exchange.params.get("version", "")
        told = [one for one in self._offer.batched() if one.name == named.name and version in ("", one.version)]
        return Reply(_encode(oip_documents.statistics(told)))

    def all_stats(self, _exchange: Exchange) -> Reply:
        return Reply(_encode(oip_documents.statistics(self._offer.batched())))

    def infer(self, exchange: Exchange) -> Awaitable[Reply] | None:
        json_bytes = exchange.header(b"inference-header-content-length")

        def read(served: Served) -> Asked:
            call = oip.parse_request(exchange.body, served.signature, max_rows=served.max_rows, json_bytes=json_bytes)
            options = CallOptions(
                timeout_s=call.timeout_s,
                priority=call.priority,
                tenant=exchange.tenant,
                request_id=call.id or exchange.known_id,
            )
            return Asked(call.items, options, lambda results, _lengths: _write_answer(call, results, served))

        return answer(exchange, lambda: self._of_path(exchange), read)


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
