"""What memory holds, learned by running out of it."""

import math
from dataclasses import dataclass

_GROWTH = 1.25  # three rises after a halving come close to what failed


@dataclass(slots=True)
class Ceiling:
    """The most padded tokens that are believed to fit into memory.

    It falls at once. What failed may have failed for another program's sake, and half of it may be less than would fit,
    so when `patience` batches have run at the ceiling it rises by a quarter, and again after as many. Where memory runs
    out after a rise, it falls to what ran before that, and the wait for the next rise is twice as long as it was after
    the fall before: while nothing changes, attempts become ever rarer.

    Args:
        tokens: the most that may be tried.
        patience: batches that must run at the ceiling before it rises.

    >>> ceiling = Ceiling(patience=1)
    >>> ceiling.ran_out(1000)
    >>> ceiling.tokens
    500
    >>> ceiling.held()
    >>> ceiling.tokens
    625.0
    >>> ceiling.ran_out(600)
    >>> ceiling.tokens
    500
    >>> ceiling.held()
    >>> ceiling.tokens
    500
    >>> ceiling.held()
    >>> ceiling.tokens
    625.0
    """

    tokens: float = math.inf
    patience: int = 32
    num_refuted: int = 0  # falls after a rise
    _before_rise: float = math.inf  # the ceiling before its last rise; infinite where it has not risen since it fell
    _num_to_run: int = 0  # batches at the ceiling until it rises

    def ran_out(self, tokens: int) -> None:
        """Fall because a batch of so many padded tokens did not fit."""
        if tokens > self.tokens:
            return  # it left before the ceiling fell, and tells nothing new
        if self._before_rise < math.inf:
            self.num_refuted += 1
        self.tokens = self._before_rise if self._before_rise < tokens else tokens // 2
        self._before_rise, self._num_to_run = math.inf, self.patience << self.num_refuted

    def held(self) -> None:
        """Take note that a batch ran which would have been larger without the ceiling."""
        self._num_to_run -= 1
        if self._num_to_run <= 0:
            self.tokens, self._before_rise, self._num_to_run = self.tokens * _GROWTH, self.tokens, self.patience
