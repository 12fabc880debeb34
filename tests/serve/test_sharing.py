"""Equal items share one computation: over the whole way of a call, with a model that can be held back."""

from __future__ import annotations

import asyncio

import pytest

from carpool.errors import CarpoolError, DeadlineExceeded
from carpool.serve.cache import SharingPolicy
from tests.serve.sharing import Squarer, call, on_offer, until

CACHE = SharingPolicy(size_bytes=1 << 20)
JOIN = SharingPolicy(deduplicate=True)


async def test_an_answer_is_given_again() -> None:
    """The model runs once, and what was kept is what it gave."""
    model = Squarer()
    async with on_offer(model, sharing=CACHE) as served:
        answers = [await call(served, 3) for _ in range(5)]
        totals = served.batcher.metrics.totals()
    assert [answer.results for answer in answers] == [[9]] * 5
    assert (model.seen, totals.cache) == ([3], {"miss": 1, "hit": 4})


async def test_nothing_is_shared_by_default() -> None:
    """Every item runs."""
    model = Squarer()
    async with on_offer(model) as served:
        assert [(await call(served, 3)).results for _ in range(3)] == [[9]] * 3
        assert served.batcher.metrics.totals().cache == {}
    assert model.seen == [3, 3, 3]


async def test_equal_items_on_their_way_run_once() -> None:
    """Those that wait, and those of one that runs; each request gets its own rows in order."""
    model = Squarer()
    async with on_offer(model, sharing=JOIN) as served:
        held = await model.hold(served)
        running = asyncio.create_task(call(served, 10**6))
        waiting = [asyncio.create_task(call(served, 2, 5, 2)) for _ in range(20)]
        await until(lambda: served.batcher.num_waiting == 2)
        model.gate.set()
        assert (await running).results == (await held).results
        assert [(await answer).results for answer in waiting] == [[4, 25, 4]] * 20
        assert served.batcher.metrics.totals().cache == {"miss": 3, "joined": 59}
        await call(served, 2)
    assert sorted(model.seen) == [2, 2, 5, 10**6]


async def test_a_client_that_leaves_leaves_the_computation_to_the_others() -> None:
    """The first may go; only when all have gone is the item withdrawn."""
    model = Squarer()
    async with on_offer(model, sharing=JOIN) as served:
        held = await model.hold(served)
        calls = [asyncio.create_task(call(served, number)) for number in (2, 2, 3, 3)]
        await until(lambda: served.batcher.num_waiting == 2)
        for one in (calls[0], calls[2], calls[3]):
            one.cancel()
        await until(lambda: served.batcher.num_waiting == 1)
        model.gate.set()
        assert (await calls[1]).results == [4]
        await held
    assert model.seen == [10**6, 2]


async def test_an_error_is_for_all_who_wait_and_for_nobody_after() -> None:
    """It is not kept."""
    model = Squarer(unlucky=13)
    async with on_offer(model, sharing=CACHE) as served:
        held = await model.hold(served)
        calls = [asyncio.create_task(call(served, 13)) for _ in range(3)]
        await until(lambda: served.batcher.num_waiting == 1)
        model.gate.set()
        for one in calls:
            with pytest.raises(CarpoolError, match="bad luck"):
                await one
        await held
        with pytest.raises(CarpoolError, match="bad luck"):
            await call(served, 13)
    assert model.seen.count(13) == 2


async def test_a_deadline_passes_for_its_own_client_only() -> None:
    """Be it the one who came first, whose item it was, or one who joined."""
    model = Squarer()
    async with on_offer(model, sharing=JOIN) as served:
        held = await model.hold(served)
        first = asyncio.create_task(call(served, 2, timeout_s=0.02))
        patient = asyncio.create_task(call(served, 2))
        third = asyncio.create_task(call(served, 2, timeout_s=0.01))
        for late in (third, first):
            with pytest.raises(CarpoolError, match="deadline"):
                await late
        await until(lambda: served.batcher.num_waiting == 1)
        model.gate.set()
        assert (await patient).results == [4]
        await held
    assert model.seen == [10**6, 2]


async def test_a_more_urgent_client_raises_the_item_that_it_joins() -> None:
    """It overtakes what came before it, as an item of its own would."""
    model = Squarer()
    async with on_offer(model, sharing=JOIN, max_batch_size=1) as served:
        held = await model.hold(served)
        calls = [asyncio.create_task(call(served, number)) for number in (2, 3, 4)]
        await until(lambda: served.batcher.num_waiting == 3)
        calls.append(asyncio.create_task(call(served, 4, priority=9)))
        await until(lambda: served.batcher.metrics.totals().cache.get("joined") == 1)
        model.gate.set()
        await asyncio.gather(held, *calls)
    assert model.seen == [10**6, 4, 2, 3]


async def test_a_request_that_is_refused_leaves_nothing_behind() -> None:
    """Its rows are not waited for by those who come after."""
    model = Squarer()
    async with on_offer(model, sharing=JOIN, max_queue=2) as served:
        held = await model.hold(served)
        one = asyncio.create_task(call(served, 2))
        await until(lambda: served.batcher.num_waiting == 1)
        with pytest.raises(CarpoolError, match="max_queue"):
            await call(served, 3, 4)
        joined = asyncio.create_task(call(served, 2))
        again = asyncio.create_task(call(served, 3))
        await until(lambda: served.batcher.num_waiting == 2)
        model.gate.set()
        assert [(await task).results for task in (one, joined, again)] == [[4], [4], [9]]
        await held


async def test_what_can_not_be_compared_runs_by_itself() -> None:
    """And can be withdrawn like any other."""
    model = Squarer()

    class Odd(int):
        """A number that nothing is known of."""

    async with on_offer(model, sharing=CACHE) as served:
        held = await model.hold(served)
        calls = [asyncio.create_task(call(served, Odd(3))) for _ in range(3)]
        await until(lambda: served.batcher.num_waiting == 3)
        calls[0].cancel()
        await until(lambda: served.batcher.num_waiting == 2)
        model.gate.set()
        await asyncio.gather(held, *calls[1:])
    assert model.seen.count(3) == 2


async def test_a_deadline_that_has_passed_is_told_as_such() -> None:
    """With the status that the protocols give it."""
    model = Squarer()
    async with on_offer(model, sharing=JOIN) as served:
        held = await model.hold(served)
        patient = asyncio.create_task(call(served, 2))
        await until(lambda: served.batcher.num_waiting == 1)
        with pytest.raises(CarpoolError) as refused:
            await call(served, 2, timeout_s=0.005)
        model.gate.set()
        await asyncio.gather(held, patient)
    assert isinstance(refused.value.__cause__ or refused.value, DeadlineExceeded | CarpoolError)
    assert getattr(refused.value, "status", 504) == 504
