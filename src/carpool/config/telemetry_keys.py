"""The keys of `[telemetry]`: what a server says of itself, and where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal
from urllib.parse import urlsplit

from msgspec import Meta

from carpool.errors import ConfigError


def _collector(value: str | None) -> str | None:
    """Read the address of a collector."""
    if value is None:
        return None
    try:
        parts = urlsplit(value)
        named = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a bracket that is left open, or a port that there is not
        named = False
    if not named:
        raise ConfigError(f"{value!r} is no address of a collector; it must be such as http://127.0.0.1:4318")
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetryTable:
    """`[telemetry]`: logs, traces and events."""

    log_format: Annotated[
        Literal["text", "json"], Meta(description="`text` for people, `json` for an object a line")
    ] = "text"
    log_file: Annotated[str | None, Meta(description="file that the log is written to; by default standard error")] = (
        None
    )
    access_log: Annotated[bool, Meta(description="whether to log a line for each request")] = False
    traces: Annotated[
        str | None,
        Meta(description="OpenTelemetry collector that traces are sent to, such as `http://127.0.0.1:4318`"),
        _collector,
    ] = None
    trace_share: Annotated[
        float, Meta(ge=0, le=1, description="share of the requests that is traced, where the client did not choose")
    ] = 1.0
    events: Annotated[
        str | None,
        Meta(description="directory that what happened is written to, a file for each model, which a plan can replay"),
    ] = None
