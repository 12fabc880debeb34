"""A way to serve a model: what the simulator runs, and what a search and a what-if table vary."""

from __future__ import annotations

from dataclasses import dataclass, field

from carpool.core.policy import Policy
from carpool.errors import ConfigError


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
        if self.num_workers < 1:
            raise ConfigError(f"num_workers is {self.num_workers}; it must be at least 1")
