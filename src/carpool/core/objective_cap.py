"""How long a batch may run so that the promised latency can be kept.

An item that arrives at a random instant of a batch of t seconds waits for what is left of it, and then runs with its
own: of such items a share q has an answer within `t (1 + q)`. So an objective of O seconds for the quantile q lets
batches take `O / (1 + q)`, by the cost model. Smaller batches do fewer items a second, though, and a queue that only
grows keeps no objective. So the cap is held against the arrivals: where they would keep the workers busy for more than
seven tenths of the time, it is raised to where they do not, up to no cap at all. And a batch of items that are all too
late already is not held to it: the sooner they are gone, the sooner one is in time again.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from carpool.core.item import Item
from carpool.errors import ConfigError

# Utilisation: above the first the cap is raised to the second; where it would be below the last, it is lowered.
_HIGH, _GOAL, _LOW = 0.7, 0.55, 0.4
# Arrivals that make an estimate of their rate: within 3 % for Poisson arrivals; the first are made of fewer.
_NUM_ARRIVALS, _FIRST_ARRIVALS = 1024, 64
_PACE_BAND = 0.1  # the model's pace moves by so much before the cap follows it


class Pace(Protocol):
    """What the cap asks of the budget."""

    def time_s(self, num_items: int, padded_length: int) -> float:
        """Return the predicted time of so many items."""
        ...

    def padded_length(self, length: int) -> int:
        """Return what an item is padded to."""
        ...


def longest_batch_s(objectives_s: Mapping[str, float]) -> float:
    """Return how long a batch may take so that each objective can be kept; infinite where there is none.

    Args:
        objectives_s: latency in seconds by percentile.

    >>> longest_batch_s({"p50": 0.03, "p99": 0.0597})
    0.02
    """
    return min((limit_s / (1.0 + _quantile(name)) for name, limit_s in objectives_s.items()), default=math.inf)


def cap_for(objectives_s: Mapping[str, float], most: int, num_workers: int) -> "ObjectiveCap | None":
    """Return a cap that serves objectives; None where there are none.

    Args:
        objectives_s: latency in seconds by percentile.
        most: how many items a batch may hold anyway.
        num_workers: how many batches run at a time.
    """
    if not objectives_s:
        return None
    return ObjectiveCap(longest_batch_s(objectives_s), max(objectives_s.values()), most, num_workers)


def check_objectives(objectives_s: Mapping[str, float]) -> None:
    """Refuse objectives that are none.

    Raises:
        ConfigError: a name is no percentile, or a latency is not above 0.
    """
    for name, limit_s in objectives_s.items():
        if not 0.0 < _quantile(name) < 1.0:
            raise ConfigError(f"objectives_s names {name!r}; it must be a percentile such as p99")
        if not 0.0 < limit_s < math.inf:
            raise ConfigError(f"objectives_s has {limit_s!r} for {name}; it must be seconds above 0")


def _quantile(name: str) -> float:
    try:
        return float(name.removeprefix("p")) / 100.0
    except ValueError:
        return math.nan


@dataclass(slots=True, eq=False)
class ObjectiveCap:
    """Holds the batches of one model to a time, and changes it only for a reason: never by trial.

    It is planned anew when the predicted time of the largest batch that it allows has moved by a tenth, or when a
    thousand arrivals say that it is too low or much too high. Both bands are wider than what chance does, so that under
    steady load it stays as it is.

    Args:
        longest_s: how long a batch may take by the objective.
        objective_s: latency that no objective allows any more.
        most: how many items a batch may hold anyway.
        num_workers: how many batches run at a time.
    """

    longest_s: float
    objective_s: float
    most: int
    num_workers: int = 1
    limit_s: float = 0.0  # how long a batch may take now
    num_changes: int = 0
    _known: dict[int, int] = field(default_factory=dict)  # most items by padded length, since the last change
    _planned: tuple[int, int, float] = (0, 1, 0.0)  # items and length of the largest batch, and its time when planned
    _rate: float = 0.0  # arrivals a second, by the last thousand
    _mean_length: float = 0.0  # of the items of the last thousand arrivals, or of all so far
    _enough: int = _FIRST_ARRIVALS
    _num_arrived: int = 0
    _num_tokens: int = 0
    _began_at: float = -math.inf

    def __post_init__(self) -> None:
        self.limit_s = self.longest_s

    def most_items(self, padded_length: int, pace: Pace) -> int:
        """Return the most items of a length that run within the time allowed; at least 1."""
        known = self._known.get(padded_length)
        if known is None:
            known = self._known[padded_length] = _most_within(self.limit_s, padded_length, self.most, pace)
        return known

    def is_too_late(self, items: Sequence[Item], now: float) -> bool:
        """Return whether all of these items have waited longer than any objective allows."""
        return all(now - item.arrived_at > self.objective_s for item in items)

    def arrived(self, length: int, now: float) -> None:
        """Take note that an item arrived, be it accepted or not."""
        if not self._num_arrived:
            self._began_at, self._num_tokens = now, 0
        self._num_arrived += 1
        self._num_tokens += length

    def review(self, pace: Pace, now: float) -> None:
        """Plan anew where there is reason to; asked once a batch.

        Args:
            pace: predicts how long batches take.
            now: the instant.
        """
        num_items, length, planned_s = self._planned
        moved = abs(pace.time_s(num_items or 1, length) - planned_s) > _PACE_BAND * planned_s
        counted = self._num_arrived > self._enough and now > self._began_at
        if counted or not self._rate:
            self._mean_length = self._num_tokens / max(1, self._num_arrived)
        if counted:
            self._rate = (self._num_arrived - 1) / (now - self._began_at)
            self._num_arrived, self._enough = 0, min(2 * self._enough, _NUM_ARRIVALS)
        if moved or counted:
            padded_length = pace.padded_length(max(1, round(self._mean_length)))
            if moved or self._is_off(padded_length, pace):
                self._plan(padded_length, pace)

    def _is_off(self, padded_length: int, pace: Pace) -> bool:
        """Return whether the arrivals would keep the workers too busy, or leave them so idle that it may be lower."""
        num_items = self.most_items(padded_length, pace)
        if self._utilisation(num_items, padded_length, pace) > _HIGH:
            return num_items < self.most
        if self.limit_s <= self.longest_s:
            return False
        return self._needed(padded_length, pace, _LOW) < num_items

    def _plan(self, padded_length: int, pace: Pace) -> None:
        by_objective = _most_within(self.longest_s, padded_length, self.most, pace)
        needed = self._needed(padded_length, pace, _GOAL)
        num_items = max(by_objective, needed)
        planned_s = pace.time_s(num_items, padded_length)
        raised_s = math.inf if needed >= self.most else planned_s
        before = self.limit_s, self._planned[0]
        self._planned = (num_items, padded_length, planned_s)
        self.limit_s = self.longest_s if needed <= by_objective else max(raised_s, self.longest_s)
        self.num_changes += (self.limit_s, num_items) != before
        self._known.clear()

    def _utilisation(self, num_items: int, padded_length: int, pace: Pace) -> float:
        return self._rate * pace.time_s(num_items, padded_length) / (num_items * self.num_workers)

    def _needed(self, padded_length: int, pace: Pace, utilisation: float) -> int:
        """Return the fewest items a batch that keep the workers this busy, or less; the most where none do."""
        enough, too_few = self.most, 0
        while enough - too_few > 1:
            middle = (enough + too_few) // 2
            if self._utilisation(middle, padded_length, pace) <= utilisation:
                enough = middle
            else:
                too_few = middle
        return enough


def _most_within(limit_s: float, padded_length: int, most: int, pace: Pace) -> int:
    fits, too_many = 1, most + 1
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        fits, too_many = (middle, too_many) if pace.time_s(middle, padded_length) <= limit_s else (fits, middle)
    return fits
