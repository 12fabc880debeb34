"""Outputs gathered until a generation has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carpool.llm.outputs import Choice, Completion

if TYPE_CHECKING:
    from collections.abc import Callable

    from carpool.errors import CarpoolError
    from carpool.llm.outputs import Output
    from carpool.llm.request import Generation


class Collector:
    """Gathers the outputs of one generation.

    Args:
        generation: what was asked for.
        on_end: is called with what came of it, once.
    """

    def __init__(self, generation: Generation, on_end: Callable[[Completion | CarpoolError], None]) -> None:
        self._prompt = tuple(generation.prompt)
        self._on_end = on_end
        self._outputs: list[list[Output]] = [[] for _ in range(generation.params.n)]
        self._num_left = generation.params.n

    def take(self, output: Output) -> None:
        """Take one output."""
        self._outputs[output.index].append(output)
        if output.finish_reason is None:
            return
        self._num_left -= 1
        if not self._num_left:
            self._on_end(self._outcome())

    def _outcome(self) -> Completion | CarpoolError:
        lasts = [outputs[-1] for outputs in self._outputs]
        error = next((last.error for last in lasts if last.error is not None), None)
        if error is not None:
            return error
        first = self._outputs[0]
        return Completion(
            prompt_token_ids=self._prompt,
            choices=tuple(_choice(outputs) for outputs in self._outputs),
            num_cached=first[0].num_cached,
            prompt_logprobs=next((output.prompt_logprobs for output in first if output.prompt_logprobs), ()),
        )


def _choice(outputs: list[Output]) -> Choice:
    last = outputs[-1]
    assert last.finish_reason is not None, "it has ended"
    return Choice(
        index=last.index,
        text="".join([output.text for output in outputs]),
        token_ids=tuple([token for output in outputs for token in output.token_ids]),
        logprobs=tuple([record for output in outputs for record in output.logprobs]),
        finish_reason=last.finish_reason,
        stop_reason=last.stop_reason,
    )
