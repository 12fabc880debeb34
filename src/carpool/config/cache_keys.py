"""The keys of `[cache]`: what equal items share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta

from carpool.units import parse_bytes, parse_duration_s

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheTable:
    """`[cache]`: what equal items share; nothing by default."""

    size: Annotated[
        str | int,
        Meta(description="most memory for results that are given again to equal items, such as `64MiB`; 0 keeps none"),
        parse_bytes,
    ] = 0
    ttl: Annotated[
        str | float,
        Meta(description="how long a result is given again; 0 for as long as there is room"),
        parse_duration_s,
    ] = 0.0
    deduplicate: Annotated[
        bool,
        Meta(description="whether equal items that wait or run share one computation; they do where results are kept"),
    ] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSettings:
    """What equal items share, as `carpool.serve.cache.SharingPolicy` has it."""

    size_bytes: int
    ttl_s: float
    deduplicate: bool


def cache_settings(table: Mapping[str, Any]) -> CacheSettings:
    """Return the settings of a table whose values have been read.

    Args:
        table: By key.
    """
    return CacheSettings(size_bytes=table["size"], ttl_s=table["ttl"], deduplicate=table["deduplicate"])
