"""Items that are going to arrive: what a workload is drawn into, and what a simulation takes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from carpool.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """Arrivals of one window, in order.

    Args:
        times_s: When each item arrives, rising seconds from the start of the window [n].
        lengths: Tokens of each, at least 1 [n]; ones where lengths mean nothing.
        window_s: Length of the window in seconds; every arrival lies in it.
        priorities: Of each item, higher goes sooner [n]; None is 0 for all.
        deadlines_s: Seconds from its arrival after which an answer is worth nothing [n]; infinite for none; None for
            none at all.
        patience_s: Seconds from its arrival after which a client that still waits goes away [n]; infinite for never;
            None for none at all.
        tenants: Whose each item is [n]; None where nobody is told apart.

    Raises:
        ConfigError: The arrays have different lengths, times go backwards or leave the window, or a length is below 1.
    """

    times_s: NDArray[np.float64]
    lengths: NDArray[np.int64]
    window_s: float
    priorities: NDArray[np.int64] | None = None
    deadlines_s: NDArray[np.float64] | None = None
    patience_s: NDArray[np.float64] | None = None
    tenants: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        num = len(self.times_s)
        for name in ("lengths", "priorities", "deadlines_s", "patience_s", "tenants"):
            values = getattr(self, name)
            if values is not None and len(values) != num:
                raise ConfigError(f"{name} has {len(values)} values for {num} arrivals: give one for each")
        if num and (self.times_s[0] < 0 or self.times_s[-1] > self.window_s or (np.diff(self.times_s) < 0).any()):
            raise ConfigError(
                f"arrivals from {self.times_s[0]:g} s to {self.times_s[-1]:g} s do not rise within a window of 0 to "
                f"{self.window_s:g} s: sort them, and count seconds from its start"
            )
        if num and self.lengths.min() < 1:
            raise ConfigError(f"an item's length is {self.lengths.min()}: it must be at least 1")

    def __len__(self) -> int:
        return len(self.times_s)

    @property
    def rate(self) -> float:
        """Mean arrivals a second."""
        return len(self) / self.window_s
