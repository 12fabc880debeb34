"""The server's routes: which path leads to which protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carpool.serve.http.exchange import Exchange, Reply
from carpool.serve.http.routing import Route, Router
from carpool.serve.oip_routes import oip_routes, write_error
from carpool.serve.openai_routes import openai_routes
from carpool.signals.export import prometheus_page

if TYPE_CHECKING:
    from carpool.serve.offer import Offer

_PROMETHEUS = b"text/plain; version=0.0.4; charset=utf-8"


def create_router(offer: Offer) -> Router:
    """Put models on offer: Open Inference Protocol v2, OpenAI's embeddings, health and metrics.

    The models are started and closed by the caller; until one is ready its requests are answered 503.

    Args:
        offer: the models.
    """

    def metrics(_exchange: Exchange) -> Reply:
        page = prometheus_page({served.name: served.batcher.metrics for served in offer.all()})
        return Reply(page, content_type=_PROMETHEUS)

    return Router(
        [
            *oip_routes(offer),
            *openai_routes(offer),
            Route("GET", "/metrics", metrics, write_error, audience="metrics"),
        ]
    )
