"""The paths of language models: completions, conversations, tokens, and the health that vLLM's clients ask for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from carpool.serve.faults import NOT_FOUND, UNAVAILABLE, Fault, bad_request
from carpool.serve.http.exchange import Exchange, Reply
from carpool.serve.http.routing import Route
from carpool.serve.llm.answering import QUICKLY_READ_BYTES, chat_answering, completion_answering, named_generator
from carpool.serve.llm.answers import ChatAnswer, CompletionAnswer, TextAnswer, TokensAnswer, encode
from carpool.serve.llm.prompts import check_token_ids, read_tokens
from carpool.serve.llm.requests import (
    ChatRequest,
    CompletionRequest,
    DetokenizeRequest,
    TokenizeRequest,
    detokenizations,
    tokenizations,
)
from carpool.serve.openai import write_error
from carpool.serve.operation import OF_A_MODEL, RUNS_A_MODEL, Header, Operation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from carpool.serve.llm.served import ServedLM

GROUP = "Language models"


class LmOffer(Protocol):
    """What these paths ask of the models on offer."""

    @property
    def ready(self) -> bool:
        """Whether every model that should be on offer answers."""

    def generator(self, name: str) -> ServedLM:
        """Return the language model of that name."""

    def generators(self) -> Mapping[tuple[str, str], ServedLM]:
        """Return every language model by its name and version."""


def llm_operations(offer: LmOffer, headers: Sequence[Header]) -> list[Operation]:
    """Return the operations.

    Args:
        offer: the models.
        headers: those that every request for a model to run may have.
    """
    paths = _Paths(offer)
    runs = {"group": GROUP, "statuses": RUNS_A_MODEL, "headers": tuple(headers)}
    return [
        Operation(
            route=Route("POST", "/v1/completions", completion_answering(offer), write_error),
            summary="Go on from prompts; with `stream`, as server-sent events that end in `[DONE]`.",
            request=CompletionRequest,
            answer=CompletionAnswer,
            **runs,  # type: ignore[arg-type]
        ),
        Operation(
            route=Route("POST", "/v1/chat/completions", chat_answering(offer), write_error),
            summary="Answer in a conversation; with `stream`, as server-sent events that end in `[DONE]`.",
            request=ChatRequest,
            answer=ChatAnswer,
            **runs,  # type: ignore[arg-type]
        ),
        Operation(
            route=Route("POST", "/tokenize", paths.tokenize, write_error),
            summary="Turn a text, or a conversation, into tokens.",
            group=GROUP,
            request=TokenizeRequest,
            answer=TokensAnswer,
            statuses=OF_A_MODEL,
        ),
        Operation(
            route=Route("POST", "/detokenize", paths.detokenize, write_error),
            summary="Turn tokens into a text.",
            group=GROUP,
            request=DetokenizeRequest,
            answer=TextAnswer,
            statuses=OF_A_MODEL,
        ),
        Operation(
            route=Route("GET", "/health", paths.health, write_error, audience="health"),
            summary="Whether every model answers: 200 with nothing in it, or 503.",
            group=GROUP,
            answer="text/plain",
            statuses=(UNAVAILABLE,),
        ),
    ]


class _Paths:
    """The endpoints that need no engine's step."""

    def __init__(self, offer: LmOffer) -> None:
        self._offer = offer

    def tokenize(self, exchange: Exchange) -> Reply | Awaitable[Reply]:
        return _quickly_or_aside(exchange, self._tokenize)

    def _tokenize(self, exchange: Exchange) -> Reply:
        request: TokenizeRequest = tokenizations.decode(exchange.body)
        served = self._named(request.model)
        prompt = read_tokens(served, request)
        ids = list(prompt.token_ids)
        texts = [served.texts.text_of(token) for token in ids] if request.return_token_strs else None
        return Reply(encode(TokensAnswer(len(ids), served.max_length, ids, texts)))

    def detokenize(self, exchange: Exchange) -> Reply | Awaitable[Reply]:
        return _quickly_or_aside(exchange, self._detokenize)

    def _detokenize(self, exchange: Exchange) -> Reply:
        request: DetokenizeRequest = detokenizations.decode(exchange.body)
        served = self._named(request.model)
        check_token_ids(served, request.tokens, field="tokens")
        # A batch of one, which alone lets other threads run meanwhile.
        return Reply(encode(TextAnswer(served.tokenizer.decode_batch([request.tokens], skip_special_tokens=False)[0])))

    def health(self, exchange: Exchange) -> Reply:
        ready = self._offer.ready and not exchange.draining
        return Reply(b"", content_type=b"text/plain") if ready else write_error(_NOT_READY)

    def _named(self, name: str | None) -> ServedLM:
        """Return a model that answers; without a name, the only one."""
        if name is None:
            name = self._only_one()
        served = named_generator(self._offer, name)
        served.check_ready()
        return served

    def _only_one(self) -> str:
        names = sorted({name for name, _ in self._offer.generators()})
        if not names:
            raise Fault(NOT_FOUND, "there is no language model here", code="model_not_found", param="model")
        if len(names) > 1:
            raise bad_request(f"there are several language models: name one of {', '.join(names)}", param="model")
        return names[0]


def _quickly_or_aside(exchange: Exchange, answer: Callable[[Exchange], Reply]) -> Reply | Awaitable[Reply]:
    """Answer at once, or on a thread where there is much to read."""
    if len(exchange.body) <= QUICKLY_READ_BYTES:
        return answer(exchange)
    return asyncio.to_thread(answer, exchange)


_NOT_READY = Fault(UNAVAILABLE, "not every model answers, or the server stops", retry_after_s=1.0)
