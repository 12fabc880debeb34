"""Requests of more rows than a batch, and than the queue."""

from __future__ import annotations

import asyncio
import time

import pytest

from carpool.errors import CarpoolError
from tests.serve.sharing import Squarer, call, on_offer, until


async def test_a_request_larger_than_a_batch_is_split_and_joined() -> None:
    """In order, in batches that are full."""
    model = Squarer()
    async with on_offer(model, max_batch_size=8) as served:
        answer = await call(served, *range(100))
    assert answer.results == [number * number for number in range(100)]
    assert max(map(len, model.batches)) == 8


async def test_a_request_larger_than_the_queue_is_fed_in_parts() -> None:
    """Ten thousand rows through a queue of sixty-four; never more than half of it waits at a time."""
    model = Squarer()
    depths = []
    async with on_offer(model, max_batch_size=16, max_queue=640, look_ahead=16) as served:
        asking = asyncio.create_task(call(served, *range(10_000)))
        while not asking.done():
            depths.append(served.batcher.num_waiting)
            await asyncio.sleep(0)
        assert (await asking).results == [number * number for number in range(10_000)]
    assert 0 < max(depths) <= 32


async def test_others_do_not_stand_behind_all_of_a_large_request() -> None:
    """One who comes while ten thousand rows are on their way waits for a window of them."""
    model = Squarer()
    async with on_offer(model, max_batch_size=8, max_queue=1000, look_ahead=8) as served:
        held = await model.hold(served)
        large = asyncio.create_task(call(served, *range(10_000)))
        await until(lambda: served.batcher.num_waiting == 16)
        small = asyncio.create_task(call(served, -7))
        await until(lambda: served.batcher.num_waiting == 17)
        model.gate.set()
        assert (await small).results == [49]
        await asyncio.gather(held, large)
    assert model.seen.index(-7) < 40


async def test_a_tenant_is_not_held_up_by_the_large_request_of_another() -> None:
    """Its item is in the next batch."""
    model = Squarer()
    async with on_offer(model, max_batch_size=8, max_queue=1000, look_ahead=8) as served:
        held = await model.hold(served)
        large = asyncio.create_task(call(served, *range(5000), tenant="a"))
        await until(lambda: served.batcher.num_waiting == 16)
        small = asyncio.create_task(call(served, -7, tenant="b"))
        await until(lambda: served.batcher.num_waiting == 17)
        model.gate.set()
        await asyncio.gather(small, held, large)
    assert -7 in model.batches[1]


async def test_a_large_request_that_is_cancelled_stops_being_fed() -> None:
    """What waits is withdrawn, and the rest never joins."""
    model = Squarer()
    async with on_offer(model, max_batch_size=8, max_queue=100, look_ahead=8) as served:
        held = await model.hold(served)
        large = asyncio.create_task(call(served, *range(1000)))
        await until(lambda: served.batcher.num_waiting == 16)
        large.cancel()
        await until(lambda: served.batcher.num_waiting == 0)
        model.gate.set()
        await held
    assert model.seen == [10**6]


async def test_a_row_that_fails_ends_a_large_request() -> None:
    """It is named, and what would follow is not computed."""
    model = Squarer(unlucky=13)
    async with on_offer(model, max_batch_size=8, max_queue=100, look_ahead=8) as served:
        with pytest.raises(CarpoolError, match="13 brings bad luck"):
            await call(served, *range(1000))
        await until(lambda: served.batcher.num_waiting == 0)
    assert len(model.seen) < 200


async def test_a_large_request_waits_while_others_fill_the_queue() -> None:
    """It is fed again once there is room."""
    model = Squarer()
    async with on_offer(model, max_batch_size=4, max_queue=40, look_ahead=4) as served:
        held = await model.hold(served)
        large = asyncio.create_task(call(served, *range(100)))
        await until(lambda: served.batcher.num_waiting == 8)
        others = [asyncio.create_task(call(served, -number)) for number in range(1, 33)]
        await until(lambda: served.batcher.num_waiting == 40)
        model.gate.set()
        assert (await large).results == [number * number for number in range(100)]
        await asyncio.gather(held, *others)


async def test_a_large_request_that_would_take_too_long_is_refused_at_once() -> None:
    """Ten thousand rows of a model that is known to take a tenth of a second for eight."""

    class Slow(Squarer):
        """Takes its time."""

        def __call__(self, numbers: list[int]) -> list[int]:  # type: ignore[override]
            """Square them slowly."""
            time.sleep(0.02)
            return super().__call__(numbers)

    model = Slow()
    async with on_offer(model, max_batch_size=8, max_queue=1000) as served:
        for _ in range(3):
            await call(served, *range(8))
        with pytest.raises(CarpoolError, match="10,000 rows are predicted to take"):
            await call(served, *range(10_000), timeout_s=0.5)
    assert len(model.seen) == 24
