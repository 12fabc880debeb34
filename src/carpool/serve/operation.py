"""An operation of the server: a route, and what is to be said of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from carpool.serve.faults import (
    BAD_REQUEST,
    FAILED,
    NOT_FOUND,
    TOO_LATE,
    TOO_MANY,
    UNAVAILABLE,
)
from carpool.serve.http.routing import Route

JSON = "application/json"
BINARY = "application/octet-stream"
# A request that names a model may fail by that name, and one that runs it in every way that running can fail.
OF_A_MODEL = (NOT_FOUND, UNAVAILABLE)
RUNS_A_MODEL = (BAD_REQUEST, NOT_FOUND, TOO_MANY, FAILED, UNAVAILABLE, TOO_LATE)


@dataclass(frozen=True, slots=True)
class Header:
    """A header that an operation reads.

    Args:
        name: as it is written.
        summary: what it says.
        schema: of its value, as JSON Schema.
    """

    name: str
    summary: str
    schema: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A route, and what is to be said of it.

    Args:
        route: the method, the path and who answers.
        summary: what it does, in a line.
        group: the protocol that it belongs to.
        answer: the type of what a 200 holds; a media type where that is no JSON.
        request: the type of the body; None where none is read.
        statuses: what it may be answered with besides 200 and what any request may be.
        headers: those that it reads.
        binary: whether the body and the answer may have bytes behind their JSON.
        optional: whether the body may be left out.
    """

    route: Route
    summary: str
    group: str
    answer: Any
    request: Any = None
    statuses: tuple[int, ...] = ()
    headers: tuple[Header, ...] = ()
    binary: bool = False
    optional: bool = False
