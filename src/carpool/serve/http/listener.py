"""The listening end: takes connections, looks them over from time to time, and lets them finish before it stops."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

from carpool.serve.http.protocol import Connection
from carpool.serve.http.shared import Shared

if TYPE_CHECKING:
    import ssl

    from carpool.serve.access import Access
    from carpool.serve.http.limits import Limits
    from carpool.serve.http.routing import Router
    from carpool.serve.http.shared import Watcher

_BACKLOG = 2048
# How long a connection without a request may still bring one once the server has been asked to stop: a client that
# has just had an answer is about to ask again, and learns by the next answer that the connection closes.
GRACE_S = 0.25
_FLUSH_S = 1.0


class Listener:
    """Serves routes on a socket.

    Args:
        router: finds the endpoint of a request.
        limits: what clients may do.
        access: says whose a request is.
        tls: encrypts the connections; None leaves them plain.
        watcher: is told of every request.
    """

    def __init__(
        self,
        router: Router,
        *,
        limits: Limits,
        access: Access,
        tls: ssl.SSLContext | None = None,
        watcher: Watcher | None = None,
    ) -> None:
        self._shared = Shared(router, limits, access, watcher)
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._sweep: asyncio.TimerHandle | None = None
        self._stop_waiting = asyncio.Event()

    @property
    def num_connections(self) -> int:
        """Open connections."""
        return len(self._shared.connections)

    async def start(self, listening: socket.socket) -> None:
        """Take connections.

        Args:
            listening: bound; it stays the caller's to close.
        """
        loop = asyncio.get_running_loop()
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # every connection has it from here
        self._server = await loop.create_server(
            lambda: Connection(self._shared),
            sock=listening,
            backlog=_BACKLOG,
            ssl=self._tls,
            ssl_handshake_timeout=self._shared.limits.header_timeout_s if self._tls else None,
        )
        self._tick()

    def _tick(self) -> None:
        """Tell the time, and look over all connections; the one timer that they share."""
        shared = self._shared
        shared.tick()
        for connection in list(shared.connections):
            connection.check(shared.now)
        self._sweep = asyncio.get_running_loop().call_later(shared.limits.tick_s, self._tick)

    def hurry(self) -> None:
        """Have `drain` wait no longer."""
        self._stop_waiting.set()

    async def drain(self, timeout_s: float) -> bool:
        """Take no more connections, answer what was accepted, and close.

        Args:
            timeout_s: how long that may take; what is not answered by then is given up.

        Returns:
            Whether everything that was accepted has been answered.
        """
        self._shared.draining = True
        if self._server is not None:
            self._server.close()
        grace = asyncio.get_running_loop().call_later(min(GRACE_S, timeout_s), self._close_idle)
        await self._until_closed(timeout_s)
        grace.cancel()
        left = [connection for connection in self._shared.connections if connection.is_answering]
        for connection in list(self._shared.connections):
            connection.give_up()
        self._stop_waiting.clear()
        await self._until_closed(_FLUSH_S)
        for connection in list(self._shared.connections):
            connection.abort()
        if self._sweep is not None:
            self._sweep.cancel()
        return not left

    def _close_idle(self) -> None:
        for connection in list(self._shared.connections):
            connection.close_if_idle()

    async def _until_closed(self, timeout_s: float) -> None:
        """Wait until no connection is left, for so long, or until there is a hurry."""
        gone = asyncio.ensure_future(self._shared.until_alone())
        hurry = asyncio.ensure_future(self._stop_waiting.wait())
        await asyncio.wait((gone, hurry), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        for waiting in (gone, hurry):
            waiting.cancel()
