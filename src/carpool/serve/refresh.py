"""Has the models on offer follow their files: when a SIGHUP asks for it, and every so often."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from carpool.serve.offer import Offer

_logger = logging.getLogger("carpool.serve")


class Refresh:
    """Brings models up to their files, one time after the other; lives on the event loop that it begins on.

    Args:
        offer: the models.
        watch_s: how often to look by itself; 0 for never.
    """

    def __init__(self, offer: Offer, watch_s: float = 0.0) -> None:
        self._offer = offer
        self._watch_s = watch_s
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Begin, on the loop that runs now."""
        if hasattr(signal, "SIGHUP"):  # which Windows has not
            with contextlib.suppress(ValueError, RuntimeError):  # a loop that is not the main thread's hears no signals
                asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._wanted.set)
        self._task = asyncio.get_running_loop().create_task(self._go_on())

    async def _go_on(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wanted.wait(), self._watch_s or None)
                _logger.info("asked by SIGHUP to look for changed files")
            is_asked = self._wanted.is_set()
            self._wanted.clear()
            await self._offer.reload(retry=is_asked)
