"""What becomes of items when the model, the caller or the batcher itself fails."""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from carpool import Batcher
from carpool.core import AffineCost, Batch, BatchFormer, Item, Policy, VirtualClock
from carpool.cost.model import Measurement, fit_cost_model
from carpool.errors import (
    BatcherClosed,
    ConfigError,
    DispatcherDied,
    InvalidItem,
    ModelError,
    OutOfMemory,
    OutOfRange,
    WrongResultCount,
)
from carpool.models.target import wrap
from carpool.runtime.delivery import Pile, nothing
from carpool.runtime.dispatcher import Dispatcher
from carpool.runtime.restarts import Restarts
from carpool.runtime.worker import Care, Worker
from carpool.signals.events import BatchFailed, Event
from tests.runtime.fakes import Gate, Recorder, double


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
    assert (batcher.metrics.totals().num_items, batcher.metrics.totals().num_failed) == (64, 1)
    assert isinstance(outcomes[13], ModelError)
    assert "the model raised ValueError: thirteen is not a number here" in str(outcomes[13])


def test_the_time_of_a_run_that_raised_is_on_record() -> None:
    """A quarter of a second in the model before it gave up: the worker was busy, though nothing was answered."""
    clock, sink = VirtualClock(), Recorder()
    former = BatchFormer(Policy(), AffineCost(overhead_s=0.1, token_s=0.01))
    dispatcher = Dispatcher(former, clock, sink, lambda _, then=nothing: then())
    dispatcher.submit_all([Item(handle=Pile(1).place(0))])

    def model(numbers: Sequence[int]) -> list[int]:
        clock.advance_to(clock.now() + 0.25)
        raise ValueError("no")

    batch = dispatcher.step()
    assert isinstance(batch, Batch)
    care, restarts = Care(closing=threading.Event()), Restarts(max_batch_size=1)
    worker = Worker(0, wrap(model), loading=threading.Lock(), restarts=restarts, care=care, clock=clock)
    worker.model.load()
    assert worker.run(batch, dispatcher, lambda _: None, lambda: worker._call(batch))
    (failed,) = sink.events
    assert isinstance(failed, BatchFailed)
    assert (failed.started_at, failed.at, failed.num_items) == (0.0, 0.25, 1)


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
        ([1], "returned 1 result for 2 items"),
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


async def test_a_fault_of_the_batcher_itself_fails_what_waits_and_says_so() -> None:
    """The dispatcher dies: what runs is still answered, nobody is left waiting, readiness goes, the reason is told."""
    runs = threading.Event()

    class Broken:
        """A sink that breaks its promise never to raise."""

        def record(self, event: Event) -> None:
            """Raise, once the next batch runs."""
            runs.wait(10)
            raise RuntimeError("disk on fire")

    def model(numbers: Sequence[int]) -> Sequence[int]:
        if numbers[0] == 1:  # it runs while the batch before it is recorded
            runs.set()
            while batcher.ready:
                time.sleep(0.001)
        return numbers

    batcher = Batcher(model, max_batch_size=1, sink=Broken())
    await asyncio.to_thread(batcher.start)
    outcomes = await asyncio.gather(*[batcher.enqueue(number) for number in range(3)], return_exceptions=True)
    assert outcomes[:2] == [0, 1]
    assert isinstance(outcomes[2], DispatcherDied)
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


def test_a_cost_model_asked_beyond_its_range_does_not_stop_the_batcher() -> None:
    """A measured cost model raises beyond its range; the batcher serves larger batches all the same."""
    times_s = {size: 0.001 + 0.0001 * size for size in (1, 2, 4)}
    points = [Measurement(batch_size=b, time_s=t, low_s=0.9 * t, high_s=1.1 * t) for b, t in times_s.items()]
    cost_model = fit_cost_model(points, measured_on={})
    with pytest.raises(OutOfRange):
        cost_model.time_s(64, 1)
    with Batcher(double, max_batch_size=64, cost_model=cost_model) as batcher:
        assert batcher.map(range(200)) == [2 * number for number in range(200)]
