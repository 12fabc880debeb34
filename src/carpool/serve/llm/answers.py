"""What clients are answered: OpenAI's documents, with the fields that vLLM adds."""

from __future__ import annotations

from typing import Any, Literal

import msgspec


class PromptTokens(msgspec.Struct):
    """Of the prompts' tokens, those that were found in the prefix cache."""

    cached_tokens: int


class LmUsage(msgspec.Struct):
    """Tokens of a request.

    Args:
        prompt_tokens: of its prompts.
        completion_tokens: of all of its answers.
        total_tokens: of both.
        prompt_tokens_details: what of the prompts was cached.
    """

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokens


class TokenProbability(msgspec.Struct):
    """How likely a token of a prompt was, as vLLM tells it; the rank is that among the most likely that are told."""

    logprob: float
    rank: int | None
    decoded_token: str


class CompletionLogprobs(msgspec.Struct):
    """How likely the tokens were: natural logarithms, of the model's own distribution.

    Args:
        text_offset: where each token begins in the text, in characters.
        token_logprobs: of each token; null for the first of a prompt.
        tokens: their texts; bytes for one that is no whole character.
        top_logprobs: of the most likely tokens and the chosen one, by their texts.
    """

    text_offset: list[int]
    token_logprobs: list[float | None]
    tokens: list[str]
    top_logprobs: list[dict[str, float] | None]


class CompletionChoice(msgspec.Struct):
    """One answer, or what was added to it.

    Args:
        index: which one; those of the first prompt come first.
        text: the text.
        logprobs: how likely its tokens were; null where that was not asked for.
        finish_reason: `stop` or `length`; null while it goes on.
        stop_reason: the stop text, or the stop token, that ended it; null where that was the model's own.
        prompt_logprobs: of each token of the prompt and the most likely ones, by id; null for the first.
        token_ids: the answer's tokens, where asked for.
        prompt_token_ids: the prompt's tokens, where asked for.
    """

    index: int
    text: str
    logprobs: CompletionLogprobs | None = None
    finish_reason: str | None = None
    stop_reason: str | int | None = None
    prompt_logprobs: list[dict[str, TokenProbability] | None] | msgspec.UnsetType | None = msgspec.UNSET
    token_ids: list[int] | msgspec.UnsetType = msgspec.UNSET
    prompt_token_ids: list[int] | msgspec.UnsetType = msgspec.UNSET


class CompletionAnswer(msgspec.Struct):
    """Answers to prompts, or a part of them."""

    id: str
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: LmUsage | msgspec.UnsetType | None = msgspec.UNSET
    object: Literal["text_completion"] = "text_completion"


class ChatTokenTop(msgspec.Struct):
    """One of the most likely tokens."""

    token: str
    logprob: float
    bytes: list[int]


class ChatToken(msgspec.Struct):
    """How likely a token was.

    Args:
        token: its text; bytes for one that is no whole character.
        logprob: natural logarithm, of the model's own distribution.
        bytes: its bytes.
        top_logprobs: the most likely ones, most likely first.
    """

    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[ChatTokenTop]


class ChatLogprobs(msgspec.Struct):
    """How likely the tokens of an answer were."""

    content: list[ChatToken]


class ChatMessage(msgspec.Struct):
    """What the model says."""

    content: str
    role: Literal["assistant"] = "assistant"
    refusal: None = None


class ChatDelta(msgspec.Struct, omit_defaults=True):
    """What the model says more."""

    role: str = ""
    content: str | msgspec.UnsetType = msgspec.UNSET


class ChatChoice(msgspec.Struct):
    """One answer; as `CompletionChoice`."""

    index: int
    message: ChatMessage
    logprobs: ChatLogprobs | None
    finish_reason: str | None
    stop_reason: str | int | None = None
    token_ids: list[int] | msgspec.UnsetType = msgspec.UNSET


class ChatChunkChoice(msgspec.Struct):
    """What was added to one answer."""

    index: int
    delta: ChatDelta
    logprobs: ChatLogprobs | None = None
    finish_reason: str | None = None
    stop_reason: str | int | None = None
    token_ids: list[int] | msgspec.UnsetType = msgspec.UNSET


class ChatAnswer(msgspec.Struct):
    """Answers in a conversation."""

    id: str
    created: int
    model: str
    choices: list[ChatChoice]
    usage: LmUsage
    prompt_logprobs: list[dict[str, TokenProbability] | None] | msgspec.UnsetType = msgspec.UNSET
    prompt_token_ids: list[int] | msgspec.UnsetType = msgspec.UNSET
    object: Literal["chat.completion"] = "chat.completion"


class ChatChunk(msgspec.Struct):
    """A part of answers in a conversation."""

    id: str
    created: int
    model: str
    choices: list[ChatChunkChoice]
    usage: LmUsage | msgspec.UnsetType | None = msgspec.UNSET
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"


class TokensAnswer(msgspec.Struct):
    """A text's tokens.

    Args:
        count: how many.
        max_model_len: the longest prompt with what is generated.
        tokens: their ids.
        token_strs: their texts, where asked for.
    """

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None = None


class TextAnswer(msgspec.Struct):
    """Tokens' text."""

    prompt: str


def usage(num_prompt: int, num_generated: int, num_cached: int) -> LmUsage:
    """Count the tokens of a request.

    Args:
        num_prompt: of its prompts.
        num_generated: of its answers.
        num_cached: of its prompts' tokens, those found in the prefix cache.
    """
    return LmUsage(num_prompt, num_generated, num_prompt + num_generated, PromptTokens(num_cached))


encode: Any = msgspec.json.Encoder().encode
