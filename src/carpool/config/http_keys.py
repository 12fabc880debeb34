"""The keys of `[http]`: what clients may do, who they must be, and encryption."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from msgspec import Meta

from carpool.config.leaf import BESIDE, Count, length_of_time_s, some
from carpool.units import parse_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpTable:
    """`[http]`: what clients may do, who they must be, and encryption."""

    api_keys: Annotated[
        str | None,
        Meta(description="file of API keys: on each line `KEY`, `KEY TENANT` or `KEY TENANT control`; by default none"),
        BESIDE,
    ] = None
    keyless: Annotated[
        tuple[Literal["health", "metrics"], ...],
        Meta(description="what needs no key where there are keys: `health` (live and ready), `metrics`"),
    ] = ("health",)
    tls_certificate: Annotated[
        str | None, Meta(description="certificate in PEM: connections are encrypted; by default they are not"), BESIDE
    ] = None
    tls_key: Annotated[
        str | None, Meta(description="its key in PEM; by default it stands in the certificate's file"), BESIDE
    ] = None
    max_connections: Annotated[Count, Meta(description="most connections at a time; one more is answered 503")] = 8192
    max_header: Annotated[
        str | int, Meta(description="largest head of a request; a larger one is answered 431"), some(parse_bytes)
    ] = "32KiB"
    header_timeout: Annotated[
        str | float,
        Meta(description="longest that the head of a request may take to come; then it is answered 408"),
        length_of_time_s,
    ] = "10s"
    body_timeout: Annotated[
        str | float,
        Meta(description="longest that its body may take to come; then it is answered 408"),
        length_of_time_s,
    ] = "60s"
    idle_timeout: Annotated[
        str | float, Meta(description="how long a connection without a request stays open"), length_of_time_s
    ] = "75s"
    write_timeout: Annotated[
        str | float,
        Meta(description="how long a client may take nothing of its answer before it is cut off"),
        length_of_time_s,
    ] = "30s"
    compress_from: Annotated[
        str | int,
        Meta(description="answers as large as this are compressed for clients that ask for it; 0 compresses none"),
        parse_bytes,
    ] = "64KiB"


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings:
    """What clients may do, who they must be, and encryption; None where there is none."""

    api_keys: Path | None
    keyless: tuple[str, ...]
    tls_certificate: Path | None
    tls_key: Path | None
    max_connections: int
    max_header_bytes: int
    header_timeout_s: float
    body_timeout_s: float
    idle_timeout_s: float
    write_timeout_s: float
    compress_from_bytes: int | None


def http_settings(table: Mapping[str, Any]) -> HttpSettings:
    """Return the settings of a table whose values have been read.

    Args:
        table: By key.
    """
    return HttpSettings(
        api_keys=_path(table["api_keys"]),
        tls_certificate=_path(table["tls_certificate"]),
        tls_key=_path(table["tls_key"]),
        header_timeout_s=table["header_timeout"],
        body_timeout_s=table["body_timeout"],
        idle_timeout_s=table["idle_timeout"],
        write_timeout_s=table["write_timeout"],
        keyless=tuple(table["keyless"]),
        max_connections=table["max_connections"],
        max_header_bytes=table["max_header"],
        compress_from_bytes=table["compress_from"] or None,
    )


def _path(value: str | None) -> Path | None:
    return None if value is None else Path(value)
