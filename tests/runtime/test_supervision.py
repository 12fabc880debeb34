"""Workers that die, hang or leak: what was accepted is answered once, and the worker is replaced or given up."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carpool import Batcher
from carpool.core import VirtualClock
from carpool.errors import BatcherClosed, CarpoolError, ConfigError, ModelError, ModelHung, WorkerDied
from carpool.runtime.process.remote import RemoteModel
from carpool.runtime.process.spawn import cause_of_death
from carpool.runtime.restarts import Restarts
from carpool.runtime.watch import Watch
from carpool.signals.events import BatchFailed
from tests.runtime import process_models
from tests.runtime.fakes import Gate, Recorder, double

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WITHIN_S = 30
POISON = process_models.POISON


def remote_of(batcher: Batcher, number: int = 0) -> RemoteModel:
    """Return the model of a worker that is a process."""
    model = batcher._models[number]
    assert isinstance(model, RemoteModel)
    return model


async def until(condition: Callable[[], object]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(WITHIN_S):
        while not condition():  # noqa: ASYNC110 - what happens in another process sets no event here
            await asyncio.sleep(0.002)


def begun(path: Path) -> list[int]:
    """The processes that have begun with the item of this path."""
    file = path.with_suffix(".began")
    return [int(line) for line in file.read_text().split()] if file.exists() else []


@pytest.mark.parametrize("num_workers", [1, 2])
async def test_a_worker_killed_in_mid_batch_costs_no_answer(tmp_path: Path, num_workers: int) -> None:
    """Its batch runs again, whole, on a new worker or another one; each item is answered once."""
    sink, paths = Recorder(), [tmp_path / str(number) for number in range(3)]
    batcher = Batcher(process_models.SlowDouble, worker="process", num_workers=num_workers, sink=sink)
    async with batcher:
        futures = batcher.enqueue_all([str(path) for path in paths])
        await until(lambda: all(len(begun(path)) == 1 for path in paths))
        os.kill(begun(paths[0])[0], signal.SIGKILL)
        await until(lambda: all(len(begun(path)) == 2 for path in paths))
        for path in paths:
            path.touch()
        assert await asyncio.gather(*futures) == [str(path).upper() for path in paths]
        assert batcher.ready
    failed = [event for event in sink.events if isinstance(event, BatchFailed)]
    assert [event.num_items for event in failed] == [3]
    assert "was ended by SIGKILL: often the system's out-of-memory killer" in failed[0].error


@pytest.mark.parametrize(
    ("model", "num_items", "message"),
    [
        (process_models.crashing, 64, "was ended by SIGSEGV: native code of the model crashed"),
        (process_models.leaving, 14, "ended with exit code 7: the model, or a library in it, left the program"),
    ],
)
def test_an_item_that_kills_its_worker_fails_alone(model: Any, num_items: int, message: str) -> None:
    """63 answers, one error that names the signal or exit code and what to do."""
    with Batcher(model, worker="process", max_batch_size=64) as batcher:
        outcomes = batcher.map_outcomes(range(num_items))
    error = outcomes.pop(POISON)
    assert isinstance(error, WorkerDied)
    assert message in str(error)
    assert "while it ran a batch of 1 item" in str(error)
    assert outcomes == [2 * n for n in range(num_items) if n != POISON]


def test_an_item_that_hangs_its_worker_fails_alone() -> None:
    """The process is ended and replaced, until the guilty item is found."""
    with Batcher(process_models.hanging, worker="process", batch_timeout_s=0.3, max_batch_size=4) as batcher:
        outcomes = batcher.map_outcomes(range(12, 16))
        assert batcher.map([1]) == [2]
    error = outcomes.pop(1)
    assert isinstance(error, ModelHung)
    assert "a batch of 1 item took longer than batch_timeout, 300 ms" in str(error)
    assert outcomes == [24, 28, 30]


async def test_a_worker_that_dies_with_nothing_to_do_is_replaced_at_once() -> None:
    """Nobody has to ask for it."""
    async with Batcher(process_models.pid, worker="process") as batcher:
        before = remote_of(batcher).pid
        assert before is not None
        os.kill(before, signal.SIGKILL)
        await until(lambda: remote_of(batcher).pid != before and batcher.ready)
        assert await batcher(1) == remote_of(batcher).pid != before


def test_the_death_of_one_worker_does_not_touch_another(tmp_path: Path) -> None:
    """What the other runs goes on, and it takes what waits meanwhile."""

    async def check() -> None:
        paths = [tmp_path / name for name in ("one", "other")]
        async with Batcher(process_models.SlowDouble, worker="process", num_workers=2, max_batch_size=1) as batcher:
            futures = [batcher.enqueue(str(path)) for path in paths]
            await until(lambda: all(begun(path) for path in paths))
            os.kill(begun(paths[0])[0], signal.SIGKILL)
            paths[1].touch()
            await futures[1]
            assert len(begun(paths[1])) == 1
            paths[0].touch()
            assert await futures[0] == str(paths[0]).upper()

    asyncio.run(check())


def test_a_worker_that_dies_of_everything_is_given_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Not started for ever: after as many attempts as may help all items fail, and readiness says why."""
    monkeypatch.setattr("carpool.runtime.restarts._FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr("carpool.runtime.restarts._MOST_PAUSES", 2)
    with (
        caplog.at_level(logging.WARNING, "carpool.runtime"),
        Batcher(process_models.always_dying, worker="process", max_batch_size=1) as batcher,
    ):
        outcomes = batcher.map_outcomes(range(10))
        assert all(isinstance(outcome, WorkerDied) for outcome in outcomes)
        assert (batcher.ready, batcher.accepts) == (False, False)
        assert isinstance(batcher.failure, WorkerDied)
        assert "no worker is left" in str(batcher.failure)
        with pytest.raises(WorkerDied, match="no worker is left"):
            batcher.map([1])
    assert "worker 0 failed, and it is given up: the worker's process" in caplog.text


async def test_a_worker_that_can_no_longer_start_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits fails with why, and readiness is false."""
    monkeypatch.setenv("CARPOOL_TEST_MARK", str(tmp_path / "mark"))
    monkeypatch.setattr("carpool.runtime.restarts._FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr("carpool.runtime.restarts._MOST_PAUSES", 2)
    async with Batcher(process_models.OnceThenDead, worker="process") as batcher:
        assert batcher.ready
        with pytest.raises(WorkerDied, match=r"no worker is left.*exit code 5.*while it loaded the model"):
            await batcher(POISON)
        assert not batcher.ready
        assert "exit code 5" in str(batcher.failure)


async def test_while_a_worker_is_replaced_items_wait_and_readiness_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are accepted all the same, and closing then does not wait for the pause."""
    monkeypatch.setenv("CARPOOL_TEST_MARK", str(tmp_path / "mark"))
    monkeypatch.setattr("carpool.runtime.restarts._FIRST_PAUSE_S", 60.0)
    monkeypatch.setattr("carpool.runtime.restarts._MOST_PAUSES", 2)
    async with Batcher(process_models.OnceThenDead, worker="process") as batcher:
        future = batcher.enqueue(POISON)
        await until(lambda: batcher.trouble and "while it loaded" in str(batcher.trouble))
        assert (batcher.ready, batcher.accepts, batcher.failure) == (False, True, None)
        assert (tmp_path / "mark").exists()
        await asyncio.to_thread(batcher.close)
        with pytest.raises(WorkerDied):
            await future


def test_a_leaking_worker_is_replaced_between_batches() -> None:
    """Every item is answered; no process runs them all."""
    limit = 120_000_000
    with Batcher(process_models.Leaky, worker="process", max_batch_size=1, max_worker_memory_bytes=limit) as batcher:
        pids = batcher.map(range(6))
        assert batcher.metrics.totals().num_batch_failures == 0
    assert 1 < len(set(pids)) < 6


def test_a_limit_of_memory_below_what_a_worker_holds_at_first_is_told() -> None:
    """It would be replaced for ever."""
    with (
        pytest.raises(ConfigError, match="before its first batch, and max_worker_memory is 1 MiB: raise it"),
        Batcher(process_models.double, worker="process", max_worker_memory_bytes=1 << 20),
    ):
        pass


async def test_closing_waits_for_the_batch_in_a_worker(tmp_path: Path) -> None:
    """What was accepted is answered; then the process ends."""
    path = tmp_path / "item"
    batcher = Batcher(process_models.SlowDouble, worker="process")
    await asyncio.to_thread(batcher.start)
    future = batcher.enqueue(str(path))
    await until(lambda: begun(path))
    closing = asyncio.create_task(asyncio.to_thread(batcher.close))
    path.touch()
    assert await future == str(path).upper()
    await closing
    assert remote_of(batcher).is_dead


async def test_closing_in_time_ends_a_process_that_is_not_done(tmp_path: Path) -> None:
    """Its items are told, and nothing is run again."""
    path = tmp_path / "item"
    batcher = Batcher(process_models.SlowDouble, worker="process")
    await asyncio.to_thread(batcher.start)
    future = batcher.enqueue(str(path))
    await until(lambda: begun(path))
    await asyncio.to_thread(batcher.close, 0.01)
    with pytest.raises(WorkerDied):
        await future
    assert len(begun(path)) == 1
    assert remote_of(batcher).is_dead


def test_closing_while_it_loads_ends_the_process() -> None:
    """Whoever waits for the start is told."""
    batcher = Batcher(process_models.Sleeper, worker="process")
    starting = threading.Thread(target=lambda: outcomes.append(outcome_of(batcher.start)))
    outcomes: list[Any] = []
    starting.start()

    async def has_child() -> None:
        await until(lambda: remote_of(batcher).pid)

    asyncio.run(has_child())
    batcher.close()
    starting.join(WITHIN_S)
    assert [type(outcome) for outcome in outcomes] == [BatcherClosed]
    assert remote_of(batcher).is_dead


def outcome_of(call: Callable[[], object]) -> object:
    """Return what a call returns or raises."""
    try:
        return call()
    except CarpoolError as error:
        return error


# ------------------------------------------------------------------------------------------------------ threads


def test_models_of_one_process_are_loaded_one_after_the_other() -> None:
    """Libraries change settings of the whole process while they load."""
    loading: list[int] = []

    class Heavy:
        """Sees whether another one is loaded meanwhile."""

        def load(self) -> None:
            """Look around."""
            loading.append(len(loading))
            threading.Event().wait(0.01)
            assert loading.pop() == 0

        def __call__(self, numbers: list[int]) -> list[int]:
            """Twice each."""
            return double(numbers)

    with Batcher(Heavy, num_workers=4, max_batch_size=1) as batcher:
        assert batcher.map(range(16)) == [2 * n for n in range(16)]


def test_a_worker_that_can_not_be_loaded_ends_the_start_for_all() -> None:
    """The others are not loaded any more."""
    made: list[object] = []

    class Third:
        """Loads twice; the third one can't be."""

        def load(self) -> None:
            """Count."""
            made.append(self)
            if len(made) == 3:
                raise OSError("no memory left")

        def __call__(self, numbers: list[int]) -> list[int]:
            """Never reached."""
            return numbers

    with pytest.raises(ModelError, match="no memory left"), Batcher(Third, num_workers=8):
        pass
    assert len(made) == 3


def test_every_worker_is_warmed_up_on_its_own_thread() -> None:
    """Before the first item: a library may prepare for each thread anew."""
    threads: list[int] = []

    def model(numbers: list[int]) -> list[int]:
        threads.append(threading.get_ident())
        return double(numbers)

    with Batcher(model, num_workers=3, warm_up=lambda _: [[1], [1, 2]]):
        assert len(threads) == 6
        assert len(set(threads)) == 3


async def test_a_thread_that_hangs_is_replaced_where_the_model_may_be_called_again() -> None:
    """Its items are answered; what waits runs on another thread; the late result is not delivered."""
    gate = Gate()

    def model(numbers: list[int]) -> list[int]:
        return gate(numbers) if POISON in numbers else double(numbers)

    async with Batcher(model, batch_timeout_s=0.05, max_batch_size=1) as batcher:
        hung, good = batcher.enqueue(POISON), batcher.enqueue(1)
        with pytest.raises(ModelHung, match="a batch of 1 item took longer than batch_timeout, 50 ms"):
            await hung
        assert await good == 2
        assert batcher.ready
        gate.opened.set()
        assert await batcher(2) == 4


async def test_a_thread_that_hangs_takes_a_model_with_it_that_no_other_may_call() -> None:
    """Nothing is left to run with: all that waits fails, and readiness says why."""
    gate = Gate()
    async with Batcher(gate, batch_timeout_s=0.05, max_batch_size=1) as batcher:
        futures = [batcher.enqueue(1), batcher.enqueue(2)]
        outcomes = await asyncio.gather(*futures, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [ModelHung, ModelHung]
        assert (batcher.ready, batcher.accepts) == (False, False)
        assert "no worker is left" in str(batcher.failure)
        gate.opened.set()


async def test_a_thread_that_hangs_gets_a_copy_where_one_can_be_made() -> None:
    """A class is made once more."""
    gates: list[Gate] = []

    class Stubborn(Gate):
        """Made once for each worker."""

        def __init__(self) -> None:
            super().__init__()
            if gates:
                self.opened.set()
            gates.append(self)

    async with Batcher(Stubborn, batch_timeout_s=0.05) as batcher:
        with pytest.raises(ModelHung):
            await batcher(1)
        assert await batcher(2) == 4
        assert len(gates) == 2
        gates[0].opened.set()


async def test_threads_that_hang_again_and_again_are_given_up() -> None:
    """Each is left behind with what it holds: there are only so many."""
    opened = threading.Event()

    def model(numbers: list[int]) -> list[int]:
        opened.wait()
        return double(numbers)

    async with Batcher(model, batch_timeout_s=0.01, max_batch_size=1) as batcher:
        outcomes = await asyncio.gather(*(batcher(n) for n in range(8)), return_exceptions=True)
        assert all(isinstance(outcome, ModelHung) for outcome in outcomes)
        assert "no worker is left" in str(batcher.failure)
        opened.set()


# ------------------------------------------------------------------------------------------------------ pure parts


@given(st.integers(1, 4096), st.lists(st.booleans(), max_size=80))
def test_no_worker_is_started_for_ever(max_batch_size: int, starts: list[bool]) -> None:
    """Whether it dies at load or later, a bounded number of attempts ends it; isolation alone never does."""
    restarts = Restarts(max_batch_size)
    for _ in range(2 + max_batch_size.bit_length()):
        assert restarts.pause_s(has_started=True) == 0.0
    pauses = [restarts.pause_s(has_started=has_started) for has_started in [*starts, *[False] * 8]]
    assert pauses[-1] is None
    assert sum(pause or 0.0 for pause in pauses) < 60.0
    restarts.ran()
    assert restarts.pause_s(has_started=True) == 0.0


def test_a_watch_tells_late_calls_from_those_in_time() -> None:
    """At the limit a call is late; one that has ended is not; each is told once."""
    clock, told = VirtualClock(), list[str]()
    watch = Watch(2.0, clock)
    watch.begin("a", lambda: told.append("a"))
    clock.advance_to(1.0)
    watch.begin("b", lambda: told.append("b"))
    watch.begin("c", lambda: told.append("c"))
    assert watch.end("c")
    assert watch.wait_s() == 1.0
    clock.advance_to(2.0)
    for on_late in watch.late():
        on_late()
    assert (told, watch.end("a"), watch.wait_s()) == (["a"], False, 1.0)
    clock.advance_to(9.0)
    assert watch.wait_s() == 0.0
    for on_late in watch.late() + watch.late():
        on_late()
    assert (told, watch.end("b"), watch.wait_s()) == (["a", "b"], False, None)


@pytest.mark.parametrize(
    ("exit_code", "said"),
    [
        (-9, "was ended by SIGKILL: often the system's out-of-memory killer"),
        (-11, "was ended by SIGSEGV: native code of the model crashed"),
        (-15, "was ended by SIGTERM: see what it wrote to the standard error"),
        (-64, "was ended by S"),
        (-250, "was ended by signal 250"),
        (0, "ended with exit code 0: the model, or a library in it, left the program"),
    ],
)
def test_the_cause_of_a_death_is_named(exit_code: int, said: str) -> None:
    """A signal by its name, an exit by its code, and what to do."""
    assert said in cause_of_death(exit_code)
