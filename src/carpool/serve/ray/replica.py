"""One replica: the models on offer, each behind its batcher, and the routes that lead to them."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from carpool.serve.app import create_router
from carpool.serve.http.asgi import as_asgi
from carpool.serve.http.limits import Limits
from carpool.serve.ray.autoscale import DELAY, LOAD
from carpool.serve.ray.gauge import Gauge, look_at

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from carpool.serve.offer import Offer


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request on its way to a replica; read whole, and checked as far as the way in does.

    Args:
        method: such as `POST`.
        path: as it came, in percent-encoding.
        query: as it came, without the question mark.
        headers: names in lower case.
        body: decompressed.
        client: the address of the other side.
    """

    method: str
    path: bytes
    query: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    client: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """The whole answer of a replica."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


def open_offer(target: str | None, *, flags: Mapping[str, Any], environ: Mapping[str, str], directory: str) -> Offer:
    """Find the models of a command line, in a process that may have begun elsewhere.

    Args:
        target: as `carpool serve` takes it.
        flags: settings of the command line.
        environ: environment variables.
        directory: where relative paths begin; it must be there on every machine that runs a replica.

    Raises:
        CarpoolError: something of what is told is wrong.
    """
    from carpool.serve.offer import Offer
    from carpool.serve.repository import open_source

    os.chdir(directory)
    settings, source = open_source(target, flags=flags, environ=environ)
    server = settings.server
    return Offer(source, num_loading=server.num_loading, strict=server.strict, drain_timeout_s=server.drain_timeout_s)


class Replica:
    """Runs models, and answers what is asked of them.

    Args:
        build: makes the models on offer, not yet started.
        drain_timeout_s: how long accepted requests may take to finish once it is asked to stop.
        max_body_bytes: the largest body of a request, once decompressed.

    Raises:
        CarpoolError: a model can't be loaded.
    """

    def __init__(self, build: Callable[[], Offer], *, drain_timeout_s: float, max_body_bytes: int) -> None:
        self._offer = build()
        self._drain_timeout_s = drain_timeout_s
        self._application = as_asgi(create_router(self._offer), limits=Limits(max_body_bytes=max_body_bytes))
        self._gauge = Gauge(time.monotonic())
        self._offer.start()

    async def answer(self, asked: Asked) -> Answered:
        """Answer one request; being cancelled takes back what still waits of it."""
        scope = {
            "type": "http",
            "method": asked.method,
            "path": asked.path.decode("latin-1"),
            "raw_path": asked.path,
            "query_string": asked.query,
            "headers": asked.headers,
            "client": (asked.client, 0),
        }
        told: list[Any] = [{"type": "http.request", "body": asked.body}]
        sent: list[Any] = []

        async def receive() -> Any:
            return told.pop() if told else await asyncio.Event().wait()  # a client that leaves cancels the whole call

        async def send(message: Any) -> None:
            sent.append(message)

        await self._application(scope, receive, send)
        start, *parts = sent
        body = b"".join(part.get("body", b"") for part in parts)
        return Answered(status=start["status"], headers=tuple(start["headers"]), body=body)

    def check_health(self) -> None:
        """Have this replica replaced where a model that it should serve has failed for good.

        Raises:
            CarpoolError: one has; the message says which, and why.
        """
        for served in self._offer.all():
            if served.failure is not None:
                served.check_ready()

    def record_autoscaling_stats(self) -> dict[str, float]:
        """Tell the autoscaler how long requests wait here, and what arrives."""
        sights = (
            (f"{served.name}/{served.version}", look_at(served)) for served in self._offer.batched() if served.ready
        )
        reading = self._gauge.read(sights, time.monotonic())
        return {DELAY: reading.delay_s, LOAD: reading.load}

    def close(self) -> None:
        """Finish what was accepted, and let the models go."""
        self._offer.close(self._drain_timeout_s)
