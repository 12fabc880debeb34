"""How batches are formed: pure, with no clock, no I/O and no third-party package but numpy."""

from carpool.core.batch import Batch, Dispatch, Fault, Reason, Wait
from carpool.core.clock import Clock, VirtualClock
from carpool.core.cost import AffineCost, CostModel, TimeModel
from carpool.core.former import BatchFormer
from carpool.core.item import Item
from carpool.core.policy import Policy

__all__ = [
    "AffineCost",
    "Batch",
    "BatchFormer",
    "Clock",
    "CostModel",
    "Dispatch",
    "Fault",
    "Item",
    "Policy",
    "Reason",
    "TimeModel",
    "VirtualClock",
    "Wait",
]
