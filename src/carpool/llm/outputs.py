"""What a generation gives, step by step and as a whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from carpool.errors import CarpoolError
from carpool.llm.sampled import Sampled

FinishReason: TypeAlias = Literal["stop", "length", "abort", "error"]
"""Why a sequence ended: a stop token or text, its length, whoever asked for it went away, or a failure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What one step, or a few, added to one sequence of a generation.

    Args:
        index: which of the `n` sequences, from 0.
        text: the text that was added; empty where a character is not whole yet, or may become a stop string.
        token_ids: the tokens that were added, a stop token included.
        logprobs: a record a token, where they were asked for.
        finish_reason: why it ended; None while it goes on.
        stop_reason: the stop string, or the stop token other than the model's own, that ended it.
        error: what it failed of, where `finish_reason` is "error".
        num_prompt: tokens of the prompt.
        num_cached: tokens of the prompt that were found in the prefix cache.
        num_generated: tokens generated so far, these included.
        prompt_logprobs: on the first output of sequence 0, where they were asked for: a record a token of the prompt,
            None for the first, which nothing comes before.
        vector: (D,) float32, for a generation that wants one instead of text.
    """

    index: int = 0
    text: str = ""
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[Sampled, ...] = ()
    finish_reason: FinishReason | None = None
    stop_reason: str | int | None = None
    error: CarpoolError | None = None
    num_prompt: int = 0
    num_cached: int = 0
    num_generated: int = 0
    prompt_logprobs: tuple[Sampled | None, ...] = ()
    vector: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One sequence of a generation that has ended.

    Args:
        index: which of the `n`, from 0.
        text: all of its text.
        token_ids: all of its tokens, a stop token included.
        logprobs: a record a token, where they were asked for.
        finish_reason: why it ended.
        stop_reason: the stop string, or the stop token other than the model's own, that ended it.
    """

    index: int
    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[Sampled, ...]
    finish_reason: FinishReason
    stop_reason: str | int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """A generation that has ended.

    Args:
        prompt_token_ids: the prompt.
        choices: its sequences, `n` of them.
        num_cached: tokens of the prompt that were found in the prefix cache.
        prompt_logprobs: a record a token of the prompt, None for the first; empty where they were not asked for.
    """

    prompt_token_ids: tuple[int, ...]
    choices: tuple[Choice, ...]
    num_cached: int = 0
    prompt_logprobs: tuple[Sampled | None, ...] = ()

    @property
    def text(self) -> str:
        """The text of the first sequence."""
        return self.choices[0].text

    @property
    def token_ids(self) -> tuple[int, ...]:
        """The tokens of the first sequence."""
        return self.choices[0].token_ids

    @property
    def finish_reason(self) -> FinishReason:
        """Why the first sequence ended."""
        return self.choices[0].finish_reason
