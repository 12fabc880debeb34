"""Load from code: `run_load` for an open loop, `run_closed` for a closed one, `blocking` where no event loop runs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from carpool.errors import ConfigError, ConnectionFailed
from carpool.loadgen.clock import run_in_loop
from carpool.loadgen.generator import Run, drive_closed, drive_open
from carpool.loadgen.http import HttpSender, Requests, open_session, probe
from carpool.plan.arrivals import Times

if TYPE_CHECKING:
    from collections.abc import Callable

    import aiohttp

    from carpool.loadgen.generator import Progress
    from carpool.loadgen.records import LoadResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """An open loop.

    Args:
        requests: What to send.
        arrivals: When, rising seconds from the start [n].
        duration_s: The length of the schedule.
        timeout_s: Longest wait for an answer, from the intended time.
        max_in_flight: Most requests unanswered at once; those beyond it are counted and not sent.
        first_timeout_s: Longest wait for the first answer, which shows that the server is there; None: `timeout_s`.
    """

    requests: Requests
    arrivals: Times
    duration_s: float
    timeout_s: float = 10.0
    max_in_flight: int = 4096
    first_timeout_s: float | None = None

    def __post_init__(self) -> None:
        if not len(self.arrivals):
            raise ConfigError(f"0 requests arrive in {self.duration_s:g} s: raise the rate or the duration")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedLoad:
    """A closed loop: clients that each send, wait for the answer, and send again.

    Args:
        requests: What to send.
        connections: The clients.
        duration_s: How long they go on sending.
        timeout_s: Longest wait for an answer.
        num_requests: Most requests to send; no limit but time where None.
        pauses_s: How long a client rests before a request, taken in turn; empty for never.
    """

    requests: Requests
    connections: int
    duration_s: float
    timeout_s: float = 10.0
    num_requests: int | None = None
    pauses_s: Sequence[float] = ()


async def run_load(
    load: Load, *, watch: Callable[[Progress], None] | None = None, on_ready: Callable[[], None] | None = None
) -> LoadResult:
    """Send an open loop's requests and record each.

    Cancelling it (Ctrl-C) ends it early: the result holds what was measured and is marked as interrupted.

    Args:
        load: What to send, and when.
        watch: Called a few times a second with the progress.
        on_ready: Called once the server has answered a first request, just before the load begins.

    Raises:
        ConnectionFailed: A first request, sent before the load, was not answered with success.
    """
    async with open_session(load.requests.headers, load.requests.trusted) as session:
        sender = await _ready_sender(session, load.requests, load.first_timeout_s or load.timeout_s)
        if on_ready is not None:
            on_ready()
        run = Run(sender, timeout_s=load.timeout_s)
        return await drive_open(
            run, load.arrivals, window_s=load.duration_s, max_in_flight=load.max_in_flight, watch=watch
        )


async def run_closed(
    load: ClosedLoad, *, watch: Callable[[Progress], None] | None = None, on_ready: Callable[[], None] | None = None
) -> LoadResult:
    """Send a closed loop's requests and record each; cancelling it keeps what was measured.

    Args:
        load: What to send.
        watch: Called a few times a second with the progress.
        on_ready: Called once the server has answered a first request, just before the load begins.

    Raises:
        ConnectionFailed: A first request, sent before the load, was not answered with success.
    """
    async with open_session(load.requests.headers, load.requests.trusted) as session:
        sender = await _ready_sender(session, load.requests, load.timeout_s)
        if on_ready is not None:
            on_ready()
        run = Run(sender, timeout_s=load.timeout_s)
        return await drive_closed(
            run,
            connections=load.connections,
            window_s=load.duration_s,
            num_requests=load.num_requests,
            pauses_s=load.pauses_s,
            watch=watch,
        )


def blocking(
    load: Load | ClosedLoad,
    *,
    watch: Callable[[Progress], None] | None = None,
    on_ready: Callable[[], None] | None = None,
) -> LoadResult:
    """Run a load in a loop of its own, whose timers are fine, and return its result.

    Args:
        load: An open or a closed loop.
        watch: Called a few times a second with the progress.
        on_ready: Called once the server has answered a first request, just before the load begins.

    Example:
        Against a server on this machine::

            requests = Requests("http://127.0.0.1:8000/v1/embeddings", [b'{"input": "a text"}'])
            result = blocking(Load(requests=requests, arrivals=constant(200, 30), duration_s=30))
    """
    if isinstance(load, Load):
        return run_in_loop(run_load(load, watch=watch, on_ready=on_ready))
    return run_in_loop(run_closed(load, watch=watch, on_ready=on_ready))


async def _ready_sender(session: aiohttp.ClientSession, requests: Requests, timeout_s: float) -> HttpSender:
    """Make a sender whose server has answered once."""
    sender = HttpSender(session, requests)
    try:
        async with asyncio.timeout(timeout_s):
            await probe(sender, requests.url)
    except TimeoutError:
        raise ConnectionFailed(
            f"the first request to {requests.url} had no answer within {timeout_s:g} s: see that the server is ready, "
            "or allow more time (--timeout)"
        ) from None
    return sender
