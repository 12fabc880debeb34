"""Requests that are cancelled: while they wait, while they run, and after; over the whole way of a call."""

from __future__ import annotations

import asyncio

import pytest

from carpool.serve.call import CallOptions
from tests.serve.sharing import Squarer, call, on_offer, until


async def test_cancelled_while_waiting_is_never_computed() -> None:
    """It leaves the queue at once, and its place goes to others."""
    model = Squarer()
    async with on_offer(model, max_queue=2) as served:
        held = await model.hold(served)
        calls = [asyncio.create_task(call(served, number)) for number in (2, 3)]
        await until(lambda: served.batcher.num_waiting == 2)
        calls[0].cancel()
        await until(lambda: served.batcher.num_waiting == 1)
        other = asyncio.create_task(call(served, 4))
        await until(lambda: served.batcher.num_waiting == 2)
        model.gate.set()
        await asyncio.gather(held, calls[1], other)
        assert served.batcher.metrics.totals().drops == {"cancelled": 1}
    assert model.seen == [10**6, 3, 4]


async def test_cancelled_while_running_changes_nothing_for_its_batch_mates() -> None:
    """The batch goes on, and its answer finds nobody."""
    model = Squarer()
    async with on_offer(model) as served:
        held = await model.hold(served)
        calls = [asyncio.create_task(call(served, number)) for number in (2, 3, 4)]
        await until(lambda: served.batcher.num_waiting == 3)
        model.gate.set()
        await held
        model.gate.clear()
        calls += [asyncio.create_task(call(served, number)) for number in (5, 6)]
        await asyncio.to_thread(model.entered.acquire)
        calls[0].cancel()
        model.gate.set()
        answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [getattr(answer, "results", None) for answer in answers[1:]] == [[9], [16], [25], [36]]


async def test_cancelled_before_the_batch_is_run_again_is_left_out() -> None:
    """A batch that failed is run in halves, without those who have gone meanwhile."""
    model = Squarer(unlucky=13)
    async with on_offer(model) as served:
        model.gate.clear()
        held = asyncio.create_task(call(served, 13, 99))
        await asyncio.to_thread(model.entered.acquire)
        held.cancel()
        await asyncio.gather(held, return_exceptions=True)
        model.gate.set()
        assert (await call(served, 2)).results == [4]
    assert [2] in model.batches
    assert model.seen.count(99) == 1


async def test_cancelled_after_the_answer_is_no_event() -> None:
    """There is nothing left to withdraw."""
    model = Squarer()
    async with on_offer(model) as served:
        outcomes: list[object] = []
        ticket = served.submit([2], CallOptions(), outcomes.append)
        await until(lambda: bool(outcomes))
        ticket.cancel()
        ticket.cancel()
        assert (await call(served, 3)).results == [9]
    assert outcomes == [[4]]


async def test_cancelled_twice_or_at_once_is_told_nothing() -> None:
    """`done` is never called for a ticket that was cancelled in time."""
    model = Squarer()
    async with on_offer(model) as served:
        held = await model.hold(served)
        outcomes: list[object] = []
        ticket = served.submit([2, 3, 4], CallOptions(), outcomes.append)
        ticket.cancel()
        ticket.cancel()
        await until(lambda: served.batcher.num_waiting == 0)
        model.gate.set()
        await held
    assert (outcomes, model.seen) == ([], [10**6])


async def test_all_rows_of_a_cancelled_request_leave() -> None:
    """Not only the first."""
    model = Squarer()
    async with on_offer(model) as served:
        held = await model.hold(served)
        large = asyncio.create_task(call(served, *range(20)))
        await until(lambda: served.batcher.num_waiting == 20)
        large.cancel()
        with pytest.raises(asyncio.CancelledError):
            await large
        await until(lambda: served.batcher.num_waiting == 0)
        model.gate.set()
        await held
    assert model.seen == [10**6]
