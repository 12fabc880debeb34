"""The paths of OpenAI's API."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import msgspec

from carpool.serve import openai
from carpool.serve.asked import Asked, answer, read_options
from carpool.serve.call import SMALL_BODY_BYTES
from carpool.serve.http.exchange import Exchange, Reply
from carpool.serve.http.routing import Route
from carpool.serve.llm.served import ServedLM
from carpool.serve.llm.vectors import embed
from carpool.serve.operation import OF_A_MODEL, RUNS_A_MODEL, Operation
from carpool.serve.plain_routes import OPTIONS
from carpool.serve.served import Served

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from carpool.serve.offer import Offer
    from carpool.serve.on_offer import OnOffer

GROUP = "OpenAI"


def openai_operations(offer: Offer) -> list[Operation]:
    """Return the operations.

    Args:
        offer: the models.
    """
    paths = _Paths(offer)
    return [
        Operation(
            route=Route("POST", "/v1/embeddings", paths.embeddings, openai.write_error),
            summary="Turn texts into vectors.",
            group=GROUP,
            answer=openai.EmbeddingsResponse,
            request=openai.EmbeddingsRequest,
            statuses=RUNS_A_MODEL,
            headers=OPTIONS,
        ),
        Operation(
            route=Route("GET", "/v1/models", paths.models, openai.write_error),
            summary="Which models there are.",
            group=GROUP,
            answer=openai.ModelList,
        ),
        Operation(
            route=Route("GET", "/v1/models/{model}", paths.model, openai.write_error),
            summary="Whether there is such a model.",
            group=GROUP,
            answer=openai.ModelCard,
            statuses=OF_A_MODEL,
        ),
    ]


class _Paths:
    """The endpoints over the models on offer."""

    def __init__(self, offer: Offer) -> None:
        self._offer = offer
        self._created_at = int(time.time())

    def models(self, _exchange: Exchange) -> Reply:
        return Reply(openai.write_models([self._card(name) for name in self._offer.names()]))

    def model(self, exchange: Exchange) -> Reply:
        return Reply(openai.write_model(self._card(exchange.params["model"])))

    def _card(self, name: str) -> openai.ModelCard:
        found = self._offer.find(name)
        length = found.max_length if isinstance(found, ServedLM) and found.ready else msgspec.UNSET
        return openai.ModelCard(found.name, self._created_at, length)

    def embeddings(self, exchange: Exchange) -> Awaitable[Reply | None] | None:
        if len(exchange.body) > SMALL_BODY_BYTES:
            return self._embed_large(exchange)
        return self._embed(exchange, openai.decode(exchange.body))

    async def _embed_large(self, exchange: Exchange) -> Reply | None:
        answered = self._embed(exchange, await asyncio.to_thread(openai.decode, exchange.body))
        return None if answered is None else await answered

    def _embed(self, exchange: Exchange, request: openai.EmbeddingsRequest) -> Awaitable[Reply] | None:
        options = read_options(exchange)
        found = self._find(request.model)
        if isinstance(found, ServedLM):
            return embed(exchange, found, request, options)

        def read(served: Served) -> Asked:
            call = openai.read_call(request, max_rows=served.max_rows)
            call.check_dimensions(served.check_embeds(call.items))

            def write(results: list[object], lengths: tuple[int, ...]) -> Reply:
                num_tokens = sum(lengths) if served.model.has_length else 0
                return Reply(openai.write_answer(call, results, model=served.name, num_tokens=num_tokens))

            return Asked(call.items, options, write)

        return answer(exchange, lambda: self._named(request.model), read)

    def _named(self, name: str) -> Served:
        served = self._find(name)
        return served if isinstance(served, Served) else self._offer.named(name)

    def _find(self, name: str) -> OnOffer:
        with openai.blaming_the_name():
            return self._offer.find(name)
