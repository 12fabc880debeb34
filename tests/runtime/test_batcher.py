"""The public batcher, with real threads and event loops."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from carpool import Batcher, Policy, batched
from carpool.errors import (
    BatcherClosed,
    DeadlineExceeded,
    QueueFull,
)
from carpool.models.model import Model
from carpool.signals.events import BatchRan
from tests.runtime.fakes import Gate, Recorder, double


async def test_awaiting_gives_each_caller_its_own_result() -> None:
    """Many concurrent calls, each answered with what belongs to it."""
    async with Batcher(double, max_batch_size=8) as batcher:
        results = await asyncio.gather(*(batcher(number) for number in range(100)))
    assert results == [2 * number for number in range(100)]


def test_map_keeps_the_order_and_fills_batches() -> None:
    """A thousand items come back in order, in batches that are nearly all full."""
    sizes = []

    def model(numbers: list[int]) -> list[int]:
        sizes.append(len(numbers))
        return double(numbers)

    with Batcher(model, max_batch_size=16) as batcher:
        assert batcher.map(range(1000)) == [2 * number for number in range(1000)]
    assert max(sizes) == 16
    assert sum(sizes) == 1000


def test_map_of_nothing_is_nothing() -> None:
    """An empty list needs no batch."""
    with Batcher(double) as batcher:
        assert batcher.map([]) == []


def test_map_is_not_refused_by_a_short_queue() -> None:
    """More items than the queue holds: map waits for room instead of failing."""
    with Batcher(double, policy=Policy(max_batch_size=4, max_queue=5)) as batcher:
        assert batcher.map(range(200)) == [2 * number for number in range(200)]


def test_threads_and_several_loops_share_one_batcher() -> None:
    """Callers in different threads, with and without event loops, all get their own results."""
    with Batcher(double, max_batch_size=8) as batcher, ThreadPoolExecutor(4) as pool:

        def with_loop(start: int) -> list[int]:
            async def ask() -> list[int]:
                results: list[int] = await asyncio.gather(*(batcher(start + offset) for offset in range(50)))
                return results

            return asyncio.run(ask())

        jobs = [pool.submit(with_loop, 100 * thread) for thread in range(2)]
        jobs += [pool.submit(batcher.map, range(100 * thread, 100 * thread + 50)) for thread in (2, 3)]
        for thread, job in enumerate(jobs):
            assert job.result() == [2 * (100 * thread + offset) for offset in range(50)]


async def test_what_is_pending_when_the_model_is_free_runs_together() -> None:
    """Late binding: items that came while a batch ran form the next one."""
    gate = Gate()
    async with Batcher(gate, max_batch_size=8) as batcher:
        first = batcher.enqueue(0)
        await asyncio.to_thread(gate.entered.wait)
        others = [batcher.enqueue(number) for number in range(1, 6)]
        gate.opened.set()
        assert await asyncio.gather(first, *others) == [0, 2, 4, 6, 8, 10]
    assert gate.batches == [[0], [1, 2, 3, 4, 5]]


async def test_a_cancelled_item_is_not_computed() -> None:
    """A caller that goes away while its item waits takes it along; its batch-mates do not notice."""
    gate = Gate()
    async with Batcher(gate) as batcher:
        running = batcher.enqueue(0)
        await asyncio.to_thread(gate.entered.wait)
        leaver = asyncio.create_task(batcher(1))
        stayer = batcher.enqueue(2)
        future = batcher.enqueue(3)
        await asyncio.sleep(0)
        leaver.cancel()
        future.cancel()
        await asyncio.wait([leaver])
        gate.opened.set()
        assert [await running, await stayer] == [0, 4]
        assert batcher.metrics.totals().drops["cancelled"] == 2
    assert gate.batches == [[0], [2]]


async def test_a_deadline_is_answered_while_the_model_is_busy() -> None:
    """An item whose deadline passes in the queue is answered then, not when the model comes back, and not computed."""
    gate = Gate()
    async with Batcher(gate) as batcher:
        running = batcher.enqueue(0)
        await asyncio.to_thread(gate.entered.wait)
        with pytest.raises(DeadlineExceeded, match=r"passed after 0\.0.* s in the queue; it was not computed"):
            await batcher(1, deadline_s=0.01)
        assert not running.done()
        gate.opened.set()
        assert await running == 0
    assert gate.batches == [[0]]


async def test_a_full_queue_refuses_at_once() -> None:
    """One item more than may wait: refused with the numbers; when to come back is not known before a batch has run."""
    gate = Gate()
    async with Batcher(gate, policy=Policy(max_queue=2)) as batcher:
        running = batcher.enqueue(0)
        await asyncio.to_thread(gate.entered.wait)
        waiting = [batcher.enqueue(1), batcher.enqueue(2)]
        with pytest.raises(QueueFull, match="the queue holds 2 items, and max_queue is 2") as refusal:
            batcher.enqueue(3)
        assert refusal.value.retry_after_s is None
        gate.opened.set()
        assert await asyncio.gather(running, *waiting) == [0, 2, 4]
        assert batcher.metrics.totals().rejections == {"queue_full": 1}


async def test_close_answers_everything_that_was_accepted() -> None:
    """Shutting down waits for what was accepted, and takes nothing more."""
    gate = Gate()
    batcher = Batcher(gate, max_batch_size=2)
    await asyncio.to_thread(batcher.start)
    futures = [batcher.enqueue(number) for number in range(7)]
    closing = asyncio.create_task(asyncio.to_thread(batcher.close))
    gate.opened.set()
    await closing
    assert await asyncio.gather(*futures) == [2 * number for number in range(7)]
    with pytest.raises(BatcherClosed, match="takes no more items"):
        batcher.enqueue(8)


def test_warm_up_runs_before_the_first_item() -> None:
    """The batches that warm_up yields are run on the model first, and are nobody's answer."""
    seen: list[list[int]] = []

    def model(numbers: list[int]) -> list[int]:
        seen.append(list(numbers))
        return double(numbers)

    def warm_up(_: Model) -> list[list[int]]:
        return [[7] * 4, [7]]

    with Batcher(model, warm_up=warm_up) as batcher:
        assert batcher.map([1]) == [2]
    assert seen == [[7, 7, 7, 7], [7], [1]]


def test_allowed_batch_sizes_pad_up_and_drop_the_padding() -> None:
    """A model compiled for sizes 4 and 8 is never called with another."""
    sizes = set()

    def model(numbers: list[int]) -> list[int]:
        sizes.add(len(numbers))
        return double(numbers)

    with Batcher(model, policy=Policy(max_batch_size=8, batch_size_buckets=(4, 8))) as batcher:
        assert batcher.map(range(21)) == [2 * number for number in range(21)]
    assert sizes <= {4, 8}


def test_the_decorator_starts_at_the_first_call() -> None:
    """A decorated function keeps its name, and is called with single items."""

    @batched(max_batch_size=4)
    def triple(numbers: list[int]) -> list[int]:
        """Three times each."""
        return [3 * number for number in numbers]

    assert getattr(triple, "__name__", None) == "triple"
    assert triple.map([1, 2]) == [3, 6]
    assert asyncio.run(one(triple, 5)) == 15
    triple.close()


async def one(batcher: Batcher, item: int) -> object:
    """Await one item."""
    return await batcher(item)


def test_several_workers_run_at_the_same_time() -> None:
    """Two workers, a barrier of two: it can only be passed together."""
    barrier = threading.Barrier(2)

    def model(numbers: list[int]) -> list[int]:
        barrier.wait()
        return double(numbers)

    with Batcher(model, max_batch_size=1, num_workers=2) as batcher:
        assert batcher.map([1, 2, 3, 4]) == [2, 4, 6, 8]


def test_events_say_what_ran() -> None:
    """Every item is in exactly one batch record, whose times are in order."""
    sink = Recorder()
    with Batcher(double, max_batch_size=8, sink=sink) as batcher:
        batcher.map(range(100))
    ran = [event for event in sink.events if isinstance(event, BatchRan)]
    assert sum(event.num_items for event in ran) == 100
    for event in ran:
        assert max(event.arrived_at) <= event.dispatched_at <= event.started_at <= event.finished_at
