"""One window of the planned load, as its clients and the server itself saw it."""

from __future__ import annotations

import gc
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from carpool.loadgen.records import LoadResult
from carpool.loadgen.run import ClosedLoad, Load, blocking
from carpool.profile.other_load import OtherLoad
from carpool.verify.scrape import Counts, read_counts
from carpool.verify.server import RunningServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from carpool.loadgen.generator import Progress
    from carpool.loadgen.http import Requests
    from carpool.plan.stream import Stream

FIRST_ANSWER_S = 10.0
"""How long the first answer may take at the least: on a busy machine a fresh server is late once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A load and what became of it.

    Args:
        load: what the clients saw.
        counts: what the server counted meanwhile.
        server_cores: processor cores that the server used.
        other_load_cores: cores that programs used which have no part in this.
    """

    load: LoadResult
    counts: Counts
    server_cores: float
    other_load_cores: float


def drive_stream(
    server: RunningServer,
    requests: Requests,
    stream: Stream,
    *,
    timeout_s: float,
    max_in_flight: int,
    watch: Callable[[Progress], None] | None = None,
) -> Window:
    """Send an open loop's requests at the times of a stream.

    Args:
        server: where to.
        requests: a body for each item.
        stream: when.
        timeout_s: longest wait for an answer.
        max_in_flight: most requests unanswered at once.
        watch: called a few times a second with the progress.

    Raises:
        CarpoolError: the server does not answer, or nothing arrives.
    """
    load = Load(
        requests=requests,
        arrivals=stream.times_s,
        duration_s=stream.window_s,
        timeout_s=timeout_s,
        max_in_flight=max_in_flight,
        first_timeout_s=max(timeout_s, FIRST_ANSWER_S),
    )
    return _observe(server, load, watch)


def drive_alone(
    server: RunningServer, requests: Requests, *, duration_s: float, pauses_s: Sequence[float] = ()
) -> Window:
    """Be the server's only client: send, wait for the answer, and send again.

    Args:
        server: where to.
        requests: what is sent, in turn.
        duration_s: for how long.
        pauses_s: how long to rest before a request, taken in turn; empty for never.

    Raises:
        CarpoolError: the server does not answer.
        KeyboardInterrupt: it was stopped; half of a rehearsal is of no use.
    """
    window = _observe(
        server, ClosedLoad(requests=requests, connections=1, duration_s=duration_s, pauses_s=pauses_s), None
    )
    if window.load.interrupted:
        raise KeyboardInterrupt
    return window


def _observe(server: RunningServer, load: Load | ClosedLoad, watch: Callable[[Progress], None] | None) -> Window:
    with _collector_at_rest():
        meters: list[_Meters] = []
        result = blocking(load, watch=watch, on_ready=lambda: meters.append(_Meters(server)))
        (begun,) = meters
        return Window(
            load=result,
            counts=read_counts(server.url).since(begun.counts),
            server_cores=begun.server_cores(),
            other_load_cores=begun.others.cores(),
        )


@dataclass(slots=True)
class _Meters:
    """Readings at the beginning of a load."""

    server: RunningServer
    counts: Counts = field(init=False)
    others: OtherLoad = field(default_factory=OtherLoad)
    at: float = field(default_factory=time.monotonic)
    server_s: float = field(init=False)

    def __post_init__(self) -> None:
        self.counts = read_counts(self.server.url)
        self.server_s = _processor_s(self.server.pid)

    def server_cores(self) -> float:
        return (_processor_s(self.server.pid) - self.server_s) / max(time.monotonic() - self.at, 1e-9)


def _processor_s(pid: int) -> float:
    import psutil

    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)


@contextmanager
def _collector_at_rest() -> Iterator[None]:
    """Let the garbage collector pass over what is there: looking through a model's library takes tens of ms."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
