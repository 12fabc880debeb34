"""The door of the way in: counts who is inside, and closes before the replicas are taken down."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from carpool.serve.http.asgi import Application, Receive, Scope, Send


class Door:
    """Leads requests to an application; once it is closed, to another one that refuses them.

    Args:
        application: answers those that come while it is open.
        refusing: answers the others.
    """

    def __init__(self, application: Application, refusing: Application) -> None:
        self._application = application
        self._refusing = refusing
        self._num_inside = 0
        self._is_closed = False
        self._empty = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, as an ASGI application does."""
        if self._is_closed or scope["type"] != "http":
            await (self._refusing if self._is_closed else self._application)(scope, receive, send)
            return
        self._num_inside += 1
        try:
            await self._application(scope, receive, send)
        finally:
            self._num_inside -= 1
            self._note()

    async def close(self, timeout_s: float) -> int:
        """Let nobody in any more, wait for those inside, and return how many are left.

        Args:
            timeout_s: how long to wait.
        """
        self._is_closed = True
        self._note()
        try:
            await asyncio.wait_for(self._empty.wait(), timeout_s)
        except TimeoutError:
            return self._num_inside
        return 0

    def _note(self) -> None:
        if self._is_closed and not self._num_inside:
            self._empty.set()
