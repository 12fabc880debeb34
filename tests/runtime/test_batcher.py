"""The public batcher, with real threads and event loops."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from carpool import Batcher, Policy, batched
from carpool.errors import (
    BatcherClosed,
    ConfigError,
    DeadlineExceeded,
    DispatcherDied,
    InvalidItem,
    ModelError,
    OutOfMemory,
    QueueFull,
    WrongResultCount,
)
from carpool.models.model import Model
from carpool.signals.events import BatchRan, Event


def double(numbers: list[int]) -> list[int]:
    """Twice each."""
    return [2 * number for number in numbers]


class Gate:
    """A model that holds every batch until it is opened, and notes what it was given."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.entered = threading.Event()
        self.batches: list[list[int]] = []

    def __call__(self, numbers: list[int]) -> list[int]:
        """Twice each, once open."""
        self.batches.append(list(numbers))
        self.entered.set()
        self.opened.wait()
        return double(numbers)


class Recorder:
    """A sink that keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def record(self, event: Event) -> None:
        """Keep it."""
        self.events.append(event)


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
    """One item more than may wait: refused with the numbers and when to come back."""
    gate = Gate()
    async with Batcher(gate, policy=Policy(max_queue=2)) as batcher:
        running = batcher.enqueue(0)
        await asyncio.to_thread(gate.entered.wait)
        waiting = [batcher.enqueue(1), batcher.enqueue(2)]
        with pytest.raises(QueueFull, match="2 items wait, and max_queue is 2") as refusal:
            batcher.enqueue(3)
        assert refusal.value.retry_after_s is not None
        gate.opened.set()
        assert await asyncio.gather(running, *waiting) == [0, 2, 4]
        assert batcher.metrics.totals().rejections == {"queue_full": 1}


def poisoned(numbers: list[int]) -> list[int]:
    """Fails whenever 13 is among the numbers."""
    if 13 in numbers:
        raise ValueError("thirteen is not a number here")
    return double(numbers)


def test_only_the_poisonous_item_fails() -> None:
    """One of 64 items makes its batch fail: 63 answers, one error."""
    with Batcher(poisoned, max_batch_size=64) as batcher:
        outcomes = batcher.map_outcomes(range(64))
        assert batcher.metrics.totals().num_batch_failures > 0
    assert [outcome for outcome in outcomes if isinstance(outcome, int)] == [2 * n for n in range(64) if n != 13]
    assert isinstance(outcomes[13], ModelError)
    assert "the model raised ValueError: thirteen is not a number here" in str(outcomes[13])


def test_map_raises_what_the_first_failed_item_was_answered_with() -> None:
    """The others ran all the same."""
    with Batcher(poisoned) as batcher, pytest.raises(ModelError, match="thirteen"):
        batcher.map(range(20))


def test_out_of_memory_halves_and_is_remembered() -> None:
    """A model that holds at most 10 rows answers everything, and is soon asked for no more than it holds."""
    failures = []

    def model(numbers: list[int]) -> list[int]:
        if len(numbers) > 10:
            failures.append(len(numbers))
            raise MemoryError("no room")
        return double(numbers)

    with Batcher(model, max_batch_size=64) as batcher:
        assert batcher.map(range(640)) == [2 * number for number in range(640)]
    assert len(failures) <= 4


def test_an_item_that_alone_runs_out_of_memory_fails_clearly() -> None:
    """There is nothing to halve: the error says so."""

    def model(numbers: list[int]) -> list[int]:
        raise MemoryError("no room")

    with Batcher(model) as batcher, pytest.raises(OutOfMemory, match="a batch of 1 ran out of memory"):
        batcher.map([1])


def results_of(value: object) -> Callable[[list[int]], object]:
    """Return a model that returns `value`, whatever it is asked."""
    return lambda _: value


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ([1], "returned 1 results for 2 items"),
        (None, "returned a NoneType for 2 items"),
        ({"a": 1, "b": 2}, "returned a dict for 2 items"),
        ("ab", "returned a str for 2 items"),
    ],
)
def test_a_wrong_number_of_results_is_told(returned: object, message: str) -> None:
    """The model breaks its side: the items fail, with what it returned and what to return."""
    with Batcher(results_of(returned)) as batcher:
        outcomes = batcher.map_outcomes([0, 1])
    assert all(isinstance(outcome, WrongResultCount) for outcome in outcomes)
    assert all(message in str(outcome) for outcome in outcomes)


def test_nan_fails_only_its_own_item() -> None:
    """One row of the output is NaN: that item fails, the others are answered."""

    def model(numbers: list[float]) -> np.ndarray:
        return np.array([[number, 1.0] for number in numbers])

    with Batcher(model) as batcher:
        outcomes = batcher.map_outcomes([1.0, float("nan"), 3.0])
    assert [outcome.tolist() for outcome in outcomes[::2]] == [[1.0, 1.0], [3.0, 1.0]]
    assert isinstance(outcomes[1], ModelError)
    assert "NaN" in str(outcomes[1])


def test_an_exception_among_the_results_fails_only_its_own_item() -> None:
    """A model may answer an item with an exception."""
    with Batcher(lambda numbers: [ValueError("odd") if n % 2 else n for n in numbers]) as batcher:
        even, odd = batcher.map_outcomes([2, 3])
    assert even == 2
    assert isinstance(odd, ModelError)


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


async def test_close_with_a_limit_fails_what_could_not_be_finished() -> None:
    """A model that hangs does not keep the batcher from closing; what waits is told."""
    gate = Gate()
    batcher = Batcher(gate, max_batch_size=1)
    await asyncio.to_thread(batcher.start)
    running, waiting = batcher.enqueue(0), batcher.enqueue(1)
    await asyncio.to_thread(gate.entered.wait)
    await asyncio.to_thread(batcher.close, 0.01)
    with pytest.raises(BatcherClosed, match=r"0\.01 s were not enough"):
        await waiting
    gate.opened.set()
    assert await running == 0


async def test_a_fault_of_the_batcher_itself_fails_everything_and_says_so() -> None:
    """The dispatcher dies: nobody is left waiting, readiness goes, and the reason is told."""
    gate = Gate()

    class Broken:
        """A sink that breaks its promise never to raise."""

        def record(self, event: Event) -> None:
            """Raise."""
            raise RuntimeError("disk on fire")

    batcher = Batcher(gate, max_batch_size=1, sink=Broken())
    await asyncio.to_thread(batcher.start)
    futures = [batcher.enqueue(number) for number in range(3)]
    gate.opened.set()
    outcomes = await asyncio.gather(*futures, return_exceptions=True)
    assert outcomes[0] == 0
    assert all(isinstance(outcome, DispatcherDied) for outcome in outcomes[1:])
    assert not batcher.ready
    with pytest.raises(DispatcherDied, match="disk on fire"):
        await batcher(4)
    assert isinstance(batcher.failure, DispatcherDied)


def test_a_model_that_cannot_load_is_told_at_start() -> None:
    """Entering the block raises what loading raised."""

    class Unloadable:
        """Its weights are missing."""

        def load(self) -> None:
            """Fail."""
            raise FileNotFoundError("weights.bin")

        def __call__(self, items: list[int]) -> list[int]:
            """Never reached."""
            return items

    with pytest.raises(ModelError, match=r"weights\.bin"), Batcher(Unloadable()):
        pass


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


def test_wrong_use_is_told() -> None:
    """Values outside their range, and a batcher that is not running."""
    with pytest.raises(ConfigError, match="max_batch_size is 0; it must be at least 1"):
        Batcher(double, max_batch_size=0)
    with pytest.raises(ConfigError, match="'soon' is not a duration"):
        Batcher(double, max_wait="soon")
    with pytest.raises(ConfigError, match="num_workers is 0"):
        Batcher(double, num_workers=0)


async def test_enqueue_before_the_start_is_told() -> None:
    """Only a call starts a batcher by itself."""
    with pytest.raises(BatcherClosed, match="`with` or `async with` block"):
        Batcher(double).enqueue(1)


def test_an_invalid_item_never_joins_a_batch() -> None:
    """The model's own check refuses it; the others run."""

    class Picky:
        """Takes even numbers only."""

        def check(self, number: int) -> None:
            """Refuse odd ones."""
            if number % 2:
                raise ValueError("odd")

        def __call__(self, numbers: list[int]) -> list[int]:
            """Twice each."""
            return double(numbers)

    with Batcher(Picky()) as batcher:
        four, error = batcher.map_outcomes([2, 3])
    assert four == 4
    assert isinstance(error, InvalidItem)
