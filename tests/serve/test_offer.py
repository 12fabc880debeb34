"""Models that come and go while requests are answered."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from carpool.errors import CarpoolError, ModelError
from carpool.serve.call import CallOptions
from carpool.serve.faults import Fault
from carpool.serve.offer import NothingToServe, Offer
from tests.serve.fakes import Doubler
from tests.serve.fakes import offer as served_model
from tests.serve.repositories import offer_of, write_entry, write_model

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@asynccontextmanager
async def offering(directory: Path, **flags: object) -> AsyncIterator[Offer]:
    """Offer a repository, and close it afterwards."""
    offer = offer_of(directory, **flags)
    await asyncio.to_thread(offer.start)
    try:
        yield offer
    finally:
        await asyncio.to_thread(offer.close, 10.0)


async def ask(offer: Offer, name: str, version: str = "") -> Any:
    """Ask a model what becomes of [1, 1]; return the first number."""
    served = offer.named(name, version)
    served.check_ready()
    return (await served.call([np.ones(2)], CallOptions())).results[0][0]


def states(offer: Offer) -> dict[tuple[str, str], str]:
    """Return the state of every version."""
    return {(one.name, one.version): one.state for one in offer.index()}


async def until_drained() -> None:
    """Wait until what was taken out has finished."""
    for thread in threading.enumerate():
        if thread.name == "carpool-retire":
            await asyncio.to_thread(thread.join)


def fault(offer: Offer, name: str, version: str = "") -> Fault:
    """Return what a request for a model is refused with."""
    with pytest.raises(Fault) as caught:
        offer.named(name, version).check_ready()
    return caught.value


async def test_every_version_answers_by_its_number_and_the_highest_without(tmp_path: Path) -> None:
    """Names and versions are those that answer; others are refused with what there is."""
    directory = write_entry(tmp_path, "m")
    (directory / "carpool.toml").write_text('[model]\ntarget = "model.py:Model"\nversions = "all"\n')
    write_model(directory / "2", 2)
    write_model(directory / "10", 10)
    write_entry(tmp_path, "a", factor=5)
    async with offering(tmp_path) as offer:
        assert [await ask(offer, "m"), await ask(offer, "m", "2"), await ask(offer, "a")] == [10, 2, 5]
        assert (offer.names(), offer.versions("m"), offer.ready) == (("a", "m"), ("2", "10"), True)
        assert str(fault(offer, "b")) == "there is no model 'b' here: use one of a, m"
        assert str(fault(offer, "m", "3")) == "the model 'm' has no version '3': it has 2, 10"
        assert fault(offer, "m", "3").status == 404


async def test_a_model_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    """It is refused with its reason, and the server is not ready: not all that should be are."""
    write_entry(tmp_path, "good")
    write_model(write_entry(tmp_path, "bad"), 1, load="raise OSError('no weights')")
    write_entry(tmp_path, "worse", "[policy]\nmax_batch_size = 0\n")
    async with offering(tmp_path) as offer:
        assert await ask(offer, "good") == 2
        assert states(offer) == {("good", "1"): "READY", ("bad", "1"): "UNAVAILABLE", ("worse", ""): "UNAVAILABLE"}
        assert not offer.ready
        assert (fault(offer, "bad").status, "no weights" in str(fault(offer, "bad"))) == (503, True)
        assert "max_batch_size is 0" in str(fault(offer, "worse"))


def test_a_server_without_a_model_is_none(tmp_path: Path) -> None:
    """Every reason is told; where only one model is there, its own error is raised."""
    write_model(write_entry(tmp_path, "a"), 1, load="raise OSError('no weights')")
    with pytest.raises(ModelError, match="no weights"):
        offer_of(tmp_path).start()
    write_model(write_entry(tmp_path, "b"), 1, load="raise OSError('no memory')")
    with pytest.raises(NothingToServe, match=r"2 of 2 models can't be loaded: a: .*no weights.*; b: .*no memory"):
        offer_of(tmp_path).start()


def test_a_strict_server_starts_with_all_or_not_at_all(tmp_path: Path) -> None:
    """One that fails stops it."""
    write_entry(tmp_path, "a")
    write_model(write_entry(tmp_path, "b"), 1, load="raise OSError('no memory')")
    offer = offer_of(tmp_path)
    strict = Offer(offer._source, strict=True)
    with pytest.raises(NothingToServe, match="1 of 2 models"):
        strict.start()
    strict.close(5.0)


async def test_before_it_is_loaded_a_model_says_so(tmp_path: Path) -> None:
    """To whoever asks, with a time to come back."""
    write_entry(tmp_path, "m")
    offer = offer_of(tmp_path)
    assert (fault(offer, "m").status, fault(offer, "m").retry_after_s) == (503, 1.0)
    assert states(offer) == {("m", "1"): "LOADING"}
    assert not offer.ready


async def test_a_reload_under_load_fails_no_request(tmp_path: Path) -> None:
    """Requests are sent all the time while the model is changed and loaded anew three times; every one is answered."""
    directory = write_entry(tmp_path, "m", factor=1)
    done = asyncio.Event()

    async def client(offer: Offer, num_bytes: int) -> list[Any]:
        answers = []
        while not done.is_set():
            answer = await offer.named("m").call([[1.0, 1.0]] * 8, CallOptions(), num_bytes=num_bytes)
            answers.append(answer.results[0][0])
        return answers

    async with offering(tmp_path) as offer, asyncio.TaskGroup() as clients:
        # The rows of large requests are checked on a thread, and join the queue later.
        tasks = [clients.create_task(client(offer, num_bytes)) for num_bytes in (0, 0, 0, 1 << 20, 1 << 20)]
        for factor in (2, 3, 4):
            write_model(directory, factor)
            await offer.load("m")
            assert await ask(offer, "m") == factor
        done.set()
    answers = [task.result() for task in tasks]
    assert {number for one in answers for number in one} == {1, 2, 3, 4}
    assert all(one == sorted(one) for one in answers)  # who has seen the new one never sees the old one again


async def test_a_load_that_fails_leaves_the_old_one_serving(tmp_path: Path) -> None:
    """The caller is told why, and so is the index; what is mended loads."""
    directory = write_entry(tmp_path, "m", factor=1)
    async with offering(tmp_path) as offer:
        write_model(directory, 2, load="raise OSError('no weights')")
        with pytest.raises(Fault, match=r"can't be loaded: .*no weights") as caught:
            await offer.load("m")
        assert caught.value.status == 400
        assert await ask(offer, "m") == 1
        (state,) = offer.index()
        assert (state.state, "the former one serves on" in state.reason, offer.ready) == ("READY", True, True)
        write_model(directory, 3)
        await offer.load("m")
        assert await ask(offer, "m") == 3
        assert offer.index()[0].reason == ""


async def test_settings_that_are_broken_leave_the_old_one_serving(tmp_path: Path) -> None:
    """As files that are."""
    directory = write_entry(tmp_path, "m", factor=1)
    told = (directory / "carpool.toml").read_text()
    async with offering(tmp_path) as offer:
        (directory / "carpool.toml").write_text("[model\n")
        await offer.reload()
        assert (await ask(offer, "m"), offer.ready) == (1, True)
        assert "correct the TOML there" in offer.index()[0].reason
        (directory / "carpool.toml").write_text(told)
        await offer.reload()
        assert offer.index()[0].reason == ""


async def test_what_can_not_be_loaded_is_tried_again_when_it_has_changed_or_is_asked_for(tmp_path: Path) -> None:
    """And not at every look; what is wrong is logged once."""
    tried = tmp_path / "tried"
    bad = f"with open({str(tried)!r}, 'a') as file: file.write('x')\n        raise OSError('no weights')"
    directory = write_entry(tmp_path, "bad")
    write_entry(tmp_path, "good")
    write_model(directory, 1, load=bad)
    async with offering(tmp_path) as offer:
        for _ in range(3):
            await offer.reload(retry=False)
        assert tried.read_text() == "x"
        assert "no weights" in str(fault(offer, "bad"))
        await offer.reload()
        assert tried.read_text() == "xx"
        write_model(directory, 6)
        await offer.reload(retry=False)
        assert await ask(offer, "bad") == 6


async def test_what_has_not_changed_is_not_loaded_again(tmp_path: Path) -> None:
    """A load of it is answered at once."""
    write_entry(tmp_path, "m")
    async with offering(tmp_path) as offer:
        before = offer.named("m")
        await offer.load("m")
        await offer.reload()
        assert offer.named("m") is before


async def test_the_settings_of_a_load_win_until_the_next(tmp_path: Path) -> None:
    """In the form of a carpool.toml; wrong ones are refused."""
    write_entry(tmp_path, "m", "[policy]\nmax_batch_size = 3\n")
    async with offering(tmp_path) as offer:
        await offer.load("m", {"policy": {"max_batch_size": 5}, "model": {"num_threads": 1}})
        assert offer.named("m").batcher.policy.max_batch_size == 5
        with pytest.raises(Fault, match="the load of m: unknown key 'polcy'"):
            await offer.load("m", {"polcy": {}})
        assert offer.named("m").batcher.policy.max_batch_size == 5
        await offer.load("m")
        assert offer.named("m").batcher.policy.max_batch_size == 3


async def test_an_unload_finishes_what_was_accepted_and_takes_nothing_more() -> None:
    """A request that runs is answered; the next one is told that the model is unloaded."""
    model = Doubler()
    offer = Offer.of(served_model(model, name="m"))
    await asyncio.to_thread(offer.start)
    while model.entered.acquire(blocking=False):  # it ran its examples
        pass
    model.gate.clear()
    running = asyncio.create_task(ask(offer, "m"))
    await asyncio.to_thread(model.entered.acquire)
    await offer.unload("m")
    assert states(offer) == {("m", "1"): "UNLOADING"}
    refused = fault(offer, "m")
    assert (refused.status, "is unloaded: POST to /v2/repository/models/m/load" in str(refused)) == (404, True)
    assert offer.ready
    model.gate.set()
    assert await running == 2
    await until_drained()
    assert offer.index()[0].reason == "unloaded"
    offer.close(5.0)


async def test_an_unloaded_model_comes_back_when_it_is_asked_for(tmp_path: Path) -> None:
    """And not by a look at the files."""
    write_entry(tmp_path, "m")
    async with offering(tmp_path) as offer:
        await offer.unload("m")
        await until_drained()
        await offer.reload()
        assert fault(offer, "m").status == 404
        await offer.load("m")
        assert await ask(offer, "m") == 2
        with pytest.raises(Fault, match="there is no model 'x'"):
            await offer.unload("x")
        with pytest.raises(Fault, match="there is no model 'x' to load: there are m"):
            await offer.load("x")


async def test_a_look_at_the_files_brings_new_models_and_takes_out_those_that_are_gone(tmp_path: Path) -> None:
    """New versions too, which then answer without a number."""
    directory = write_entry(tmp_path, "m")
    write_model(directory / "1", 1)
    gone = write_entry(tmp_path, "gone")
    async with offering(tmp_path) as offer:
        write_model(directory / "2", 7)
        write_entry(tmp_path, "new", factor=9)
        (gone / "carpool.toml").unlink()
        await offer.reload()
        assert [await ask(offer, "m"), await ask(offer, "new")] == [7, 9]
        assert fault(offer, "gone").status == 404
        assert offer.versions("m") == ("2",)
        assert fault(offer, "m", "1").status == 404


async def test_a_change_of_policy_in_a_file_is_put_in_force_without_loading(tmp_path: Path) -> None:
    """The model stays as it is; one that can't be kept leaves the old one in force."""
    directory = write_entry(tmp_path, "m", "[policy]\nmax_batch_size = 3\n")
    told = (directory / "carpool.toml").read_text()
    async with offering(tmp_path) as offer:
        before = offer.named("m")
        (directory / "carpool.toml").write_text(told.replace("= 3", "= 4"))
        await offer.reload()
        assert offer.named("m") is before
        assert before.batcher.policy.max_batch_size == 4
        assert [version.who for version in offer.rollout("m").history] == ["start", "file"]
        (directory / "carpool.toml").write_text(told.replace("= 3", "= 4\nmemory_limit = 1"))
        await offer.reload()
        assert "does not predict memory" in offer.index()[0].reason
        assert before.batcher.policy.memory_limit_bytes is None


async def test_a_policy_that_was_changed_outlives_a_reload(tmp_path: Path) -> None:
    """Until a file tells another one."""
    directory = write_entry(tmp_path, "m", "[policy]\nmax_batch_size = 3\n")
    async with offering(tmp_path) as offer:
        await offer.set_policy("m", {"max_batch_size": 8}, who="ann")
        write_model(directory, 5)
        await offer.load("m")
        assert await ask(offer, "m") == 5
        assert offer.named("m").batcher.policy.max_batch_size == 8
        assert offer.rollout("m").in_force.who == "ann"


def test_several_models_load_at_a_time(tmp_path: Path) -> None:
    """Two that wait for each other while they load do load."""
    met = threading.Barrier(2)
    models = [served_model(_Meeting(met), name=name) for name in ("a", "b")]
    offer = Offer.of(*models)
    offer.start()
    assert offer.ready
    offer.close(5.0)


class _Meeting:
    """Loads when another one loads."""

    def __init__(self, met: threading.Barrier) -> None:
        self._met = met

    def load(self) -> None:
        """Wait for the other."""
        self._met.wait(30)

    def __call__(self, batch: list[Any]) -> list[Any]:
        """Give back what is given."""
        return batch


async def test_a_model_that_was_made_elsewhere_can_not_be_made_again() -> None:
    """Nor have other settings; that is said."""
    offer = Offer.of(served_model(Doubler(), name="m"))
    await asyncio.to_thread(offer.start)
    with pytest.raises(CarpoolError, match="takes no other settings"):
        await offer.load("m", {"policy": {}})
    with pytest.raises(CarpoolError, match="takes no other settings"):
        await offer.load("m", {"policy": {"max_batch_size": 3}})
    await offer.unload("m")
    with pytest.raises(CarpoolError, match="which alone can make it anew"):
        await offer.load("m")
    offer.close(5.0)
