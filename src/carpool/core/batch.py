"""What a batch is, why it left, and what a poll answers."""

import enum
from dataclasses import dataclass

from carpool.core.item import Item


class Reason(enum.StrEnum):
    """Why a batch was dispatched when it was."""

    FULL = "full"
    """It holds `max_batch_size` items."""
    BUDGET = "budget"
    """One more item would have passed the token, memory or time budget, or would have cost more than it brought."""
    DEADLINE = "deadline"
    """A longer wait would have made a member late."""
    IDLE = "idle"
    """A worker was free and no wait was worth it."""
    DRAIN = "drain"
    """The batcher is shutting down."""
    TIMER = "timer"
    """It waited for company for as long as that could pay."""
    BISECT = "bisect"
    """It is what is left of a batch that failed, run again, mostly in parts: to find the guilty item, or to fit."""


class Fault(enum.Enum):
    """What a batch failed of."""

    ITEM = "item"
    """Perhaps one of its items: it is halved and run again, until the guilty one is found."""
    MEMORY = "memory"
    """Its size: it is halved and run again."""
    WORKER = "worker"
    """The worker that ran it died or was ended, perhaps for another cause: it is run again whole, once, then halved."""
    MODEL = "model"
    """The model itself: all of its items fail."""


@dataclass(slots=True, eq=False, kw_only=True)
class Batch:
    """Items that run together.

    Args:
        batch_id: counts up from 0.
        items: the members.
        length: what every member is padded to, in tokens; of a ragged batch, the mean of their lengths.
        num_tokens: tokens that run, padding included.
        size: number of rows that run: `len(items)`, rounded up to an allowed batch size.
        reason: why it left.
        dispatched_at: when it left.
        predicted_s: how long the cost model says that it runs.
        lineage: what is known of the failed batch that it is a part of; None for a first attempt.
    """

    batch_id: int
    items: list[Item]
    length: int
    num_tokens: int
    size: int
    reason: Reason
    dispatched_at: float
    predicted_s: float
    lineage: "Lineage | None" = None


@dataclass(slots=True, eq=False)
class Lineage:
    """The parts of one failed batch share it: how many calls failed since one last succeeded."""

    num_failures_in_a_row: int
    most_failures_in_a_row: int
    is_probed: bool = False  # one item from the far end runs alone before the rest is given up
    has_lost_worker: bool = False  # a worker died of it once: from the next time on it is the batch that is suspected


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Run this batch now."""

    batch: Batch


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to run before `until` (infinite: before something happens)."""

    until: float
