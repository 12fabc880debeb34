"""A way to serve a model: what the simulator runs, and what a search and a what-if table vary."""

from __future__ import annotations

from dataclasses import dataclass, field

from carpool.core.policy import Policy
from carpool.errors import ConfigError


def require_at_least(least: int, holder: object, *names: str) -> None:
    """Refuse numbers that are too small; what is None is not given.

    Args:
        least: The smallest that may be.
        holder: Whose numbers they are.
        names: What they are called.

    Raises:
        ConfigError: One is smaller.
    """
    for name in names:
        value = getattr(holder, name)
        if value is not None and value < least:
            raise ConfigError(f"{name} is {value}; it must be at least {least}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """A policy, and how many batches may run at a time.

    Args:
        policy: How batches are formed.
        num_workers: Workers, each as fast as the one that was measured.

    Raises:
        ConfigError: There is no worker.
    """

    policy: Policy = field(default_factory=Policy)
    num_workers: int = 1

    def __post_init__(self) -> None:
        require_at_least(1, self, "num_workers")
