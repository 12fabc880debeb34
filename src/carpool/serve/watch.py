"""Watching over requests: how many were answered how, one line of log each, and their traces."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

from carpool.serve.logs import log_access

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from carpool.serve.http.exchange import Exchange
    from carpool.serve.http.routing import Route
    from carpool.signals.export import RequestKey
    from carpool.signals.tracing import Traces

_MS = 1e3


class RequestWatch:
    """Counts the requests of a server and, where asked for, logs and traces them.

    Args:
        access: whether to log a line for each.
        traces: makes their spans; None traces nothing.
    """

    def __init__(self, *, access: bool = False, traces: Traces | None = None) -> None:
        self.num_answered: Counter[RequestKey] = Counter()
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
            exchange.watched = exchange.id, time.perf_counter(), self._span(exchange, route)

    def ended(self, exchange: Exchange, route: Route, status: int, num_bytes: int) -> None:
        """Take note of the end of a request."""
        self.num_answered[exchange.method, route.pattern, status] += 1
        if exchange.watched is None:
            return
        request_id, began_at, span = exchange.watched
        if span is not None and self._traces is not None:
            self._traces.end(span, status)
        if self._access:
            log_access(
                {
                    "method": exchange.method,
                    "path": exchange.path,
                    "status": status,
                    "duration_ms": round(_MS * (time.perf_counter() - began_at), 3),
                    "request_id": request_id,
                    "tenant": exchange.tenant,
                    "client": exchange.client,
                    "num_bytes": num_bytes,
                }
            )

    def _span(self, exchange: Exchange, route: Route) -> Span | None:
        if self._traces is None:
            return None
        headers = {name: exchange.header(name.encode()) for name in ("traceparent", "tracestate")}
        return self._traces.begin(exchange.id, f"{route.method} {route.pattern}", headers)
