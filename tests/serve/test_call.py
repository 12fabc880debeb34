"""A call of a model on offer: answered once, on its loop, and withdrawn when nobody waits."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from carpool.errors import CarpoolError
from carpool.serve.call import CallOptions
from carpool.serve.faults import Fault
from tests.serve.fakes import Doubler, offer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from carpool.serve.call import Outcome
    from carpool.serve.served import Served

USUAL = CallOptions()
LARGE = 1 << 20  # rows of such a request are checked on a thread


def row(value: float) -> Any:
    """Return an item of the doubler."""
    return np.array([value, value], np.float32)


@asynccontextmanager
async def offering(model: Doubler, **policy: Any) -> AsyncIterator[Served]:
    """Serve a doubler, and close it afterwards."""
    served = offer(model, **policy)
    await asyncio.to_thread(served.start)
    while model.entered.acquire(blocking=False):  # its warm-up
        continue
    try:
        yield served
    finally:
        model.gate.set()
        await asyncio.to_thread(served.close, 30.0)


class Told:
    """Notes what it is told, and on which thread."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self.threads: set[int] = set()
        self.came = asyncio.Event()

    def __call__(self, outcome: Outcome) -> None:
        """Note an outcome."""
        self.outcomes.append(outcome)
        self.threads.add(threading.get_ident())
        self.came.set()


@pytest.mark.parametrize("num_bytes", [0, LARGE])
@pytest.mark.parametrize("num_rows", [1, 3])
async def test_done_is_told_the_results_once_on_the_loop(num_rows: int, num_bytes: int) -> None:
    """In the order of the rows."""
    told = Told()
    async with offering(Doubler()) as served:
        ticket = served.submit([row(n) for n in range(num_rows)], USUAL, told, num_bytes=num_bytes)
        await told.came.wait()
    (results,) = told.outcomes
    assert isinstance(results, list)
    assert [result.tolist() for result in results] == [[2.0 * n, 2.0 * n] for n in range(num_rows)]
    assert told.threads == {threading.get_ident()}
    assert ticket.lengths == (1,) * num_rows


@pytest.mark.parametrize("num_bytes", [0, LARGE])
async def test_a_refusal_is_told_after_submit_has_returned(num_bytes: int) -> None:
    """So that whoever is told has the ticket already."""
    told = Told()
    async with offering(Doubler()) as served:
        served.submit([row(1), row(-1)], USUAL, told, num_bytes=num_bytes)
        assert not told.outcomes
        await told.came.wait()
    (fault,) = told.outcomes
    assert isinstance(fault, Fault)
    assert (fault.status, str(fault)[:12]) == (400, "item 1 of 2:")


async def test_a_row_that_fails_ends_its_request_and_names_itself() -> None:
    """The others of the batch are answered."""
    told, other = Told(), Told()
    model = Doubler()
    async with offering(model) as served:
        model.gate.clear()
        held = served.submit([row(9)], USUAL, Told())
        await asyncio.to_thread(model.entered.acquire)
        served.submit([row(1), row(13)], USUAL, told)
        served.submit([row(2)], USUAL, other)
        model.gate.set()
        await told.came.wait()
        await other.came.wait()
    (fault,) = told.outcomes
    assert isinstance(fault, CarpoolError)
    assert str(fault).startswith("item 1 of 2: the model raised RuntimeError: 13 brings bad luck")
    assert isinstance(other.outcomes[0], list)
    assert held.cancelled(), "answered, so that nobody waits any more"


@pytest.mark.parametrize("num_rows", [1, 3])
async def test_cancelling_a_ticket_takes_its_rows_out_of_the_queue(num_rows: int) -> None:
    """And its answer is not told."""
    told, model = Told(), Doubler()
    async with offering(model) as served:
        model.gate.clear()
        held = Told()
        served.submit([row(9)], USUAL, held)
        await asyncio.to_thread(model.entered.acquire)
        ticket = served.submit([row(7)] * num_rows, USUAL, told)
        waiting = served.batcher.num_waiting
        ticket.cancel()
        left = served.batcher.num_waiting
        model.gate.set()
        await held.came.wait()
    assert (waiting, left, told.outcomes) == (num_rows, 0, [])
    assert [7.0, 7.0] not in model.seen


async def test_a_ticket_cancelled_while_its_rows_are_checked_never_enters() -> None:
    """The check of a large request goes on for nobody."""
    told, model = Told(), Doubler()
    async with offering(model) as served:
        ticket = served.submit([row(7)], USUAL, told, num_bytes=LARGE)
        ticket.cancel()
        await served.call([row(1)], USUAL, num_bytes=LARGE)
    assert told.outcomes == []
    assert [7.0, 7.0] not in model.seen


async def test_a_call_is_awaited() -> None:
    """With the lengths of its rows."""
    async with offering(Doubler()) as served:
        answer = await served.call([row(1), row(2)], USUAL)
        with pytest.raises(Fault, match="is negative"):
            await served.call([row(-1)], USUAL)
    assert [result.tolist() for result in answer.results] == [[2, 2], [4, 4]]
    assert answer.lengths == (1, 1)


async def test_a_call_that_is_cancelled_withdraws_its_rows() -> None:
    """Even if its answer comes in the same turn of the loop."""
    model = Doubler()
    async with offering(model) as served:
        model.gate.clear()
        held = asyncio.create_task(served.call([row(9)], USUAL))
        await asyncio.to_thread(model.entered.acquire)
        waits = asyncio.create_task(served.call([row(7)], USUAL))
        await asyncio.sleep(0)
        waits.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waits
        assert served.batcher.num_waiting == 0
        model.gate.set()
        assert (await held).results[0].tolist() == [18, 18]


async def test_one_who_fails_to_be_told_does_not_disturb_the_others(caplog: pytest.LogCaptureFixture) -> None:
    """Results of one batch are handed over one by one."""
    model, others = Doubler(), [Told(), Told()]

    def broken(_outcome: Outcome) -> None:
        message = "dead"
        raise ConnectionError(message)

    async with offering(model) as served:
        model.gate.clear()
        held = Told()
        served.submit([row(9)], USUAL, held)
        await asyncio.to_thread(model.entered.acquire)
        for told in (others[0], broken, others[1]):
            served.submit([row(1)], USUAL, told)
        model.gate.set()
        for told in others:
            await told.came.wait()
    assert "unexpected failure" in caplog.text
