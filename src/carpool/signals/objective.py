"""A promise about latency, as people write it: `p99=50ms`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from carpool.errors import ConfigError
from carpool.units import format_duration, parse_duration_s


@dataclass(frozen=True, slots=True)
class Objective:
    """A latency that a share of the requests must keep.

    Args:
        quantile: The share, 0 to 1.
        latency_s: The latency in seconds.
    """

    quantile: float
    latency_s: float

    @classmethod
    def parse(cls, text: str) -> Objective:
        """Read `p99=50ms`.

        Raises:
            ConfigError: It does not have this form.

        Example:
            >>> Objective.parse("p99=50ms")
            Objective(quantile=0.99, latency_s=0.05)
        """
        match = re.fullmatch(r"\s*p(\d{1,2}(?:\.\d+)?)\s*=\s*(\S+)\s*", text)
        if not match or not float(match[1]):
            raise ConfigError(f"{text!r} is not an objective: write a percentile and a latency, such as p99=50ms")
        latency_s = parse_duration_s(match[2])
        if latency_s == 0:
            raise ConfigError(f"{text!r} allows no time at all: give a latency above 0, such as p99=50ms")
        return cls(round(float(match[1]) / 100, 12), latency_s)

    @property
    def name(self) -> str:
        """Its percentile, such as `p99`."""
        return f"p{self.quantile * 100:g}"

    def __str__(self) -> str:
        return f"{self.name} within {format_duration(self.latency_s)}"
