"""Writes the answers of /v1/chat/completions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from carpool.serve.llm.answers import (
    ChatAnswer,
    ChatChoice,
    ChatChunk,
    ChatChunkChoice,
    ChatDelta,
    ChatLogprobs,
    ChatMessage,
    LmUsage,
    encode,
)
from carpool.serve.llm.told_logprobs import chat_logprobs, prompt_probabilities
from carpool.serve.llm.writing import DONE, Added, Heading, Progress, event

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carpool.serve.llm.asked import Asked
    from carpool.serve.llm.run import Part


class ChatWriter:
    """Writes the answer to one request.

    Args:
        asked: the request, which has one prompt.
        heading: what every part begins with.
    """

    def __init__(self, asked: Asked, heading: Heading) -> None:
        self._asked = asked
        self._heading = heading
        self._progress = Progress(asked)

    def whole(self, parts: Sequence[Part]) -> bytes:
        """Write the whole answer, all of which has come."""
        added = sorted(self._progress.take(parts), key=lambda one: one.choice)
        heading, asked = self._heading, self._asked
        answer = ChatAnswer(
            heading.id, heading.created, heading.model, [self._choice(one) for one in added], self._progress.usage()
        )
        if asked.prompt_logprobs is not None:
            records = self._progress.prompt_records.get(0, ())
            answer.prompt_logprobs = prompt_probabilities(records, heading.texts, asked.prompt_logprobs)
        if asked.tells_token_ids:
            answer.prompt_token_ids = list(asked.prompts[0].token_ids)
        return bytes(encode(answer))

    def _choice(self, added: Added) -> ChatChoice:
        return ChatChoice(
            index=added.choice,
            message=ChatMessage(self._echo() + added.text),
            logprobs=self._logprobs(added),
            finish_reason=added.finish_reason,
            stop_reason=added.stop_reason,
            token_ids=added.token_ids if self._asked.tells_token_ids else msgspec.UNSET,
        )

    def events(self, parts: Sequence[Part]) -> bytes:
        """Write what has come as events; empty where there is nothing to be told."""
        written = []
        for added in self._progress.take(parts):
            if added.is_first:
                written.append(self._part(ChatChunkChoice(added.choice, ChatDelta("assistant", self._echo()))))
            if added.text or added.records or added.finish_reason or (added.token_ids and self._asked.tells_token_ids):
                written.append(self._part(self._more(added)))
        return b"".join(written)

    def last(self) -> bytes:
        """Write what a stream ends with."""
        return (self._chunk([], self._progress.usage()) if self._asked.tells_usage else b"") + DONE

    def _more(self, added: Added) -> ChatChunkChoice:
        return ChatChunkChoice(
            index=added.choice,
            delta=ChatDelta(content=added.text) if added.text else ChatDelta(),
            logprobs=self._logprobs(added),
            finish_reason=added.finish_reason,
            stop_reason=added.stop_reason,
            token_ids=added.token_ids if self._asked.tells_token_ids else msgspec.UNSET,
        )

    def _part(self, choice: ChatChunkChoice) -> bytes:
        return self._chunk([choice], self._progress.usage_in_part())

    def _chunk(self, choices: list[ChatChunkChoice], usage: LmUsage | msgspec.UnsetType | None) -> bytes:
        heading = self._heading
        return event(ChatChunk(heading.id, heading.created, heading.model, choices, usage))

    def _echo(self) -> str:
        return self._asked.echo[0] if self._asked.echo else ""

    def _logprobs(self, added: Added) -> ChatLogprobs | None:
        num_top = self._asked.logprobs
        return None if num_top is None else chat_logprobs(added.records, self._heading.texts, num_top)
