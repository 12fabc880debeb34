"""How much longer a call takes after the model has been idle.

Calls that follow each other find warm caches, a clock that has been raised and threads that are awake. A server under
little load makes each call after a pause, and pays for all of these again. Nothing of it shows in a sweep, whose calls
follow each other: here single items are timed after pauses of several lengths, each beside a call that follows another
at once, in turns, so that drift hits both alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from statistics import median
from typing import TYPE_CHECKING

from carpool.profile.artefact import IdlePenalty
from carpool.profile.shape import Shape

if TYPE_CHECKING:
    from collections.abc import Sequence

PAUSES_S = (0.003, 0.01, 0.03)
MOST_ROUNDS, FEWEST_ROUNDS = 15, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class IdleTimer:
    """Times single items after pauses.

    Args:
        time_s: Runs one batch of a shape and returns its seconds.
        pause: Waits for so many seconds.
        clock: Seconds from any origin.
    """

    time_s: Callable[[Shape], float]
    pause: Callable[[float], None]
    clock: Callable[[], float]

    def measure(self, lengths: Sequence[int], *, until: float) -> tuple[IdlePenalty, ...]:
        """Return what each pause adds to a call: the median over the lengths and rounds, never falling with the pause.

        Args:
            lengths: Padded lengths of the items.
            until: When to stop, on that clock.

        Returns:
            One for each pause, ascending; nothing where there was time for less than three rounds.
        """
        extra_s: dict[float, list[float]] = {pause_s: [] for pause_s in PAUSES_S}
        for number in range(MOST_ROUNDS):
            began = self.clock()
            for length in lengths:
                for pause_s, difference_s in self._round(Shape(1, length)):
                    extra_s[pause_s].append(difference_s)
            spent_s = self.clock() - began
            if number + 1 >= FEWEST_ROUNDS and self.clock() + spent_s > until:
                break
            if number + 1 < FEWEST_ROUNDS and self.clock() + spent_s * (FEWEST_ROUNDS - number - 1) > until:
                return ()
        medians_s = [max(0.0, median(extra_s[pause_s])) for pause_s in PAUSES_S]
        rising_s = accumulate(medians_s, max)
        return tuple(
            IdlePenalty(idle_s=idle_s, extra_s=extra) for idle_s, extra in zip(PAUSES_S, rising_s, strict=True)
        )

    def _round(self, shape: Shape) -> list[tuple[float, float]]:
        """Time a call after each pause, beside one that follows another at once."""
        found = []
        for pause_s in PAUSES_S:
            self.time_s(shape)
            warm_s = self.time_s(shape)
            self.pause(pause_s)
            found.append((pause_s, self.time_s(shape) - warm_s))
        return found
