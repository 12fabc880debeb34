"""After a step that raised: find the guilty sequence, and spare the others.

The chunks of a failed step are halved and run again until those that fail alone are found: nothing of a step is kept
before it is committed, so that a chunk may run any number of times. Out of memory is nobody's fault unless a single
token does not fit: the same chunks run again in smaller pieces.
"""

from __future__ import annotations

from collections import deque
from math import ceil, log2
from typing import TYPE_CHECKING

from carpool.errors import OutOfMemory

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import carpool.core.sequence
    from carpool.core.step import Chunk
    from carpool.errors import CarpoolError
    from carpool.llm.execute import Attempt, Result

_SPARE_FAILURES = 2


class Rescue:
    """Runs the chunks of a step that raised again, in parts.

    A runner that fails on everything must not be called again for every sequence: when more calls in a row have failed
    than a single guilty one can explain, one from the far end runs alone; if it fails as well, so do all that are left.

    Args:
        run: runs some chunks.
        most_tokens: how many tokens are run at once, at most, as far as memory is known.
    """

    def __init__(self, run: Callable[[Sequence[Chunk]], Attempt], most_tokens: Callable[[], float]) -> None:
        self.answered: dict[carpool.core.sequence.Sequence, Result | int] = {}
        self.faults: dict[carpool.core.sequence.Sequence, CarpoolError] = {}
        self.num_runs = 0
        self._run = run
        self._most_tokens = most_tokens
        self._parts: deque[Sequence[Chunk]] = deque()
        self._in_a_row = 0
        self._is_probed = False

    def save(self, chunks: Sequence[Chunk], error: CarpoolError) -> None:
        """Answer each chunk, or find it guilty.

        Args:
            chunks: what has not been computed of the step that raised.
            error: what it raised.
        """
        limit = ceil(log2(len(chunks))) + 1 + _SPARE_FAILURES
        self._failed(chunks, error, limit)
        while self._parts:
            part = self._parts.popleft()
            attempt = self._run(part)
            self.num_runs += 1
            self.answered.update(attempt.answered)
            if attempt.answered:
                self._in_a_row, self._is_probed = 0, False
            if attempt.error is not None:
                self._failed([c for c in part if c.sequence not in attempt.answered], attempt.error, limit)

    def _failed(self, part: Sequence[Chunk], error: CarpoolError, limit: int) -> None:
        if isinstance(error, OutOfMemory) and self._most_tokens() > 1:
            self._parts.appendleft(part)
            return
        self._in_a_row += 1
        if len(part) > 1:
            middle = len(part) // 2
            self._parts.extendleft((part[middle:], part[:middle]))
            return
        self.faults[part[0].sequence] = error
        if self._in_a_row > limit:
            self._give_up(error)

    def _give_up(self, error: CarpoolError) -> None:
        if not self._parts:
            return
        if not self._is_probed:
            self._is_probed = True
            last = self._parts.pop()
            if len(last) > 1:
                self._parts.append(last[:-1])
            self._parts.appendleft(last[-1:])
            return
        self.faults.update({chunk.sequence: error for part in self._parts for chunk in part})
        self._parts.clear()
