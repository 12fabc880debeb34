"""Workers that die, hang or leak: what was accepted is answered once, and the worker is replaced or given up."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest

from carpool import Batcher
from carpool.errors import BatcherClosed, CarpoolError, ConfigError, ModelHung, WorkerDied
from carpool.runtime.process.remote import RemoteModel
from carpool.signals.events import BatchFailed
from tests.runtime import process_models
from tests.runtime.fakes import Recorder, until

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
