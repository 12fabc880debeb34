"""`[ray]`: replicas on Ray Serve; its keys, and what they amount to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta

from carpool.config.leaf import Count, Name, length_of_time_s
from carpool.errors import ConfigError
from carpool.units import parse_duration_s

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class RayTable:
    """`[ray]`: replicas on Ray Serve, where the server runs there."""

    address: Annotated[
        Name | None, Meta(description="cluster to run on, such as `auto`; by default a new one on this machine")
    ] = None
    num_replicas: Annotated[
        Count | None, Meta(description="replicas to start with, each with its own batcher; by default `min_replicas`")
    ] = None
    min_replicas: Annotated[Count, Meta(description="fewest replicas, where their number may change")] = 1
    max_replicas: Annotated[Count | None, Meta(description="most replicas; by default their number never changes")] = (
        None
    )
    target_delay: Annotated[
        str | float,
        Meta(description="predicted wait of a request beyond which there are to be more replicas"),
        length_of_time_s,
    ] = "100ms"
    up_after: Annotated[
        str | float, Meta(description="how long requests must wait too long before there are more"), parse_duration_s
    ] = "3s"
    down_after: Annotated[
        str | float, Meta(description="how long fewer must be enough before there are fewer"), parse_duration_s
    ] = "30s"
    num_cpus: Annotated[float, Meta(ge=0, description="CPUs that Ray sets aside for a replica")] = 1.0
    num_gpus: Annotated[float, Meta(ge=0, description="GPUs that Ray sets aside for a replica, parts of one too")] = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RaySettings:
    """How many replicas there are on Ray Serve, and of what; `max_replicas` is None where the number never changes."""

    address: str | None = None
    num_replicas: int = 1
    min_replicas: int = 1
    max_replicas: int | None = None
    target_delay_s: float = 0.1
    up_after_s: float = 3.0
    down_after_s: float = 30.0
    num_cpus: float = 1.0
    num_gpus: float = 0.0


def ray_settings(table: Mapping[str, Any]) -> RaySettings:
    """Settle the numbers of replicas.

    Args:
        table: every key of `[ray]` with its value, durations in seconds.

    Raises:
        ConfigError: the numbers contradict each other.
    """
    least, most = table["min_replicas"], table["max_replicas"]
    start = table["num_replicas"] or least
    if start < least or (most is not None and start > most):
        limits = f"min_replicas = {least}" + (f" and max_replicas = {most}" if most is not None else "")
        raise ConfigError(f"[ray] num_replicas = {start} does not lie within {limits}: change one of them")
    kept = {key: table[key] for key in ("address", "min_replicas", "max_replicas", "num_cpus", "num_gpus")}
    seconds = {f"{key}_s": table[key] for key in ("target_delay", "up_after", "down_after")}
    return RaySettings(**kept, **seconds, num_replicas=start)
