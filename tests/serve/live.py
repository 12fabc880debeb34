"""A server on a real socket, in this process: it serves on this thread while a client of the test's own visits it."""

from __future__ import annotations

import os
import signal
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from carpool.serve.access import Access
from carpool.serve.app import create_router
from carpool.serve.control import Control
from carpool.serve.front import Front
from carpool.serve.http.limits import Limits
from carpool.serve.offer import Offer
from carpool.serve.server import Ending, listen, run_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from carpool.serve.on_offer import OnOffer

T = TypeVar("T")


def stop() -> None:
    """Ask the server to stop, as a service manager does."""
    os.kill(os.getpid(), signal.SIGTERM)


def visit(served: OnOffer, client: Callable[[str], T], *, drain_timeout_s: float = 30.0) -> T:
    """Serve until the client is done; return what it brought home.

    Args:
        served: not yet started.
        client: is given the server's URL, on a thread of its own.
        drain_timeout_s: how long accepted requests may take to finish.
    """
    return visit_to_the_end(served, client, drain_timeout_s=drain_timeout_s)[0]


def visit_to_the_end(
    served: OnOffer,
    client: Callable[[str], T],
    *,
    drain_timeout_s: float = 30.0,
    front: Front | None = None,
    control: Control | None = None,
) -> tuple[T, Ending]:
    """Do as `visit` does; return also how the server ended."""
    before = front or Front(limits=Limits(), access=Access())
    listening, offer = listen("127.0.0.1", 0, scheme=before.scheme), Offer.of(served)
    visits: list[Future[T]] = []

    def use(url: str) -> T:
        try:
            return client(url)
        finally:
            stop()

    with _signals_ignored(), ThreadPoolExecutor(1) as pool:
        ending = run_server(
            create_router(offer, control=control or Control(before.access)),
            offer,
            listening,
            drain_timeout_s=drain_timeout_s,
            access=before.access,
            tls=before.tls,
            on_ready=lambda: visits.append(pool.submit(use, listening.url)),
        )
    return visits[0].result(60), ending


@contextmanager
def _signals_ignored() -> Iterator[None]:
    """Let a stop that comes after the server has stopped pass."""
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
