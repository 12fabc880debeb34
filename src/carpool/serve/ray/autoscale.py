"""How many replicas there should be, by the delay that their queues are predicted to have.

The number of requests in flight, which autoscalers commonly go by, says little of a server that batches: thirty-two of
them may be half a second's work or a hundredth of it. The delay says what the next request is in for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DELAY, LOAD = "predicted_delay_s", "load"
"""What each replica tells of itself, by these names."""
_MOST_USED = 0.8  # of full batches: with fewer replicas none may be nearer to its limit than this
_CALM = 0.5  # of the delay that is meant: below it there may be fewer replicas


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a replica tells of itself.

    Args:
        delay_s: how long a request that came now would wait for its batch.
        load: the share of its time that what arrives would take in full batches.
    """

    delay_s: float
    load: float


def num_replicas_for(readings: Sequence[Reading], *, current: int, target_delay_s: float) -> int:
    """Return how many replicas there should be.

    More, at most twice as many, while requests wait longer than is meant; one fewer when they wait less than half as
    long, and the others can carry the load in batches that are not quite full. A steady load thus settles: what is
    taken away is never needed at once again.

    Args:
        readings: of the replicas that have told anything, in any order.
        current: replicas that there are.
        target_delay_s: how long a request may wait.

    >>> num_replicas_for([Reading(delay_s=0.3, load=1.4)], current=1, target_delay_s=0.1)
    2
    """
    if not readings or current < 1:
        return max(1, current)
    delay_s = sum(reading.delay_s for reading in readings) / len(readings)
    load = sum(reading.load for reading in readings) * max(1.0, current / len(readings))  # the silent do as the others
    needed = max(1, math.ceil(round(load / _MOST_USED, 9)))
    if delay_s > target_delay_s:
        by_delay = math.ceil(round(current * min(2.0, delay_s / target_delay_s), 9))
        return max(current + 1, min(2 * current, max(by_delay, needed)))
    if delay_s <= _CALM * target_delay_s and needed < current:
        return current - 1
    return current


class ByPredictedDelay:
    """The same as Ray Serve asks for it; it applies the bounds, and the times that a wish must last.

    Args:
        target_delay_s: how long a request may wait.
    """

    def __init__(self, target_delay_s: float) -> None:
        self._target_delay_s = target_delay_s

    def __call__(self, context: Any) -> tuple[int, dict[str, Any]]:
        """Decide for one deployment.

        Args:
            context: its `AutoscalingContext`.
        """
        readings = read(context.aggregated_metrics or {})
        wanted = num_replicas_for(readings, current=context.current_num_replicas, target_delay_s=self._target_delay_s)
        return wanted, {}


def read(metrics: Mapping[str, Mapping[Any, float]]) -> list[Reading]:
    """Put together what each replica tells.

    Args:
        metrics: by their names, and by replica.
    """
    delays, loads = metrics.get(DELAY, {}), metrics.get(LOAD, {})
    return [Reading(delay_s=delay_s, load=loads.get(replica, 0.0)) for replica, delay_s in delays.items()]
