"""Preparing the next batch while a device computes: fake stages that say they are on one, and gates instead of time."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

from carpool import Batcher
from carpool.core import AffineCost
from carpool.errors import InvalidItem, ModelError, ModelHung
from carpool.models.model import Admitted, Model, ModelInfo, Stages
from carpool.models.torch_model import TorchModel
from carpool.runtime.overlap import Ahead, overlaps
from tests.runtime.fakes import until

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

NEVER_S = 1000.0


class Staged(Model):
    """Doubles numbers in stages that note what they do; computing waits for a gate."""

    def __init__(self, device: str = "cuda:0") -> None:
        self._info = ModelInfo(name="staged", kind="function", target="staged", device=device)
        self.log: list[tuple[str, list[int]]] = []
        self.threads: dict[str, set[int]] = {"prepare": set(), "compute": set()}
        self.gate = threading.Event()

    @property
    def info(self) -> ModelInfo:
        """What it pretends to be."""
        return self._info

    @property
    def concurrent(self) -> bool:
        """It keeps nothing between calls."""
        return True

    @property
    def stages(self) -> Stages:
        """The five of them."""
        return Stages(self._prepare, list, self._compute, list, list)

    def load(self) -> None:
        """Nothing to do."""

    def admit(self, item: object) -> Admitted:
        """Take everything."""
        return Admitted(item)

    def run(self, payloads: Sequence[Any]) -> Any:
        """Run the stages one after the other."""
        return self.stages.run(payloads)

    def _prepare(self, payloads: Sequence[Any]) -> list[int]:
        self.threads["prepare"].add(threading.get_ident())
        self.log.append(("prepare", list(payloads)))
        if -1 in payloads:
            raise InvalidItem("-1 can't be collated")
        return list(payloads)

    def _compute(self, numbers: list[int]) -> list[int]:
        self.threads["compute"].add(threading.get_ident())
        self.log.append(("compute", numbers))
        self.gate.wait()
        self.log.append(("computed", numbers))
        if 13 in numbers:
            raise ValueError("thirteen")
        return [2 * number for number in numbers]


def seen(model: Staged, what: str, numbers: list[int]) -> Callable[[], bool]:
    """Return a condition: a stage has begun, or ended, with these numbers."""
    return lambda: (what, numbers) in model.log


async def test_the_next_batch_is_prepared_while_the_device_computes_the_current_one() -> None:
    """The current one is predicted to end at once, so that it is time to prepare; one batch ahead, and no more."""
    model = Staged()
    async with Batcher(model, max_batch_size=1, cost_model=AffineCost(1e-9, 1e-9)) as batcher:
        futures = [batcher.enqueue(number) for number in (1, 2, 3)]
        await until(seen(model, "prepare", [2]))
        assert model.log == [("prepare", [1]), ("compute", [1]), ("prepare", [2])]
        assert batcher.num_waiting == 1
        model.gate.set()
        assert await asyncio.gather(*futures) == [2, 4, 6]
    assert model.threads["prepare"] != model.threads["compute"]
    assert (len(model.threads["prepare"]), len(model.threads["compute"])) == (1, 1)


async def test_what_arrives_while_the_device_computes_still_joins_the_next_batch() -> None:
    """The current one is predicted to take long: nothing is bound before it has ended."""
    model = Staged()
    async with Batcher(model, max_batch_size=8, cost_model=AffineCost(NEVER_S, 1e-9)) as batcher:
        first = batcher.enqueue(1)
        await until(seen(model, "compute", [1]))
        others = [batcher.enqueue(number) for number in (2, 3, 4)]
        model.gate.set()
        assert await asyncio.gather(first, *others) == [2, 4, 6, 8]
    assert [entry for entry in model.log if entry[0] == "prepare"] == [("prepare", [1]), ("prepare", [2, 3, 4])]


async def test_nothing_is_prepared_ahead_while_nothing_is_known() -> None:
    """The first batch of a batcher that was given no cost model predicts nothing."""
    model = Staged()
    async with Batcher(model, max_batch_size=8) as batcher:
        first = batcher.enqueue(1)
        await until(seen(model, "compute", [1]))
        others = [batcher.enqueue(2), batcher.enqueue(3)]
        model.gate.set()
        assert await asyncio.gather(first, *others) == [2, 4, 6]
    assert ("prepare", [2, 3]) in model.log


def test_failures_of_either_part_concern_their_own_item_only() -> None:
    """One that can't be collated, one that can't be computed; all others are answered, in order."""
    model = Staged()
    model.gate.set()
    with Batcher(model, max_batch_size=8) as batcher:
        outcomes = batcher.map_outcomes([1, -1, 2, 13, *range(20, 60)])
    assert isinstance(outcomes.pop(3), ModelError)
    assert isinstance(outcomes.pop(1), InvalidItem)
    assert outcomes == [2, 4, *range(40, 120, 2)]


async def test_closing_finishes_what_was_prepared() -> None:
    """Items in both stages, and those that wait."""
    model = Staged()
    batcher = Batcher(model, max_batch_size=1, cost_model=AffineCost(1e-9, 1e-9))
    await asyncio.to_thread(batcher.start)
    futures = [batcher.enqueue(number) for number in range(5)]
    await until(seen(model, "prepare", [1]))
    closing = asyncio.create_task(asyncio.to_thread(batcher.close))
    model.gate.set()
    assert await asyncio.gather(*futures) == [0, 2, 4, 6, 8]
    await closing


async def test_what_was_prepared_for_a_thread_that_hangs_runs_on_another() -> None:
    """The items of the call that hangs are told; the batch behind it is run again, by the next worker."""
    model = Staged()
    batcher = Batcher(model, max_batch_size=1, cost_model=AffineCost(1e-9, 1e-9), batch_timeout_s=0.2)
    async with batcher:
        hung, behind = batcher.enqueue(1), batcher.enqueue(2)
        await until(seen(model, "prepare", [2]))
        with pytest.raises(ModelHung):
            await hung
        model.gate.set()
        assert await behind == 4


def test_only_a_device_beside_the_processor_overlaps() -> None:
    """On a CPU the two parts would take turns for the same cores."""
    assert overlaps(Staged("cuda:1"))
    assert not overlaps(Staged("cpu"))


def test_the_next_batch_is_formed_as_late_as_preparing_allows() -> None:
    """Half as much again before the predicted end as preparing takes; never ahead without a prediction."""
    ahead = Ahead()
    assert ahead.look_at(ends_at=10.0) == float("inf")
    for _ in range(100):
        ahead.prepared(0.2)
    assert ahead.look_at(ends_at=10.0) == pytest.approx(9.7)
    assert ahead.look_at(ends_at=None) == float("inf")
    ahead.prepared(0.4)
    assert ahead.look_at(ends_at=10.0) == pytest.approx(10.0 - 1.5 * 0.22)


class PretendsToBeElsewhere(TorchModel):
    """A module on the CPU that says it is on a device."""

    @property
    def info(self) -> ModelInfo:
        """As it is, but for the device."""
        return replace(super().info, device="cuda:0")


def test_the_stages_of_a_module_give_the_same_in_two_threads_as_in_one() -> None:
    """Bit for bit, whatever the batches."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 4))
    items = list(np.random.default_rng(0).standard_normal((200, 16), dtype=np.float32))
    with Batcher(TorchModel(module, name="one"), max_batch_size=1) as batcher:
        expected = batcher.map(items)
    with Batcher(PretendsToBeElsewhere(module, name="two"), max_batch_size=1) as batcher:
        np.testing.assert_array_equal(batcher.map(items), expected)
