"""How the queue treats requests: limits, timeouts, priorities; over the whole way of a call, or in virtual time."""

from __future__ import annotations

import asyncio

import pytest

from carpool.core import AffineCost, Item, Policy
from carpool.errors import CarpoolError
from tests.core.simulation import Simulation
from tests.serve.sharing import Squarer, call, on_offer, until

COST = AffineCost(overhead_s=0.01, token_s=0.001)


async def test_what_is_over_the_queue_size_is_refused_at_once() -> None:
    """Ten come while one runs; eight wait and two are told when to come back, before any of the others is answered."""
    model = Squarer()
    async with on_offer(model, max_queue=8) as served:
        await call(served, 0)  # shows how long a batch takes
        model.entered.acquire()
        held = await model.hold(served)
        calls = [asyncio.create_task(call(served, number)) for number in range(10)]
        await until(lambda: sum(one.done() for one in calls) == 2)
        refused = [one.exception() for one in calls if one.done()]
        assert all(getattr(error, "retry_after_s", None) is not None for error in refused)
        assert [getattr(error, "status", 0) for error in refused] == [429, 429]
        model.gate.set()
        await held
        answers = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(not isinstance(answer, BaseException) for answer in answers) == 8


async def test_a_request_that_times_out_is_refused_and_the_others_go_on() -> None:
    """It is answered when its time is over, not when a worker is free; it is never computed."""
    model = Squarer()
    async with on_offer(model) as served:
        held = await model.hold(served)
        late = asyncio.create_task(call(served, 2, timeout_s=0.01))
        others = [asyncio.create_task(call(served, number)) for number in (3, 4)]
        with pytest.raises(CarpoolError, match="deadline") as refusal:
            await late
        assert not held.done()
        model.gate.set()
        assert [(await other).results for other in others] == [[9], [16]]
        await held
    assert getattr(refusal.value, "status", 504) == 504
    assert model.batches[1:] == [[3, 4]]


async def test_a_timeout_of_a_request_overrides_the_one_of_the_server() -> None:
    """Shorter or longer: who asks knows how long the answer is worth something."""
    model = Squarer()
    async with on_offer(model, request_timeout_s=0.02) as served:
        held = await model.hold(served, timeout_s=30.0)
        patient = asyncio.create_task(call(served, 2, timeout_s=30.0))
        usual = asyncio.create_task(call(served, 3))
        with pytest.raises(CarpoolError, match="deadline"):
            await usual
        model.gate.set()
        assert (await patient).results == [4]
        await held


def test_a_request_that_would_be_late_is_refused_at_arrival() -> None:
    """Where the queue ahead is known to take longer than it has: better now than after the wait."""
    simulation = Simulation(Policy(max_batch_size=1), COST)
    simulation.arrive_all([Item() for _ in range(20)])
    simulation.arrive(Item(arrived_at=0.001, deadline_at=0.1, priority=-20))
    outcome = simulation.run()
    assert (len(outcome.refused), len(outcome.answered)) == (1, 20)


def test_a_higher_priority_goes_first() -> None:
    """Of those that wait when a worker is free."""
    simulation = Simulation(Policy(max_batch_size=2), COST)
    levels = [0, 0, 0, 5, 0, 5]
    simulation.arrive_all(Item(payload=n, arrived_at=0.0001 * n, priority=p) for n, p in enumerate(levels))
    assert [[item.payload for item in batch.items] for batch in simulation.run().batches] == [[0], [3, 5], [1, 2], [4]]


def test_no_priority_stated_is_the_level_in_the_middle() -> None:
    """Above what is background work, below what is urgent."""
    simulation = Simulation(Policy(max_batch_size=1), COST)
    levels = {"first": 0, "background": -1, "plain": 0, "urgent": 1}
    simulation.arrive_all(Item(payload=name, priority=level) for name, level in levels.items())
    assert [item.payload for item in simulation.run().answered] == ["urgent", "first", "plain", "background"]


def test_a_low_priority_does_not_starve() -> None:
    """Each level is worth a second of waiting: under a steady stream of urgent work it is served after that."""
    simulation = Simulation(Policy(max_batch_size=1, ageing_s=0.1), COST)
    simulation.arrive_all(Item(arrived_at=0.01 * number, priority=3) for number in range(200))
    simulation.arrive(low := Item(arrived_at=0.05))
    outcome = simulation.run()
    position = next(index for index, item in enumerate(outcome.answered) if item is low)
    assert position < 50


def test_background_work_fills_what_padding_would_waste() -> None:
    """Rows of padding that run anyway hold waiting background items, and no call is made for them."""
    policy = Policy(max_batch_size=8, batch_size_buckets=(4, 8), ageing_s=100.0)
    simulation = Simulation(policy, COST)
    simulation.arrive_all(Item(payload=p, priority=p, arrived_at=0.001) for p in (0, 0, 0, -1, -1))
    assert [item.payload for item in simulation.run().batches[0].items] == [0, 0, 0, -1]


async def test_tenants_have_their_shares_of_a_full_queue() -> None:
    """A hundred rows of one hold up two rows of another for one batch."""
    model = Squarer()
    async with on_offer(model, max_batch_size=8) as served:
        held = await model.hold(served)
        many = asyncio.create_task(call(served, *range(100), tenant="a"))
        few = asyncio.create_task(call(served, -1, -2, tenant="b"))
        await until(lambda: served.batcher.num_waiting == 102)
        model.gate.set()
        await asyncio.gather(held, many, few)
    assert {-1, -2} <= set(model.batches[1]) | set(model.batches[2])


async def test_a_poison_item_among_sixty_four_fails_alone() -> None:
    """Sixty-three answers and one error."""
    model = Squarer(unlucky=13)
    async with on_offer(model, max_batch_size=64) as served:
        held = await model.hold(served)
        calls = [asyncio.create_task(call(served, number)) for number in range(64)]
        await until(lambda: served.batcher.num_waiting == 64)
        model.gate.set()
        answers = await asyncio.gather(*calls, return_exceptions=True)
        await held
    failed = [number for number, answer in enumerate(answers) if isinstance(answer, BaseException)]
    assert failed == [13]


async def test_a_batch_that_does_not_fit_is_halved_and_the_limit_remembered() -> None:
    """Everybody is answered, and the next batches are no larger than what fitted."""

    class Small(Squarer):
        """Has memory for ten."""

        def __call__(self, numbers: list[int]) -> list[int]:  # type: ignore[override]
            """Square them, if they fit."""
            results = super().__call__(numbers)
            if len(numbers) > 10:
                raise MemoryError
            return results

    model = Small()
    async with on_offer(model, max_batch_size=32) as served:
        answer = await call(served, *range(32))
        tried = len(model.batches)
        again = await call(served, *range(32))
    assert answer.results == again.results == [number**2 for number in range(32)]
    assert max(map(len, model.batches[tried:])) <= 10


async def test_overload_answers_what_it_accepts_and_refuses_the_rest_at_once() -> None:
    """Five times what the queue holds: refusals are answered while the model is still at its first batch."""
    model = Squarer()
    async with on_offer(model, max_batch_size=16, max_queue=64) as served:
        held = await model.hold(served)
        calls = [asyncio.create_task(call(served, number)) for number in range(320)]
        await until(lambda: sum(one.done() for one in calls) == 256)
        assert len(model.batches) == 1
        model.gate.set()
        answers = await asyncio.gather(*calls, return_exceptions=True)
        await held
    assert sum(not isinstance(answer, BaseException) for answer in answers) == 64
    assert [len(batch) for batch in model.batches[1:]] == [16, 16, 16, 16]
