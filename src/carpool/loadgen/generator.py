"""The loops that send: an open one, which keeps to its schedule, and a closed one, in which clients wait for answers.

Open loop: each request is timed from when it was *meant* to be sent. A server that stalls for a second is then charged
with every request that would have come in that second, not only with the one that met the stall (coordinated omission).
No request is dropped from the account: one that has no answer in time is a failure whose latency is at least its age.
"""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from carpool.errors import ConfigError
from carpool.loadgen.records import OPEN, OVERFLOW, TIMEOUT, Journal, LoadResult, Reply
from carpool.plan.arrivals import MOST_REQUESTS

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Sequence

    from carpool.plan.arrivals import Times


class Sender(Protocol):
    """The way to the server: the one seam between the loops and the network."""

    async def send(self, index: int) -> Reply:
        """Send the request of this number and wait for the whole answer; failures are replies too."""
        ...


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is.

    Args:
        elapsed_s: Seconds since it began.
        num_done: Requests answered or failed.
        num_failed: Those that failed.
        in_flight: Sent and unanswered.
    """

    elapsed_s: float
    num_done: int
    num_failed: int
    in_flight: int


class Run:
    """One run in progress: its clock, its requests in flight, its records.

    Args:
        sender: The way to the server.
        timeout_s: Longest wait for an answer, from the intended time.
        clock: Seconds, rising; another one in tests.
        cpu_clock: CPU seconds of this process.
    """

    def __init__(
        self,
        sender: Sender,
        *,
        timeout_s: float,
        clock: Callable[[], float] = time.perf_counter,
        cpu_clock: Callable[[], float] = time.process_time,
    ) -> None:
        if not (math.isfinite(timeout_s) and timeout_s > 0):
            raise ConfigError(f"a timeout of {timeout_s} s is not a finite time above 0: give one such as 10s")
        self.journal = Journal()
        self.in_flight = 0
        self.interrupted = False
        self._sender = sender
        self._timeout_s = timeout_s
        self._clock = clock
        self._cpu_clock = cpu_clock
        self._start = clock()
        self._cpu_start = cpu_clock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._fault: BaseException | None = None

    def now(self) -> float:
        """Seconds since the run began."""
        return self._clock() - self._start

    def progress(self) -> Progress:
        """Say how far the run is."""
        return Progress(self.now(), len(self.journal.records), self.journal.num_failed, self.in_flight)

    async def attempt(self, index: int, intended_at: float) -> None:
        """Send one request that is counted in flight, wait for its answer, and keep what became of it."""
        sent_at = self.now()
        try:
            async with asyncio.timeout(max(0.0, intended_at + self._timeout_s - sent_at)):
                reply = await self._sender.send(index)
        except TimeoutError:
            reply = Reply(TIMEOUT, detail=f"no answer within {self._timeout_s:g} s")
        except asyncio.CancelledError:
            reply = Reply(OPEN, detail="the run was stopped before the answer came")
        finally:
            self.in_flight -= 1
        self.journal.note(intended_at, sent_at, self.now(), reply)

    async def follow(self, arrivals: Times, *, max_in_flight: int) -> None:
        """Send each request at its time, whatever has become of those before it."""
        index, num = 0, len(arrivals)
        due = arrivals.tolist()
        while index < num:
            await asyncio.sleep(max(0.0, due[index] - self.now()))
            # A timer that fires late finds several due: all of them leave now, and their lag is on record.
            reached = self.now()
            while index < num and due[index] <= reached:
                if self.in_flight < max_in_flight:
                    self.in_flight += 1
                    self.spawn(self.attempt(index, due[index]))
                else:
                    self._overflow(due[index], max_in_flight)
                index += 1

    def _overflow(self, intended_at: float, limit: int) -> None:
        detail = f"{limit:,} requests were in flight, the limit (--max-in-flight)"
        self.journal.note(intended_at, math.nan, self.now(), Reply(OVERFLOW, detail=detail))

    async def repeat(self, numbers: Iterator[int], *, until_s: float, pauses_s: Sequence[float] = ()) -> None:
        """Be one client of a closed loop: the next request leaves when the answer to the last one is there.

        Args:
            numbers: Of the requests to send.
            until_s: When to stop.
            pauses_s: How long to rest before a request, taken in turn; empty for never.
        """
        while not self.interrupted and self.now() < until_s:
            index = next(numbers, None)
            if index is None:
                return
            if pauses_s and not await self._rest(pauses_s[index % len(pauses_s)], until_s):
                return
            self.in_flight += 1
            await self.attempt(index, self.now())

    async def _rest(self, pause_s: float, until_s: float) -> bool:
        """Wait; False where the time was up meanwhile, or the run was stopped."""
        try:
            await asyncio.sleep(pause_s)
        except asyncio.CancelledError:
            return False
        return self.now() < until_s

    def spawn(self, work: Coroutine[object, object, None]) -> None:
        """Start a task and hold it until it ends."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._fault = self._fault or task.exception()

    async def drain(self) -> None:
        """Wait for the stragglers, each of which ends at its own timeout.

        Raises:
            Exception: What a sender raised instead of giving a reply; that is a fault in it.
        """
        while self._tasks:
            await asyncio.wait(self._tasks)
        if self._fault is not None:
            raise self._fault

    async def stop(self) -> None:
        """End what is in flight now; each is recorded as still open."""
        self.interrupted = True
        await asyncio.sleep(0)  # a task that is cancelled before its first step would leave no record
        for task in self._tasks:
            task.cancel()
        await self.drain()

    def cpu_share(self) -> float:
        """CPU seconds of this process for each second since the run began."""
        return (self._cpu_clock() - self._cpu_start) / max(self.now(), 1e-9)


async def drive_open(
    run: Run,
    arrivals: Times,
    *,
    window_s: float,
    max_in_flight: int,
    watch: Callable[[Progress], None] | None = None,
) -> LoadResult:
    """Drive an open loop to its end, or to a cancellation, which keeps what was measured.

    Args:
        run: A new run.
        arrivals: When to send, rising seconds from the start [n].
        window_s: The length of the schedule.
        max_in_flight: Most requests unanswered at once; what goes beyond it is counted and not sent.
        watch: Called a few times a second with the progress.
    """
    if max_in_flight < 1:
        raise ConfigError(f"{max_in_flight} requests in flight are too few to send any: give at least 1")

    async def send_all() -> float:
        await run.follow(arrivals, max_in_flight=max_in_flight)
        await asyncio.sleep(max(0.0, window_s - run.now()))
        share = run.cpu_share()
        await run.drain()
        return share

    share, ended = await _guarded(run, send_all(), watch)
    return run.journal.close(
        window_s=min(window_s, ended) if run.interrupted else window_s, interrupted=run.interrupted, cpu_share=share
    )


async def drive_closed(
    run: Run,
    *,
    connections: int,
    window_s: float,
    num_requests: int | None = None,
    pauses_s: Sequence[float] = (),
    watch: Callable[[Progress], None] | None = None,
) -> LoadResult:
    """Drive a closed loop of clients that each wait for their answer.

    Args:
        run: A new run.
        connections: The clients.
        window_s: How long they go on sending, seconds.
        num_requests: Most requests to send; no limit where None.
        pauses_s: How long a client rests before a request, taken in turn; empty for never.
        watch: Called a few times a second with the progress.
    """
    if connections < 1:
        raise ConfigError(f"{connections} connections can't send anything: give at least 1")

    async def send_all() -> float:
        numbers = iter(range(MOST_REQUESTS if num_requests is None else num_requests))
        for _ in range(connections):
            run.spawn(run.repeat(numbers, until_s=window_s, pauses_s=pauses_s))
        await run.drain()
        return run.cpu_share()

    share, ended = await _guarded(run, send_all(), watch)
    return run.journal.close(
        window_s=min(window_s, ended), interrupted=run.interrupted, cpu_share=share, connections=connections
    )


async def _guarded(
    run: Run, work: Coroutine[object, object, float], watch: Callable[[Progress], None] | None
) -> tuple[float, float]:
    """Await the work; on cancellation end it cleanly. Gives the CPU share, and when it ended."""
    watcher = asyncio.ensure_future(_watch(run, watch)) if watch else None
    try:
        share = await work
    except asyncio.CancelledError:
        ended = run.now()
        share = run.cpu_share()
        await run.stop()
        return share, ended
    finally:
        if watcher is not None:
            watcher.cancel()
    return share, run.now()


async def _watch(run: Run, watch: Callable[[Progress], None]) -> None:
    while True:
        await asyncio.sleep(0.25)
        watch(run.progress())
