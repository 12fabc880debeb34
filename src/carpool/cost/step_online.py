"""What the steps of an LLM take, learned from the steps themselves: for objectives where nothing was measured."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from carpool.cost.least_squares import nonnegative
from carpool.cost.step_cost import columns_of

if TYPE_CHECKING:
    from carpool.core.step import StepWork

_WINDOW = 64  # steps of each kind
_REFIT_AFTER = 16  # steps


class LearnedStepTime:
    """Predicts a step's time by the latest steps that ran; 0 before there are any, so that no objective limits a step.

    Steps of single tokens and steps with pieces of prompts are remembered apart, so that a long stretch of the one kind
    does not make it forget the other. Each is held against its own time: one that was slow for another program's sake
    weighs little.

    >>> from carpool.cost.step_cost import decode_work
    >>> learned = LearnedStepTime()
    >>> for size in range(1, 33):
    ...     learned.observe(decode_work(size, 100), 0.02 + 0.001 * size)
    >>> round(learned.time_s(decode_work(16, 100)), 4)
    0.036
    """

    def __init__(self) -> None:
        self._singles: deque[tuple[tuple[float, ...], float]] = deque(maxlen=_WINDOW)
        self._mixed: deque[tuple[tuple[float, ...], float]] = deque(maxlen=_WINDOW)
        self._terms: tuple[float, ...] = ()
        self._num_new = 0

    def time_s(self, work: StepWork) -> float:
        """Return the predicted seconds of a step."""
        return sum(term * cost for term, cost in zip(self._terms, columns_of(work), strict=False))

    def observe(self, work: StepWork, service_s: float) -> None:
        """Take note that a step took `service_s` seconds."""
        if service_s <= 0:
            return
        (self._mixed if work.prefill_pairs else self._singles).append((columns_of(work), service_s))
        self._num_new += 1
        if self._num_new >= _REFIT_AFTER:
            self._num_new = 0
            self._fit()

    def _fit(self) -> None:
        rows = [*self._singles, *self._mixed]
        times_s = np.array([time_s for _, time_s in rows])
        design = np.array([costs for costs, _ in rows]) / times_s[:, None]
        self._terms = tuple(nonnegative(design, np.ones(len(rows))).tolist())
