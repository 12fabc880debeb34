"""What all connections of a server share."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Protocol

from carpool.serve.faults import UNAVAILABLE, Fault
from carpool.serve.http.exchange import request_ids
from carpool.serve.http.known import KnownHeads
from carpool.serve.http.wire import Heads

if TYPE_CHECKING:
    from carpool.serve.access import Access
    from carpool.serve.http.exchange import Exchange
    from carpool.serve.http.limits import Limits
    from carpool.serve.http.routing import Route, Router

CLIENT_GONE = 499
"""Stands for the status of a request whose client left before it was answered, as in other servers' logs."""
_FULL_RETRY_S = 1.0
_logger = logging.getLogger("carpool.serve")


class Member(Protocol):
    """A connection, as the listening end sees it."""

    @property
    def is_answering(self) -> bool:
        """Whether a request has been taken that is not answered."""

    def check(self, now: float) -> None:
        """Close what is idle, answer what is slow to ask, and break off what is slow to read."""

    def close_if_idle(self) -> None:
        """Close the connection if it waits for its next request."""

    def give_up(self) -> None:
        """Answer what waits with the news that it is given up, and close."""

    def abort(self) -> None:
        """Close at once, whatever is unsent."""


class Watcher(Protocol):
    """Is told of every request and connection: for logs, traces and counts. Must be cheap, and must not raise."""

    def opened(self) -> None:
        """There is one more connection."""

    def closed(self) -> None:
        """There is one less."""

    def began(self, exchange: Exchange, route: Route) -> None:
        """A request is about to be answered."""

    def ended(self, exchange: Exchange, route: Route, status: int, num_bytes: int) -> None:
        """A request was answered, or `CLIENT_GONE` stands for the status."""


class Shared:
    """What all connections of a server share; lives on one event loop.

    Time is told here once a tick rather than asked for by every request.

    Args:
        router: finds the endpoint of a request.
        limits: what clients may do.
        access: says whose a request is.
        watcher: is told of every request; None where nobody wants to know.
    """

    def __init__(self, router: Router, limits: Limits, access: Access, watcher: Watcher | None = None) -> None:
        self.watcher = watcher
        self.router = router
        self.limits = limits
        self.access = access
        self.heads = Heads()
        self.known_heads = KnownHeads()
        self.connections: set[Member] = set()
        self.draining = False
        self.now = time.monotonic()
        self._ids = request_ids()
        self._alone = asyncio.Event()

    def tick(self) -> None:
        """Tell the time anew."""
        self.now = time.monotonic()
        self.heads.set_date(time.time())

    def new_id(self) -> str:
        """Make a name for a request whose client gave none."""
        return next(self._ids)

    def joined(self, connection: Member) -> None:
        """Take note of a new connection."""
        self.connections.add(connection)
        if self.watcher is not None:
            self.watcher.opened()

    def left(self, connection: Member) -> None:
        """Take note that a connection is no more."""
        self.connections.discard(connection)
        if self.watcher is not None:
            self.watcher.closed()
        if not self.connections:
            self._alone.set()

    async def until_alone(self) -> None:
        """Wait until there is no connection."""
        while self.connections:
            self._alone.clear()
            await self._alone.wait()

    @property
    def is_full(self) -> bool:
        """Whether there are more connections than there may be."""
        return len(self.connections) > self.limits.max_connections

    def no_room(self) -> Fault:
        """Return the fault of a connection that is one too many."""
        message = f"there are {self.limits.max_connections:,} connections, which is the most: close some, or come back"
        return Fault(UNAVAILABLE, message, retry_after_s=_FULL_RETRY_S)

    def log_failure(self, error: BaseException) -> None:
        """Log what should never have happened on a connection."""
        _logger.error("unexpected failure, a fault in carpool, in reading a request", exc_info=error)
