"""Where an objective cannot be kept: what can be, and what would have to change."""

from __future__ import annotations

from dataclasses import dataclass

from carpool.plan.predict import Interval
from carpool.plan.setup import Setup


@dataclass(frozen=True, slots=True, kw_only=True)
class Nearest:
    """What comes nearest to objectives that cannot be kept.

    Args:
        setup: The policy and workers that come nearest at the whole rate.
        latencies_s: What they reach, one for each objective, in their order.
        rate: Most items a second at which the objectives are kept; None where they are at none.
        rate_setup: What keeps them at that rate; None where nothing does.
        num_workers: Fewest workers that keep them at the whole rate; None where more workers do not help.
        speed: How many times as fast the device would have to be; None where that does not help either.
        sentences: The same in words.
    """

    setup: Setup
    latencies_s: tuple[Interval, ...]
    rate: float | None
    rate_setup: Setup | None
    num_workers: int | None
    speed: float | None
    sentences: tuple[str, ...]
