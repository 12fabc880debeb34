"""The server's routes: which path leads to which protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from carpool.serve.control import Control
from carpool.serve.http.exchange import Exchange, Reply
from carpool.serve.http.routing import Route, Router
from carpool.serve.llm.routes import llm_operations
from carpool.serve.oip_admin_routes import admin_operations
from carpool.serve.oip_routes import inference_operations, write_error
from carpool.serve.openai_routes import openai_operations
from carpool.serve.openapi import write_openapi, write_page
from carpool.serve.operation import Operation
from carpool.serve.plain_routes import OPTIONS, plain_operations
from carpool.serve.policy_routes import policy_operations

if TYPE_CHECKING:
    from collections.abc import Callable

    from carpool.serve.offer import Offer
    from carpool.serve.watch import RequestWatch

_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
_HTML = "text/html; charset=utf-8"


def create_router(offer: Offer, watch: RequestWatch | None = None, control: Control | None = None) -> Router:
    """Put models on offer: plain JSON, the Open Inference Protocol, OpenAI's API, health and metrics.

    The models are started and closed by the caller; until one is ready its requests are answered 503.

    Args:
        offer: the models.
        watch: watches over the requests; what it counts is among the metrics.
        control: says who may change models and policies over the network; None lets nobody.
    """
    return Router([operation.route for operation in operations(offer, watch, control)])


def operations(offer: Offer, watch: RequestWatch | None = None, control: Control | None = None) -> list[Operation]:
    """Return all that the server has.

    Args:
        offer: the models.
        watch: watches over the requests.
        control: says who may change models and policies; None lets nobody.
    """
    controlling = control or Control()

    def metrics(_exchange: Exchange) -> Reply:
        from carpool.serve.llm.metrics_page import language_models
        from carpool.signals.export import prometheus_page  # loads what nothing else needs

        page = prometheus_page(
            {key: batcher.metrics for key, batcher in offer.batchers().items()},
            pipelines={key: pipeline.ends.freeze() for key, pipeline in offer.pipelines().items()},
            policies=offer.policy_counts(),
            answered=None if watch is None else watch.num_answered,
            called=None if watch is None else watch.num_called,
            num_connections=None if watch is None else watch.num_connections,
            more=language_models(offer.generators()),
        )
        return Reply(page, content_type=_PROMETHEUS.encode())

    def openapi(_exchange: Exchange) -> Reply:
        return Reply(msgspec.json.encode(write_openapi(whole)))

    def page(_exchange: Exchange) -> Reply:
        return Reply(write_page(whole), content_type=_HTML.encode())

    whole = [
        *plain_operations(offer),
        *inference_operations(offer),
        *admin_operations(offer, controlling),
        *openai_operations(offer),
        *llm_operations(offer, OPTIONS),
        *policy_operations(offer, controlling),
        Operation(
            route=Route("GET", "/metrics", metrics, write_error, audience="metrics"),
            summary="What happened, for Prometheus.",
            group="Operations",
            answer=_PROMETHEUS,
        ),
        _of_itself("/openapi.json", openapi, "This page, for programs.", dict[str, Any]),
        _of_itself("/docs", page, "This page, for people.", _HTML),
    ]
    return whole


def _of_itself(path: str, endpoint: Callable[[Exchange], Reply], summary: str, kind: object) -> Operation:
    return Operation(route=Route("GET", path, endpoint, write_error), summary=summary, group="Operations", answer=kind)
