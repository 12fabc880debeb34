"""The seconds that a profile may take: when each phase must be over, and how many have gone."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from carpool.report.progress import Progress


@dataclass(slots=True)
class Budget:
    """Seconds that measuring may take, from its making on.

    Args:
        total_s: All of them.
        progress: Told how many have gone, and what is being done.
        clock: Seconds from any origin.
    """

    total_s: float
    progress: Progress
    clock: Callable[[], float] = time.perf_counter
    begun_at: float = field(init=False)
    told_s: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        """Begin."""
        self.begun_at = self.clock()

    @property
    def gone_s(self) -> float:
        """Seconds that have gone."""
        return self.clock() - self.begun_at

    def until(self, share: float) -> float:
        """Return when a share of the seconds will have gone, on that clock."""
        return self.begun_at + share * self.total_s

    def tell(self, what: str) -> None:
        """Move the progress to the seconds that have gone, never beyond all of them; without words, to their end."""
        gone_s = min(self.gone_s, self.total_s) if what else self.total_s
        self.progress.advance(gone_s - self.told_s)
        self.told_s = gone_s
        self.progress.note(what)
