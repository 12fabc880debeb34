"""What limits the plan now, what would move it, and whether batching belongs here at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Limit = Literal["arrivals", "overhead", "compute", "memory", "objective"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """What limits the plan now.

    Args:
        limit: The name of what binds.
        why: The evidence, with numbers.
        remedy: What would move it.
    """

    limit: Limit
    why: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Belongs:
    """Whether batching belongs here.

    Args:
        answer: True where it does.
        why: The evidence, with numbers.
    """

    answer: bool
    why: str
