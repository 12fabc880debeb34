"""Log probabilities as clients are told them."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING

from carpool.serve.llm.answers import (
    ChatLogprobs,
    ChatToken,
    ChatTokenTop,
    CompletionLogprobs,
    TokenProbability,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from carpool.llm.sampled import Sampled
    from carpool.serve.llm.token_texts import TokenTexts

_LEAST = -9999.0  # JSON has no infinity


def _finite(logprob: float | None) -> float:
    return _LEAST if logprob is None or logprob < _LEAST else logprob


class OffsetCounter:
    """Counts the characters of tokens, whose bytes may be parts of characters.

    Args:
        texts: says what tokens are.
    """

    def __init__(self, texts: TokenTexts) -> None:
        self._texts = texts
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._num_characters = 0

    def pass_by(self, token: int) -> int:
        """Return where a token begins, and go on behind it."""
        begins = self._num_characters
        self._num_characters += len(self._decoder.decode(self._texts.bytes_of(token)))
        return begins


def completion_logprobs(
    tokens: Iterable[tuple[int, Sampled | None]], texts: TokenTexts, offsets: OffsetCounter, num_top: int
) -> CompletionLogprobs:
    """Tell of tokens as /v1/completions does.

    Args:
        tokens: ids, each with what the model said of it; None for the first of a prompt.
        texts: says what tokens are.
        offsets: where the first of them begins; goes on behind the last.
        num_top: how many of the most likely to tell of.
    """
    told = CompletionLogprobs([], [], [], [])
    for token, record in tokens:
        told.text_offset.append(offsets.pass_by(token))
        told.tokens.append(texts.text_of(token))
        told.token_logprobs.append(None if record is None else _finite(record.logprob))
        told.top_logprobs.append(None if record is None else _top(record, texts, num_top))
    return told


def _top(record: Sampled, texts: TokenTexts, num_top: int) -> dict[str, float]:
    # Level ones of one text: the first, and more likely, stays.
    top = {texts.text_of(token): _finite(logprob) for token, logprob in reversed(record.top[:num_top])}
    top = dict(reversed(top.items()))
    if record.token not in [token for token, _ in record.top[:num_top]]:
        top.setdefault(texts.text_of(record.token), _finite(record.logprob))
    return top


def chat_logprobs(records: Sequence[Sampled], texts: TokenTexts, num_top: int) -> ChatLogprobs:
    """Tell of tokens as /v1/chat/completions does.

    Args:
        records: what the model said of each.
        texts: says what tokens are.
        num_top: how many of the most likely to tell of.
    """
    return ChatLogprobs(
        [
            ChatToken(
                token=texts.text_of(record.token),
                logprob=_finite(record.logprob),
                bytes=list(texts.bytes_of(record.token)),
                top_logprobs=[
                    ChatTokenTop(texts.text_of(token), _finite(logprob), list(texts.bytes_of(token)))
                    for token, logprob in record.top[:num_top]
                ],
            )
            for record in records
        ]
    )


def prompt_probabilities(
    records: Sequence[Sampled | None], texts: TokenTexts, num_top: int
) -> list[dict[str, TokenProbability] | None]:
    """Tell of a prompt's tokens as vLLM does: by id, the token itself among the most likely.

    Args:
        records: what the model said of each; None for the first.
        texts: says what tokens are.
        num_top: how many of the most likely to tell of.
    """
    told: list[dict[str, TokenProbability] | None] = []
    for record in records:
        if record is None:
            told.append(None)
            continue
        ranks = {token: (logprob, rank) for rank, (token, logprob) in enumerate(record.top[:num_top], start=1)}
        one: dict[int, tuple[float | None, int | None]] = {record.token: (record.logprob, None), **ranks}
        told.append(
            {
                str(token): TokenProbability(_finite(logprob), rank, texts.text_of(token))
                for token, (logprob, rank) in one.items()
            }
        )
    return told
