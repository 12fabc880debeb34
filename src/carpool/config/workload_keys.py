"""The keys of `[workload]`: what arrives."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from msgspec import Meta

from carpool.config.leaf import BESIDE, Buckets, Count, Positive, length_of_time_s
from carpool.errors import ConfigError
from carpool.units import parse_duration_s

if TYPE_CHECKING:
    from collections.abc import Mapping

Process: TypeAlias = Literal["poisson", "gamma", "constant", "on-off", "daily"]


def _shares(value: Mapping[str, float]) -> dict[int, float]:
    """Read shares by priority, which stands as text in a file: TOML has no other keys."""
    other = [priority for priority in value if not re.fullmatch(r"-?\d{1,9}", priority)]
    if other:
        raise ConfigError(f"{other[0]!r} is no priority; it must be a whole number such as 0 or 5")
    return {int(priority): share for priority, share in value.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadTable:
    """`[workload]`: what arrives. Plans are made for it and verified with it; a server takes what comes."""

    rate: Annotated[
        Positive | None, Meta(description="mean items a second; a trace is played as fast as gives this rate")
    ] = None
    arrivals: Annotated[
        Process | None,
        Meta(description="`poisson`, `gamma`, `constant`, `on-off` or `daily`; by default `poisson`, or a trace's own"),
    ] = None
    burstiness: Annotated[
        Positive | None,
        Meta(
            description="of `gamma`: squared coefficient of variation of the gaps; 1 is Poisson, above is burstier; "
            "by default 4"
        ),
    ] = None
    on: Annotated[
        str | float | None,
        Meta(description="of `on-off`: length of a burst; one begins every `on` and `off` together; by default 1s"),
        length_of_time_s,
    ] = None
    off: Annotated[
        str | float | None,
        Meta(description="of `on-off`: silence after a burst; by default 1s"),
        parse_duration_s,
    ] = None
    peak_to_mean: Annotated[
        Annotated[float, Meta(ge=1, le=2)] | None,
        Meta(description="of `daily`: highest rate over the mean, 1 to 2; by default 1.5"),
    ] = None
    period: Annotated[
        str | float | None,
        Meta(description="of `daily`: length of a day; by default 24h"),
        length_of_time_s,
    ] = None
    trace: Annotated[
        str | None,
        Meta(description="recorded arrivals to replay: CSV, JSONL or Carpool's own events; by default none"),
        BESIDE,
    ] = None
    trace_start: Annotated[
        str | float | None,
        Meta(description="where in the trace to begin, as recorded; by default at its first arrival"),
        parse_duration_s,
    ] = None
    trace_duration: Annotated[
        str | float | None,
        Meta(description="how much of the trace to use, as recorded; by default to its end"),
        length_of_time_s,
    ] = None
    speed: Annotated[
        Positive | None, Meta(description="how many times as fast as recorded to play the trace; by default 1")
    ] = None
    lengths: Annotated[
        Buckets,
        Meta(description="tokens of typical items, each as likely; empty: the trace's own, or the profile's examples"),
    ] = ()
    deadline: Annotated[
        str | float | None,
        Meta(description="time after which an answer is worth nothing; by default none"),
        length_of_time_s,
    ] = None
    patience: Annotated[
        str | float | None,
        Meta(description="time after which a client that still waits goes away; by default none"),
        length_of_time_s,
    ] = None
    priorities: Annotated[
        dict[str, Positive],
        Meta(description='shares of the items by priority, such as `"5" = 0.1`; empty: all of priority 0'),
        _shares,
    ] = field(default_factory=dict)
    output_lengths: Annotated[
        Buckets,
        Meta(
            description="of a model that generates: tokens of typical answers, each as likely; empty: the trace's own"
        ),
    ] = ()
    length_spread: Annotated[
        float,
        Meta(
            ge=0,
            le=3,
            description="of a model that generates: how far lengths are spread, as the standard deviation of their "
            "logarithm; 0 draws them as they are",
        ),
    ] = 0.0
    shared_prefix: Annotated[
        int,
        Meta(
            ge=0,
            description="of a model that generates: tokens that prompts begin with in common, such as instructions",
        ),
    ] = 0
    num_prefixes: Annotated[
        Count, Meta(description="of a model that generates: how many such beginnings there are, each as likely")
    ] = 1
