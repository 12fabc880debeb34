"""Workers that are threads: loaded in turn, warmed up each, left behind when they hang."""

from __future__ import annotations

import asyncio
import threading

import pytest

from carpool import Batcher
from carpool.errors import ConfigError, ModelError, ModelHung
from tests.runtime.fakes import Gate, double

POISON = 13


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


def test_more_workers_than_any_machine_runs_are_refused() -> None:
    """Before anything is made for each of them."""
    with pytest.raises(ConfigError, match="num_workers is 1000000000; it must be at most 1024: run more servers"):
        Batcher(lambda batch: batch, num_workers=1_000_000_000)


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
