"""The paths of OpenAI's API."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from carpool.serve import openai
from carpool.serve.call import CallOptions
from carpool.serve.faults import Fault
from carpool.serve.http.exchange import Exchange, Reply
from carpool.serve.http.routing import Route

if TYPE_CHECKING:
    from carpool.serve.call import Ticket
    from carpool.serve.offer import Offer
    from carpool.serve.served import Served


def write_error(fault: Fault) -> Reply:
    """Write a fault as this API does."""
    fault = openai.as_openai(fault)
    return Reply(openai.write_error(fault), fault.status, fault.headers)


def openai_routes(offer: Offer) -> list[Route]:
    """Return the routes.

    Args:
        offer: the models.
    """
    paths = _Paths(offer)
    return [
        Route("GET", "/v1/models", paths.models, write_error),
        Route("POST", "/v1/embeddings", paths.embeddings, write_error),
    ]


class _Paths:
    """The endpoints over the models on offer."""

    def __init__(self, offer: Offer) -> None:
        self._offer = offer
        self._created_at = int(time.time())

    def models(self, _exchange: Exchange) -> Reply:
        return Reply(openai.write_models(self._offer.names(), created_at=self._created_at))

    def _named(self, name: str) -> Served:
        try:
            return self._offer.named(name)
        except Fault as fault:
            fault.param = "model"
            raise

    def embeddings(self, exchange: Exchange) -> None:
        max_rows = max((served.max_rows for served in self._offer.all()), default=1)
        call = openai.parse_request(exchange.body, max_rows=max_rows)
        served = self._named(call.model)
        served.check_ready()
        call.check_dimensions(served.check_embeds(call.items))
        tickets: list[Ticket] = []

        def write(results: list[Any]) -> Reply:
            num_tokens = sum(tickets[0].lengths) if served.model.has_length else 0
            return Reply(openai.write_answer(call, results, model=served.name, num_tokens=num_tokens))

        options = CallOptions(tenant=exchange.tenant, request_id=exchange.known_id)
        tickets.append(served.submit(call.items, options, exchange.answer_with(write), num_bytes=len(exchange.body)))
        exchange.on_gone(tickets[0].cancel)
