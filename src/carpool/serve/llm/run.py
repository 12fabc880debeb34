"""Runs a request: all of its generations are accepted or none, and none goes on once nobody waits."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from carpool.errors import CarpoolError
from carpool.llm.outputs import Output
from carpool.serve.faults import TOO_MANY, Fault, to_fault

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from carpool.llm.engine import Handle
    from carpool.llm.request import Generation
    from carpool.serve.llm.served import ServedLM

_COME_BACK_S = 1.0  # where nobody can say how long the others take


@dataclass(frozen=True, slots=True)
class Part:
    """What was added to one sequence of a request.

    Args:
        prompt: which of its prompts, from 0.
        choice: which of all its sequences, from 0: those of the first prompt come first.
        output: what was added.
    """

    prompt: int
    choice: int
    output: Output


class Run:
    """A request's generations, from their acceptance to their ends; for one task of one event loop.

    Leaving the `with` gives up what has not ended: its place is free before the engine's next step.

    Args:
        served: the model.
        generations: one a prompt.

    Raises:
        Fault: a generation was refused, the prompt named where there are several; then none is accepted.
    """

    def __init__(self, served: ServedLM, generations: Sequence[Generation]) -> None:
        self._parts: deque[Part] = deque()
        self._awaited: asyncio.Future[None] | None = None
        self._waits_for_one = False
        self._num_left = sum(generation.params.n for generation in generations)
        self._handles: list[Handle] = []
        choice = 0
        for place, generation in enumerate(generations):
            try:
                self._handles.append(served.engine.submit(generation, self._taking(place, choice)))
            except CarpoolError as error:
                self.cancel()
                raise _refusal(error, place, len(generations)) from error
            choice += generation.params.n

    def _taking(self, prompt: int, first: int) -> Callable[[Output], None]:
        def take(output: Output) -> None:
            self._parts.append(Part(prompt, first + output.index, output))
            if output.finish_reason is not None:
                self._num_left -= 1
            if self._awaited is not None and not self._awaited.done() and self._is_worth_waking(output):
                self._awaited.set_result(None)

        return take

    def _is_worth_waking(self, output: Output) -> bool:
        return self._waits_for_one or not self._num_left or output.error is not None

    async def next(self) -> list[Part]:
        """Wait for what comes next; all that has come since the last time, in order; empty once all have ended."""
        return await self._wait(for_one=True)

    async def whole(self) -> list[Part]:
        """Wait for all of it."""
        return await self._wait(for_one=False)

    async def _wait(self, *, for_one: bool) -> list[Part]:
        self._waits_for_one = for_one
        if self._num_left and not (for_one and self._parts):
            self._awaited = asyncio.get_running_loop().create_future()
            await self._awaited
        parts, self._parts = list(self._parts), deque()
        for part in parts:
            if part.output.error is not None:
                raise to_fault(part.output.error)
        return parts

    def cancel(self) -> None:
        """Give up what has not ended."""
        handles, self._handles = self._handles, []
        for handle in handles:
            handle.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()


def _refusal(error: CarpoolError, position: int, num_items: int) -> Fault:
    """Return what a client is told; of too many, always when to come back."""
    fault = to_fault(error, position=position, num_items=num_items)
    if fault.status == TOO_MANY and fault.retry_after_s is None:
        fault.retry_after_s = _COME_BACK_S
    return fault
