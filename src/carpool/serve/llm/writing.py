"""Writes what the engine gives as the answer to a request: whole, or as server-sent events."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from carpool.llm.sampled import Sampled
from carpool.serve.llm.answers import LmUsage, encode, usage
from carpool.serve.llm.token_texts import TokenTexts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carpool.llm.outputs import Output
    from carpool.serve.llm.asked import Asked
    from carpool.serve.llm.run import Part

DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    """What every part of an answer begins with.

    Args:
        id: what the answer is called.
        created: seconds since 1970.
        model: what clients call the model.
        texts: says what tokens are.
    """

    id: str
    created: int
    model: str
    texts: TokenTexts


@dataclass(slots=True, kw_only=True)
class Added:
    """What was added to one sequence: some outputs brought together.

    Args:
        prompt: which prompt.
        choice: which of all sequences.
        is_first: whether nothing was told of it before.
        text: the text.
        token_ids: its tokens.
        records: what the model said of each, where it was asked for.
        finish_reason: why it ended; None while it goes on.
        stop_reason: the stop text, or the stop token, that ended it.
    """

    prompt: int
    choice: int
    is_first: bool
    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    records: list[Sampled] = field(default_factory=list)
    finish_reason: str | None = None
    stop_reason: str | int | None = None

    def add(self, output: Output) -> None:
        """Take in one more output."""
        self.text += output.text
        self.token_ids += output.token_ids
        self.records += output.logprobs
        self.finish_reason = output.finish_reason
        self.stop_reason = output.stop_reason

    def leave_out(self) -> None:
        """Leave out what was generated, of which nothing was wanted."""
        self.text, self.token_ids, self.records = "", [], []
        self.finish_reason, self.stop_reason = self.finish_reason and "length", None

    @property
    def says_something(self) -> bool:
        """Whether there is anything to be told."""
        return bool(self.text or self.records or self.token_ids or self.finish_reason or self.is_first)


class Progress:
    """What has come of a request so far.

    Args:
        asked: the request.
    """

    def __init__(self, asked: Asked) -> None:
        self.prompt_records: dict[int, tuple[Sampled | None, ...]] = {}
        self._asked = asked
        self._num_generated: dict[int, int] = {}
        self._num_cached: dict[int, int] = {}

    def take(self, parts: Sequence[Part]) -> list[Added]:
        """Bring the outputs of each sequence together, in the order in which they came."""
        found: dict[int, Added] = {}
        for part in parts:
            output = part.output
            added = found.get(part.choice)
            if added is None:
                is_first = part.choice not in self._num_generated
                added = found[part.choice] = Added(prompt=part.prompt, choice=part.choice, is_first=is_first)
            added.add(output)
            self._num_generated[part.choice] = 0 if self._asked.only_prompt else output.num_generated
            self._num_cached.setdefault(part.prompt, output.num_cached)
            if output.prompt_logprobs:
                self.prompt_records[part.prompt] = output.prompt_logprobs
        if self._asked.only_prompt:
            for added in found.values():
                added.leave_out()
        return list(found.values())

    def usage(self) -> LmUsage:
        """Count the tokens so far."""
        return usage(self._asked.num_prompt, sum(self._num_generated.values()), sum(self._num_cached.values()))

    def usage_in_part(self) -> LmUsage | msgspec.UnsetType | None:
        """Return what a part of a stream says of the tokens: how many so far, null until its end, or nothing at all."""
        if self._asked.tells_usage_always:
            return self.usage()
        return None if self._asked.tells_usage else msgspec.UNSET


class Writer(Protocol):
    """Writes the answer to one request."""

    def whole(self, parts: Sequence[Part]) -> bytes:
        """Write the whole answer, all of which has come."""

    def events(self, parts: Sequence[Part]) -> bytes:
        """Write what has come as events; empty where there is nothing to be told."""

    def last(self) -> bytes:
        """Write what a stream ends with."""


def event(document: Any) -> bytes:
    r"""Write a server-sent event.

    >>> event({"a": 1})
    b'data: {"a":1}\n\n'
    """
    return b"data: %b\n\n" % encode(document)
