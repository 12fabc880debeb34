"""Watching over requests: how many were answered how, one line of log each, and their traces."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from carpool.serve.logs import log_access

if TYPE_CHECKING:
    from collections.abc import Mapping

    from carpool.serve.http.exchange import Exchange
    from carpool.serve.http.routing import Route
    from carpool.signals.export import CallKey, RequestKey
    from carpool.signals.tracing import Traces

_MS = 1e3
_PARENT = ("traceparent", "tracestate")


@dataclass(frozen=True, slots=True)
class Watched:
    """A request that is watched.

    Args:
        request_id: what it is called.
        began_at: when, by `time.perf_counter`.
        span: its part in a trace, an OpenTelemetry `Span`; None where it has none.
    """

    request_id: str
    began_at: float
    span: Any


class RequestWatch:
    """Counts the requests of a server and, where asked for, logs and traces them.

    Args:
        access: whether to log a line for each.
        traces: makes their spans; None traces nothing.
    """

    def __init__(self, *, access: bool = False, traces: Traces | None = None) -> None:
        self.num_answered: Counter[RequestKey] = Counter()
        self.num_called: Counter[CallKey] = Counter()
        self.num_connections = 0
        self._access = access
        self._traces = traces

    def opened(self) -> None:
        """Count a connection."""
        self.num_connections += 1

    def closed(self) -> None:
        """Count one less."""
        self.num_connections -= 1

    def began(self, exchange: Exchange, route: Route) -> None:
        """Take note of a request that is about to be answered."""
        if self._access or self._traces is not None:
            headers = {name: exchange.header(name.encode()) for name in _PARENT}
            exchange.watched = self._open(exchange.id, f"{route.method} {route.pattern}", headers)

    def ended(self, exchange: Exchange, route: Route, status: int, num_bytes: int) -> None:
        """Take note of the end of a request."""
        self.num_answered[exchange.method, route.pattern, status] += 1
        watched: Watched | None = exchange.watched
        if watched is None:
            return
        if watched.span is not None and self._traces is not None:
            self._traces.end(watched.span, status)
        said = {"method": exchange.method, "path": exchange.path, "status": status}
        self._log(watched, said, {"tenant": exchange.tenant, "client": exchange.client, "num_bytes": num_bytes})

    def began_call(self, name: str, metadata: Mapping[str, str]) -> Watched | None:
        """Take note of a gRPC call that is about to be answered.

        Args:
            name: of the method, in full.
            metadata: what the client sent besides the message.
        """
        if not self._access and self._traces is None:
            return None
        headers = {key: metadata.get(key, "") for key in _PARENT}
        return self._open(metadata.get("x-request-id", ""), name, headers)

    def ended_call(self, watched: Watched | None, name: str, code: int, *, client: str, num_bytes: int) -> None:
        """Take note of the end of a gRPC call.

        Args:
            watched: what `began_call` gave.
            name: of the method, in full.
            code: gRPC's number for how it ended; 0 is well.
            client: the address of the other side.
            num_bytes: size of the answer.
        """
        self.num_called[name, code] += 1
        if watched is None:
            return
        if watched.span is not None and self._traces is not None:
            self._traces.end_call(watched.span, code)
        self._log(watched, {"method": "gRPC", "path": name, "status": code}, {"client": client, "num_bytes": num_bytes})

    def _open(self, request_id: str, name: str, headers: Mapping[str, str]) -> Watched:
        span = None if self._traces is None else self._traces.begin(request_id, name, headers)
        return Watched(request_id, time.perf_counter(), span)

    def _log(self, watched: Watched, said: Mapping[str, Any], more: Mapping[str, Any]) -> None:
        if self._access:
            duration_ms = round(_MS * (time.perf_counter() - watched.began_at), 3)
            log_access({**said, "duration_ms": duration_ms, "request_id": watched.request_id, **more})
