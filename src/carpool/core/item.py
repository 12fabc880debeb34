"""What joins a batch."""

import enum
import math
from dataclasses import dataclass
from typing import Any


class State(enum.Enum):
    """Where an item is on its way."""

    NEW = "new"
    WAITING = "waiting"
    RUNNING = "running"
    AGAIN = "again"  # its batch failed, and it waits to run in a smaller one
    DONE = "done"


@dataclass(slots=True, eq=False, kw_only=True)
class Item:
    """One sample on its way through a batcher.

    Args:
        payload: what the model takes; opaque here.
        arrived_at: the instant of arrival; every wait and deadline counts from it.
        length: size along the padded axis, in tokens; 1 where lengths mean nothing.
        deadline_at: the instant after which the answer is worth nothing.
        priority: higher goes sooner; below zero is background work that fills gaps.
        tenant: whose share of the capacity it uses.
        request_id: the request that it came with, as the client or the server named it; empty where nobody did.
        handle: whatever the shell needs to answer it; opaque here.
    """

    payload: Any = None
    arrived_at: float = 0.0
    length: int = 1
    deadline_at: float = math.inf
    priority: int = 0
    tenant: str = ""
    request_id: str = ""
    handle: Any = None
    # Set by the queue: the order in which items are served, ties by arrival.
    due_at: float = 0.0
    sequence: int = 0
    promised_at: float = math.inf  # when it was predicted to leave; set for items with deadlines
    state: State = State.NEW
