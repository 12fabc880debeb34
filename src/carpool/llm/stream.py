"""One sequence's way out: its tokens become text, up to a stop string; all of it on the consumer's side."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from carpool.llm.outputs import Output
from carpool.llm.stop import StopStrings

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from carpool.errors import CarpoolError
    from carpool.llm.detokenize import Detokenizer
    from carpool.llm.outputs import FinishReason
    from carpool.llm.request import Generation
    from carpool.llm.sampled import Sampled


class News(NamedTuple):
    """What a step did for one sequence.

    Args:
        token: the new token; None where there is none.
        sampled: the record of it, where one was asked for.
        finish_reason: why the sequence ended; None while it goes on.
        stop_token: the token that ended it, which is no text.
        error: what it failed of.
        vector: (D,) what was asked for in the place of text.
    """

    token: int | None = None
    sampled: Sampled | None = None
    finish_reason: FinishReason | None = None
    stop_token: int | None = None
    error: CarpoolError | None = None
    vector: NDArray[np.float32] | None = None


class Stream:
    """Turns one sequence's tokens into outputs.

    Args:
        generation: what was asked for.
        index: which of its sequences.
        on_output: is called with each output.
        detokenizer: turns its tokens into text.
        eos_ids: tokens that end a text by themselves, and are not told as the reason.
    """

    __slots__ = (
        "_detokenizer",
        "_eos_ids",
        "_index",
        "_min_tokens",
        "_num_prompt",
        "_on_output",
        "_stops",
        "is_closed",
        "num_cached",
        "num_generated",
        "prompt_logprobs",
    )

    def __init__(
        self,
        generation: Generation,
        index: int,
        on_output: Callable[[Output], None],
        *,
        detokenizer: Detokenizer,
        eos_ids: frozenset[int],
    ) -> None:
        params = generation.params
        self._index = index
        self._on_output = on_output
        self._detokenizer = detokenizer
        self._stops = StopStrings(params.stop, include=params.include_stop)
        self._eos_ids = eos_ids
        self._min_tokens = params.min_tokens
        self._num_prompt = len(generation.prompt)
        self.num_generated = 0
        self.num_cached = 0  # set before the first news, as are the next
        self.prompt_logprobs: tuple[Sampled | None, ...] = ()
        self.is_closed = False  # nobody waits any more, or it has ended

    def take(self, news: News | int) -> bool:
        """Hand out what a step did; return whether the text ended at a stop string.

        Args:
            news: what it did; a token where there is nothing else to tell.
        """
        if not isinstance(news, News):
            news = News(news)
        token = news.token
        if token is None:
            self._give(news, "", news.finish_reason, None)
            return False
        self.num_generated += 1
        text = "" if news.stop_token is not None else self._detokenizer.push(token)
        reason, stop = news.finish_reason, None
        if reason is not None:
            text += self._detokenizer.flush()
        text, stop = self._stops.push(text, armed=self.num_generated > self._min_tokens)
        if stop is not None:
            reason = "stop"
        elif reason is not None:
            text += self._stops.flush()
        self._give(news, text, reason, stop)
        return stop is not None

    def _give(self, news: News, text: str, reason: FinishReason | None, stop: str | None) -> None:
        if reason is not None:
            self.is_closed = True
        prompt_logprobs, self.prompt_logprobs = self.prompt_logprobs, ()
        told = news.stop_token if news.stop_token not in self._eos_ids else None
        self._on_output(
            Output(
                index=self._index,
                text=text,
                token_ids=() if news.token is None else (news.token,),
                logprobs=() if news.sampled is None else (news.sampled,),
                finish_reason=reason,
                stop_reason=told if stop is None else stop,
                error=news.error,
                num_prompt=self._num_prompt,
                num_cached=self.num_cached,
                num_generated=self.num_generated,
                prompt_logprobs=prompt_logprobs,
                vector=news.vector,
            )
        )
