"""Which path leads to which endpoint, and how an endpoint is let answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias
from urllib.parse import unquote

import msgspec

from carpool.serve.faults import NOT_FOUND, Fault
from carpool.serve.http.exchange import Exchange, Head, Reply, given_id

METHOD_NOT_ALLOWED = 405
_MOST_KNOWN = 1024
_SHOWN = 100

Endpoint: TypeAlias = Callable[[Exchange], Reply | Awaitable[Reply | None] | None]
"""Answers an exchange: by what it returns; later, by what it awaits; or, returning None, by `respond` when it likes.

A `CarpoolError` that it raises is written by its route; whatever else it raises is logged, and answered 500.
"""
WriteError: TypeAlias = Callable[[Fault], Reply]
Audience: TypeAlias = Literal["clients", "health", "metrics"]
"""Who asks: clients need a key where there are keys; probes and scrapers may be let in without one."""


@dataclass(frozen=True, slots=True)
class Route:
    """A method and a path, and who answers them.

    Args:
        method: such as `GET`, which HEAD is answered by as well.
        pattern: a path; a segment in braces stands for any one, as in `/v2/models/{model}/infer`.
        endpoint: answers.
        write_error: writes a fault in the way of the protocol.
        max_body_bytes: the largest body that is read; None leaves it to the server's limit.
        audience: who asks.
    """

    method: str
    pattern: str
    endpoint: Endpoint
    write_error: WriteError
    max_body_bytes: int | None = None
    audience: Audience = "clients"


@dataclass(frozen=True, slots=True)
class Match:
    """What a request line means.

    Args:
        route: who answers.
        path: decoded, without the query.
        query: as it came.
        params: what stands for the segments in braces, decoded.
    """

    route: Route
    path: str
    query: str
    params: dict[str, str]

    def head(self, method: str, headers: Mapping[bytes, bytes]) -> Head:
        """Return what the whole head says, of which this is the first line.

        Args:
            method: in capitals.
            headers: by their names in lower case.
        """
        write_error = self.route.write_error
        return Head(method, self.path, self.query, self.params, headers, write_error, given_id(headers))


@dataclass(slots=True)
class _Node:
    """A place in the tree of segments."""

    literal: dict[str, _Node] = field(default_factory=dict)
    anything: _Node | None = None
    routes: dict[str, tuple[Route, tuple[str, ...]]] = field(default_factory=dict)  # by method; names in braces


class Router:
    """Finds the route of a request.

    Args:
        routes: at least one; what no route takes is refused in the way of the first one whose path begins alike.
    """

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes: Sequence[Route] = tuple(routes)
        self._root = _Node()
        self._known: dict[tuple[str, bytes], Match] = {}
        for route in self.routes:
            self._add(route)

    def _add(self, route: Route) -> None:
        node, names = self._root, []
        for segment in route.pattern.split("/")[1:]:
            if segment.startswith("{"):
                names.append(segment[1:-1])
                node.anything = node.anything or _Node()
                node = node.anything
            else:
                node = node.literal.setdefault(segment, _Node())
        node.routes.setdefault(route.method, (route, tuple(names)))

    def match(self, method: str, target: bytes) -> Match:
        """Find who answers a request; where nobody does, that is a route which says so.

        Args:
            method: in capitals.
            target: the path and the query as they stand in the request line.
        """
        known = self._known.get((method, target))
        if known is not None:
            return known
        path, _, query = target.decode("latin-1").partition("?")
        segments = [unquote(segment) for segment in path.split("/")[1:]]
        found = _find(self._root, segments, 0)
        shown = unquote(path)
        if found is None:
            return Match(self._refusing(segments, f"there is nothing at {shown[:_SHOWN]}"), shown, query, {})
        node, values = found
        answering = node.routes.get(method) or (node.routes.get("GET") if method == "HEAD" else None)
        if answering is None:
            return Match(_not_allowed(node, method, shown), shown, query, {})
        route, names = answering
        match = Match(route, shown, query, dict(zip(names, values, strict=True)))
        if len(self._known) >= _MOST_KNOWN:  # somebody asks for ever new paths
            self._known.clear()
        self._known[method, target] = match
        return match

    def _refusing(self, segments: Sequence[str], message: str) -> Route:
        start = f"/{segments[0]}/" if segments else "/"
        kin = next((route for route in self.routes if f"{route.pattern}/".startswith(start)), self.routes[0])
        paths = ", ".join(sorted({f"/{route.pattern.split('/')[1]}" for route in self.routes}))

        def refuse(_exchange: Exchange) -> Reply:
            raise Fault(NOT_FOUND, f"{message}: what there is begins with {paths}")

        return replace(kin, pattern="", endpoint=refuse, audience="clients")


def _find(node: _Node, segments: Sequence[str], depth: int) -> tuple[_Node, tuple[str, ...]] | None:
    """Find the place of a path: a segment's own name comes before braces, which take any but an empty one."""
    if depth == len(segments):
        return (node, ()) if node.routes else None
    segment = segments[depth]
    literal = node.literal.get(segment)
    found = _find(literal, segments, depth + 1) if literal is not None else None
    if found is not None or node.anything is None or not segment:
        return found
    found = _find(node.anything, segments, depth + 1)
    return found and (found[0], (segment, *found[1]))


def _not_allowed(node: _Node, method: str, path: str) -> Route:
    kin = next(iter(node.routes.values()))[0]
    allowed = sorted({*node.routes, *({"HEAD"} if "GET" in node.routes else ())})

    def refuse(_exchange: Exchange) -> Reply:
        message = f"{method[:_SHOWN]} is not for {path[:_SHOWN]}: use {' or '.join(allowed)}"
        reply = kin.write_error(Fault(METHOD_NOT_ALLOWED, message))
        return msgspec.structs.replace(reply, headers=(*reply.headers, (b"allow", ", ".join(allowed).encode())))

    return replace(kin, endpoint=refuse, audience="clients")


def let_answer(route: Route, exchange: Exchange) -> None:
    """Have a route's endpoint answer an exchange; whatever goes wrong there is answered too.

    What it wants to await runs as a task, which is cancelled when the client goes away.
    """
    try:
        answer = route.endpoint(exchange)
    except Exception as error:  # noqa: BLE001 - logged, unless it says what the client is to be told
        exchange.fail(error)
        return
    if answer is None:
        return
    if isinstance(answer, Reply):
        exchange.respond(answer)
        return
    task = asyncio.ensure_future(_answer_later(exchange, answer))
    exchange.on_gone(task.cancel)


async def _answer_later(exchange: Exchange, answer: Awaitable[Reply | None]) -> None:
    try:
        reply = await answer
    except Exception as error:  # noqa: BLE001 - logged, unless it says what the client is to be told
        exchange.fail(error)
        return
    if reply is not None:
        exchange.respond(reply)
    if exchange.waits:
        exchange.fail(RuntimeError("the endpoint ended without an answer, or in the midst of one"))
