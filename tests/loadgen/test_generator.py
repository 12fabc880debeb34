"""The sending loops, in virtual time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carpool.errors import ConfigError
from carpool.loadgen.generator import Progress, Run, drive_closed, drive_open
from carpool.loadgen.records import OK, OPEN, OVERFLOW, TIMEOUT, LoadResult, Reply
from carpool.plan.arrivals import constant
from tests.loadgen.virtual import FakeServer, run_virtually, virtual_now

if TYPE_CHECKING:
    from collections.abc import Callable

    from carpool.plan.arrivals import Times

DONE = Reply(OK, 200, 10)


def open_loop(
    answer: Callable[[int, float], tuple[float, Reply]],
    arrivals: Times,
    *,
    window_s: float = 1.0,
    timeout_s: float = 10.0,
    max_in_flight: int = 1000,
) -> LoadResult:
    """Drive a fake server in an open loop."""

    async def work() -> LoadResult:
        run = Run(FakeServer(answer), timeout_s=timeout_s, clock=virtual_now, cpu_clock=lambda: 0.0)
        return await drive_open(run, arrivals, window_s=window_s, max_in_flight=max_in_flight)

    return run_virtually(work)


def closed_loop(connections: int, *, num_requests: int | None = None, pauses_s: tuple[float, ...] = ()) -> LoadResult:
    """Drive a fake server that takes 100 ms in a closed loop of 1 s."""

    async def work() -> LoadResult:
        run = Run(FakeServer(lambda _index, _now: (0.1, DONE)), timeout_s=10, clock=virtual_now)
        return await drive_closed(
            run, connections=connections, window_s=0.95, num_requests=num_requests, pauses_s=pauses_s
        )

    return run_virtually(work)


def test_requests_leave_at_their_times_whatever_the_answers_take() -> None:
    """A slow server does not slow the sending."""
    result = open_loop(lambda _index, _now: (5.0, DONE), constant(10, 1))
    assert result.sent_at == pytest.approx(constant(10, 1))
    assert result.latency_s == pytest.approx([5.0] * 10)
    assert result.ok.all()


def test_a_stall_of_the_generator_is_charged_from_the_intended_time() -> None:
    """When the sending itself is held up, latency runs from when each request was meant to leave."""

    async def work() -> LoadResult:
        held = {"at": 0.0}

        def clock() -> float:
            # The process is frozen from 0.25 s to 1.25 s: its clock jumps, its timers do not.
            now = virtual_now()
            held["at"] = 1.0 if now > 0.25 else 0.0
            return now + held["at"]

        run = Run(FakeServer(lambda _index, _now: (0.01, DONE)), timeout_s=10, clock=clock, cpu_clock=lambda: 0.0)
        return await drive_open(run, constant(10, 1), window_s=1.0, max_in_flight=100)

    result = run_virtually(work)
    assert result.latency_s[:3] == pytest.approx([0.01] * 3)
    late = result.latency_s[3:]
    assert late[0] == pytest.approx(1.01)
    assert np.diff(late) == pytest.approx([-0.1] * 6)
    assert result.lag_s.max() == pytest.approx(1.0)


def test_a_request_without_answer_counts_as_failed_at_its_limit() -> None:
    """A server that hangs gives timeouts, which stay in the account."""
    result = open_loop(lambda _index, _now: (99.0, DONE), constant(4, 1), timeout_s=2.0)
    assert set(result.outcome) == {TIMEOUT}
    assert result.latency_s == pytest.approx([2.0] * 4)
    assert result.details[TIMEOUT] == "no answer within 2 s"


def test_what_exceeds_the_flight_limit_is_counted_and_not_sent() -> None:
    """The limit on requests in flight fails those beyond it at once, and never delays them."""
    result = open_loop(lambda _index, _now: (99.0, DONE), constant(10, 1), timeout_s=5.0, max_in_flight=3)
    assert list(result.outcome) == [TIMEOUT] * 3 + [OVERFLOW] * 7
    assert np.isnan(result.sent_at[3:]).all()
    assert len(result.lag_s) == 3


def test_a_burst_within_the_flight_limit_leaves_whole() -> None:
    """Requests that are due at one instant all leave at it, up to the limit."""
    result = open_loop(lambda _index, _now: (0.1, DONE), np.zeros(20), max_in_flight=15)
    assert (result.outcome == OK).sum() == 15
    assert (result.outcome == OVERFLOW).sum() == 5


def test_failures_are_kept_by_kind_with_the_first_ones_words() -> None:
    """Each failed reply is recorded, and one example of its kind."""
    replies = [Reply("http 503", 503, 4, f"full, number {index}") for index in range(3)] + [DONE]
    result = open_loop(lambda index, _now: (0.0, replies[index]), constant(4, 1))
    assert list(result.outcome) == ["http 503"] * 3 + [OK]
    assert result.details == {"http 503": "full, number 0"}


def test_cancelling_keeps_what_was_measured_and_marks_the_rest_open() -> None:
    """Ctrl-C ends the run early with its records; requests in flight are failures of their age."""

    async def work() -> LoadResult:
        run = Run(
            FakeServer(lambda index, _now: (0.1 if index < 2 else 50.0, DONE)),
            timeout_s=100,
            clock=virtual_now,
            cpu_clock=lambda: 0.0,
        )
        task = asyncio.ensure_future(drive_open(run, constant(1, 60), window_s=60, max_in_flight=100))
        await asyncio.sleep(4.5)
        task.cancel()
        return await task

    result = run_virtually(work)
    assert result.interrupted
    assert result.window_s == pytest.approx(4.5)
    assert list(result.outcome) == [OK, OK, OPEN, OPEN, OPEN]
    assert result.latency_s[2:] == pytest.approx([2.5, 1.5, 0.5])


def test_a_sender_that_raises_is_a_fault_and_not_a_silent_loss() -> None:
    """An exception that is no reply comes out of the run."""

    def broken(_index: int, _now: float) -> tuple[float, Reply]:
        message = "a fault in the sender"
        raise ZeroDivisionError(message)

    with pytest.raises(ZeroDivisionError, match="a fault in the sender"):
        open_loop(broken, constant(2, 1))


def test_clients_of_a_closed_loop_wait_for_their_answers() -> None:
    """Three clients of a server that takes 0.1 s send 30 requests in 0.95 s."""
    result = closed_loop(3)
    assert len(result.outcome) == 30
    assert result.connections == 3
    assert result.latency_s == pytest.approx([0.1] * 30)


def test_a_client_that_rests_is_timed_from_the_end_of_its_rest() -> None:
    """Rests are taken in turn: none, then one of 200 ms."""
    result = closed_loop(1, pauses_s=(0.0, 0.2))
    assert result.intended_at == pytest.approx([0.0, 0.3, 0.4, 0.7, 0.8])
    assert result.latency_s == pytest.approx([0.1] * 5)


def test_a_stop_amid_a_rest_leaves_nothing_open() -> None:
    """There is no request to speak of."""

    async def work() -> LoadResult:
        run = Run(FakeServer(lambda _index, _now: (0.1, DONE)), timeout_s=10, clock=virtual_now)
        task = asyncio.ensure_future(drive_closed(run, connections=1, window_s=9.0, pauses_s=(0.0, 5.0)))
        await asyncio.sleep(1.0)
        task.cancel()
        return await task

    result = run_virtually(work)
    assert result.interrupted
    assert result.outcome.tolist() == [OK]


def test_a_closed_loop_stops_at_its_count() -> None:
    """The count bounds a closed loop as the time does, and its window is the time that it took."""
    result = closed_loop(3, num_requests=7)
    assert len(result.outcome) == 7
    assert result.window_s == pytest.approx(0.3)


def test_progress_is_told_while_it_runs() -> None:
    """A watcher hears how many are done, failed and in flight."""
    heard: list[Progress] = []

    async def work() -> LoadResult:
        run = Run(FakeServer(lambda _index, _now: (0.35, DONE)), timeout_s=10, clock=virtual_now)
        return await drive_open(run, constant(10, 1), window_s=1, max_in_flight=100, watch=heard.append)

    run_virtually(work)
    assert heard[0].in_flight == 3
    assert heard[-1].num_done >= 8
    assert heard[-1].num_failed == 0


@pytest.mark.parametrize("timeout_s", [0.0, -1.0, float("nan"), float("inf")])
def test_a_timeout_that_is_no_time_is_refused(timeout_s: float) -> None:
    """The limit must be finite and above 0, else a hung server would hang the run."""
    with pytest.raises(ConfigError, match="is not a finite time above 0: give one such as 10s"):
        Run(FakeServer(lambda _index, _now: (0.0, DONE)), timeout_s=timeout_s)


@given(
    gaps=st.lists(st.floats(0, 0.5), min_size=1, max_size=30),
    delays=st.lists(st.floats(0, 3), min_size=1, max_size=10),
    max_in_flight=st.integers(1, 10),
)
def test_every_request_is_accounted_for_once(gaps: list[float], delays: list[float], max_in_flight: int) -> None:
    """However the server behaves, each intended request has one record, and no more were in flight than allowed."""
    arrivals = np.cumsum(gaps)
    result = open_loop(
        lambda index, _now: (delays[index % len(delays)], DONE),
        arrivals,
        window_s=float(arrivals[-1]) + 1e-3,
        timeout_s=2.0,
        max_in_flight=max_in_flight,
    )
    assert result.intended_at == pytest.approx(arrivals)
    assert set(result.outcome) <= {OK, TIMEOUT, OVERFLOW}
    assert (result.latency_s <= 2.0 + 1e-9).all()
    sent = ~np.isnan(result.sent_at)
    for at in result.sent_at[sent]:
        assert ((result.sent_at[sent] <= at) & (result.done_at[sent] > at)).sum() <= max_in_flight
