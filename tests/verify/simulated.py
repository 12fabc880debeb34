"""A site where a plan is served by a simulation: what is measured there is known to the last digit."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from carpool.loadgen.generator import Progress
from carpool.loadgen.http import Requests
from carpool.loadgen.records import OK, LoadResult
from carpool.plan.predict import fitted
from carpool.plan.simulate import Outcome, Run, simulate
from carpool.plan.stream import Stream
from carpool.verify.scrape import Counts
from carpool.verify.window import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from carpool.plan.setup import Setup
    from carpool.plan.subject import Subject

REQUESTS = Requests("http://127.0.0.1:9/", [b"{}"])


def run_of(subject: Subject, setup: Setup, stream: Stream, *, pace: float = 1.0) -> Run:
    """Serve a stream, batches taking so many times as long as the subject's cost model says, without any scatter."""
    live = replace(setup, policy=fitted(setup.policy, subject))
    return simulate(stream, live, subject.cost.clipped(), slowdown=pace)


def window_of(run: Run, *, transport_s: float = 0.0, pace: float = 1.0) -> Window:
    """Give a simulated run the form of a window that was measured."""
    answered = run.outcomes == Outcome.ANSWERED
    latencies_s = np.where(answered, run.latencies_s + transport_s, 0.0)
    load = LoadResult(
        intended_at=run.stream.times_s,
        sent_at=run.stream.times_s,
        done_at=run.stream.times_s + latencies_s,
        outcome=np.where(answered, OK, "http 503"),
        status=np.where(answered, 200, 503),
        num_bytes=np.full(len(run.stream), 100),
        window_s=run.stream.window_s,
        cpu_share=0.1,
    )
    ran = run.batch_of >= 0
    return Window(
        load=load,
        counts=Counts(
            num_batches=len(run.num_items),
            num_items=run.num_items.sum(),
            num_refused=int(np.count_nonzero(run.outcomes == Outcome.REFUSED)),
            num_expired=int(np.count_nonzero(run.outcomes == Outcome.EXPIRED)),
            real_tokens=run.real_tokens.sum(),
            padded_tokens=run.padded_tokens.sum(),
            queue_delay_s=run.queue_delay_s[ran].sum(),
            compute_s=run.took_s.sum(),
            latency_s=(run.queue_delay_s[ran] + run.took_s[run.batch_of[ran]]).sum(),
            busy_s=run.took_s.sum(),
            profiled_s=run.took_s.sum() / pace,
            predicted_busy_s=run.took_s.sum(),
            max_batch_size=run.setup.policy.max_batch_size,
            num_workers=run.setup.num_workers,
        ),
        server_cores=0.8,
        other_load_cores=0.0,
    )


class SimulatedSite:
    """A site with a way there and back, and a pace, of the test's choice.

    Args:
        subject: what the prediction is made from.
        setup: what serves.
        transport_s: what the way there and back takes a single client.
        loaded_s: what it takes under load; the same where None.
        pace: how many times as long batches take as the cost model says.
        stops_in: the window in which it is interrupted, from 0; None for none.
    """

    def __init__(
        self,
        subject: Subject,
        setup: Setup,
        *,
        transport_s: float = 0.002,
        loaded_s: float | None = None,
        pace: float = 1.0,
        stops_in: int | None = None,
    ) -> None:
        self._subject, self._setup = subject, setup
        self._transport_s = transport_s
        self._loaded_s = transport_s if loaded_s is None else loaded_s
        self._pace = pace
        self._stops_in = stops_in
        self.streams: list[Stream] = []
        self.pauses_s: Sequence[float] = ()

    def requests(self, stream: Stream) -> Requests:
        """Return requests that are never sent."""
        del stream
        return REQUESTS

    def drive_alone(self, requests: Requests, duration_s: float, pauses_s: Sequence[float]) -> Window:
        """Serve items that come one by one."""
        del requests
        self.pauses_s = pauses_s
        times_s = np.arange(0, duration_s, 0.25)
        stream = Stream(times_s=times_s, lengths=np.full(len(times_s), 16), window_s=duration_s)
        run = run_of(self._subject, self._setup, stream, pace=self._pace)
        return window_of(run, transport_s=self._transport_s, pace=self._pace)

    def drive(self, stream: Stream, requests: Requests, watch: Callable[[Progress], None]) -> Window:
        """Serve the stream."""
        del requests
        watch(Progress(stream.window_s / 2, 0, 0, 0))
        run = run_of(self._subject, self._setup, stream, pace=self._pace)
        window = window_of(run, transport_s=self._loaded_s, pace=self._pace)
        if len(self.streams) == self._stops_in:
            return replace(window, load=replace(window.load, interrupted=True))
        self.streams.append(stream)
        return window
