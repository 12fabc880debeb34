"""What a knob may be set to: each check names the knob, its value and what it may be."""

from collections.abc import Mapping
from itertools import pairwise
from typing import SupportsIndex

from carpool.errors import ConfigError

MOST_ITEMS = 1 << 20
"""More than this no batch and no queue holds: beyond it arrays and waits grow past all use."""


def check_whole(name: str, value: object) -> None:
    """Refuse what is not a whole number from 1."""
    if not isinstance(value, SupportsIndex) or isinstance(value, bool) or value.__index__() < 1:
        raise ConfigError(f"{name} is {value!r}; it must be at least 1, a whole number")


def check_at_most(name: str, value: int) -> None:
    """Refuse more items than any batch or queue may hold."""
    if value > MOST_ITEMS:
        raise ConfigError(f"{name} is {value}; it must be at most {MOST_ITEMS}: run more servers for more")


def check_seconds(name: str, value: object) -> None:
    """Refuse what is not a duration."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not value >= 0:
        raise ConfigError(f"{name} is {value!r}; it must be at least 0, in seconds")


def check_ascending(name: str, values: tuple[int, ...]) -> None:
    """Refuse what does not rise from at least 1."""
    if any(value < 1 for value in values) or any(low >= high for low, high in pairwise(values)):
        raise ConfigError(f"{name} is {list(values)}; it must rise from at least 1, as in [16, 32, 64]")


def check_weights(weights: Mapping[str, float]) -> None:
    """Refuse a share of nothing, or of everything."""
    for tenant, weight in weights.items():
        if not 0 < weight < float("inf"):
            raise ConfigError(f"tenant_weights has {weight!r} for {tenant!r}; a weight must be above 0 and finite")
