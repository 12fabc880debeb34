"""Writes the answers of /v1/completions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from carpool.serve.llm.answers import CompletionAnswer, CompletionChoice, CompletionLogprobs, LmUsage, encode
from carpool.serve.llm.told_logprobs import OffsetCounter, completion_logprobs, prompt_probabilities
from carpool.serve.llm.writing import DONE, Added, Heading, Progress, event

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carpool.llm.sampled import Sampled
    from carpool.serve.llm.asked import Asked
    from carpool.serve.llm.run import Part


class CompletionWriter:
    """Writes the answer to one request.

    Args:
        asked: the request.
        heading: what every part begins with.
    """

    def __init__(self, asked: Asked, heading: Heading) -> None:
        self._asked = asked
        self._heading = heading
        self._progress = Progress(asked)
        self._offsets: dict[int, OffsetCounter] = {}

    def whole(self, parts: Sequence[Part]) -> bytes:
        """Write the whole answer, all of which has come."""
        added = sorted(self._progress.take(parts), key=lambda one: one.choice)
        return bytes(encode(self._answer([self._choice(one) for one in added], self._progress.usage())))

    def events(self, parts: Sequence[Part]) -> bytes:
        """Write what has come as events; empty where there is nothing to be told."""
        added = [one for one in self._progress.take(parts) if one.says_something]
        return b"".join(event(self._answer([self._choice(one)], self._progress.usage_in_part())) for one in added)

    def last(self) -> bytes:
        """Write what a stream ends with."""
        return (event(self._answer([], self._progress.usage())) if self._asked.tells_usage else b"") + DONE

    def _answer(self, choices: list[CompletionChoice], usage: LmUsage | msgspec.UnsetType | None) -> CompletionAnswer:
        heading = self._heading
        return CompletionAnswer(heading.id, heading.created, heading.model, choices, usage)

    def _choice(self, added: Added) -> CompletionChoice:
        asked, texts = self._asked, self._heading.texts
        echoes = added.is_first and asked.echo is not None
        choice = CompletionChoice(
            index=added.choice,
            text=(asked.echo[added.prompt] if echoes and asked.echo else "") + added.text,
            logprobs=self._logprobs(added, with_prompt=echoes),
            finish_reason=added.finish_reason,
            stop_reason=added.stop_reason,
        )
        if added.is_first and asked.prompt_logprobs is not None:
            records = self._progress.prompt_records.get(added.prompt, ())
            choice.prompt_logprobs = prompt_probabilities(records, texts, asked.prompt_logprobs)
        if asked.tells_token_ids:
            choice.token_ids = added.token_ids
            choice.prompt_token_ids = list(self._prompt(added)) if added.is_first else msgspec.UNSET
        return choice

    def _prompt(self, added: Added) -> tuple[int, ...]:
        return self._asked.prompts[added.prompt].token_ids

    def _logprobs(self, added: Added, *, with_prompt: bool) -> CompletionLogprobs | None:
        num_top = self._asked.logprobs
        if num_top is None:
            return None
        texts = self._heading.texts
        offsets = self._offsets.setdefault(added.choice, OffsetCounter(texts))
        tokens: list[tuple[int, Sampled | None]] = [(record.token, record) for record in added.records]
        if with_prompt:
            records = self._progress.prompt_records.get(added.prompt, ())
            tokens = [*zip(self._prompt(added), records, strict=False), *tokens]
        return completion_logprobs(tokens, texts, offsets, num_top)
