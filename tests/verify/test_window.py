"""A real server that is driven, and what is known of it afterwards."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from carpool.errors import ConnectionFailed
from carpool.loadgen.bodies import InputTensor, oip_bodies
from carpool.loadgen.http import Requests
from carpool.loadgen.run import ClosedLoad, blocking
from carpool.plan.setup import Setup
from carpool.plan.stream import Stream
from carpool.verify.scrape import Counts
from carpool.verify.server import RunningServer
from carpool.verify.transport import overheads
from carpool.verify.window import Window, drive_alone, drive_stream
from tests.plan.plans import subject
from tests.serve.fakes import Doubler, offer
from tests.serve.live import visit
from tests.verify.simulated import run_of, window_of

if TYPE_CHECKING:
    from carpool.loadgen.records import LoadResult

INPUTS = (InputTensor("input", "FP32", (-1, 2)),)


def requests_to(url: str) -> Requests:
    """Two numbers each, positive ones."""
    bodies = [body.replace(b"-", b"") for body in oip_bodies(INPUTS, [""] * 8, np.random.default_rng(0))]
    return Requests(f"{url}/v2/models/m/infer", bodies)


def stream(num: int, window_s: float) -> Stream:
    """Items evenly spaced over the window."""
    times_s = np.arange(num) * window_s / num
    return Stream(times_s=times_s, lengths=np.ones(num, np.int64), window_s=window_s)


def test_a_stream_is_counted_by_both_sides() -> None:
    """The first request, which only sees that the server is there, is in neither count."""

    def client(url: str) -> Window:
        server = RunningServer(url=url, pid=os.getpid())
        return drive_stream(server, requests_to(url), stream(40, 0.4), timeout_s=5.0, max_in_flight=100)

    window = visit(offer(Doubler()), client)
    assert window.load.ok.sum() == window.counts.num_items == 40
    assert window.load.window_s == 0.4
    assert window.counts.num_workers == 1
    assert window.server_cores > 0
    assert 0 < overheads(window).transport_s < window.load.latency_s.mean()


def test_one_client_alone_waits_for_each_answer() -> None:
    """So every batch holds one item."""

    def client(url: str) -> Window:
        return drive_alone(RunningServer(url=url, pid=os.getpid()), requests_to(url), duration_s=0.2)

    window = visit(offer(Doubler()), client)
    assert window.counts.num_items == window.counts.num_batches > 1


def test_a_lone_client_that_is_stopped_stops_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of a rehearsal is no ground for a prediction, and whoever pressed Ctrl-C wants no load after it."""

    def stopped(load: ClosedLoad, **options: Any) -> LoadResult:
        return replace(blocking(load, **options), interrupted=True)

    def client(url: str) -> None:
        with pytest.raises(KeyboardInterrupt):
            drive_alone(RunningServer(url=url, pid=os.getpid()), requests_to(url), duration_s=0.1)

    monkeypatch.setattr("carpool.verify.window.blocking", stopped)
    visit(offer(Doubler()), client)


def test_from_nothing_answered_nothing_is_learned() -> None:
    """The message has the failures' own words."""
    refused = replace(
        window_of(run_of(subject(), Setup(), stream(3, 1.0))).load,
        outcome=np.full(3, "http 400"),
        details={"http 400": "no such input"},
    )
    window = Window(load=refused, counts=Counts(), server_cores=0.0, other_load_cores=0.0)
    with pytest.raises(ConnectionFailed, match=r"none of 3 requests was answered \(http 400: no such input\)"):
        overheads(window)
