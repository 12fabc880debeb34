"""What a replica tells of itself: its models' predicted delay, and the load that arrives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from carpool.serve.ray.autoscale import Reading

if TYPE_CHECKING:
    from collections.abc import Iterable

    from carpool.serve.served import Served


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What is seen of one model.

    Args:
        num_arrived: items that have come since it started, refused ones included.
        delay_s: how long one that came now would wait.
        item_s: the share of all its workers' time that an item takes in full batches, in seconds.
    """

    num_arrived: int
    delay_s: float
    item_s: float


def look_at(served: Served) -> Sight:
    """See how a model is doing."""
    totals, outlook = served.batcher.metrics.totals(), served.batcher.outlook()
    num_arrived = totals.num_items + outlook.num_waiting + sum(totals.rejections.values()) + sum(totals.drops.values())
    item_s = outlook.item_s / served.num_workers
    return Sight(num_arrived=num_arrived, delay_s=outlook.delay_s, item_s=item_s)


class Gauge:
    """Reads the rate of arrivals off two sights of the same models.

    Args:
        now: when it begins, seconds.
    """

    def __init__(self, now: float) -> None:
        self._seen_at = now
        self._num_arrived: dict[str, int] = {}
        self._reading = Reading(delay_s=0.0, load=0.0)

    def read(self, sights: Iterable[tuple[str, Sight]], now: float) -> Reading:
        """Return the longest delay of all models, and their load together since the last reading.

        Args:
            sights: of each model by its name and version.
            now: seconds.
        """
        seen = dict(sights)
        elapsed_s = now - self._seen_at
        delay_s = max((sight.delay_s for sight in seen.values()), default=0.0)
        if elapsed_s <= 0.0:
            return Reading(delay_s=delay_s, load=self._reading.load)
        # One that is new, or was made anew and counts from zero, has no past yet.
        new = {name: sight.num_arrived - self._num_arrived.get(name, sight.num_arrived) for name, sight in seen.items()}
        load = sum(max(0, new[name]) * sight.item_s for name, sight in seen.items()) / elapsed_s
        self._seen_at = now
        self._num_arrived = {name: sight.num_arrived for name, sight in seen.items()}
        self._reading = Reading(delay_s=delay_s, load=load)
        return self._reading
