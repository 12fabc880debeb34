"""Models that follow their files."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

from carpool.serve.call import CallOptions
from carpool.serve.refresh import Refresh
from tests.serve.repositories import offer_of, write_entry, write_model

if TYPE_CHECKING:
    from pathlib import Path

    from carpool.serve.offer import Offer


async def first_number(offer: Offer) -> float:
    """Ask the model what becomes of 1."""
    number: float = (await offer.named("m").call([[1.0]], CallOptions())).results[0][0]
    return number


async def until_it_answers(offer: Offer, number: float) -> None:
    """Ask until the model answers so."""
    async with asyncio.timeout(30):
        while await first_number(offer) != number:  # noqa: ASYNC110 - it is for threads
            await asyncio.sleep(0)


async def test_a_signal_loads_what_has_changed(tmp_path: Path) -> None:
    """As often as it comes."""
    directory = write_entry(tmp_path, "m", factor=1)
    offer = offer_of(tmp_path)
    await asyncio.to_thread(offer.start)
    Refresh(offer).begin()
    for factor in (2, 3):
        write_model(directory, factor)
        os.kill(os.getpid(), signal.SIGHUP)
        await until_it_answers(offer, factor)
    asyncio.get_running_loop().remove_signal_handler(signal.SIGHUP)
    await asyncio.to_thread(offer.close, 5.0)


WITH_HELPER = """
from weights import K
class Model:
    examples = [[1.0]]
    def __call__(self, batch):
        return [[K * x for x in row] for row in batch]
"""


def write_with_helper(directory: Path, factor: int) -> None:
    """Write a model whose factor is in a module beside it."""
    directory.mkdir(exist_ok=True)
    (directory / "model.py").write_text(WITH_HELPER)
    (directory / "weights.py").write_text(f"K = {factor}{' ' * factor}\n")


async def test_models_and_versions_have_helpers_of_their_own(tmp_path: Path) -> None:
    """Of one name in each directory; one that has changed is read again, and no other."""
    for name, factors in (("m", (1, 2)), ("n", (3,))):
        directory = write_entry(tmp_path, name, 'versions = "all"\n')
        for version, factor in enumerate(factors, start=1):
            write_with_helper(directory / str(version), factor)
    offer = offer_of(tmp_path)
    await asyncio.to_thread(offer.start)
    asked = [("m", "1"), ("m", "2"), ("n", "1")]

    async def numbers() -> list[float]:
        return [(await offer.named(*one).call([[1.0]], CallOptions())).results[0][0] for one in asked]

    assert await numbers() == [1, 2, 3]
    write_with_helper(tmp_path / "m" / "2", 7)
    Refresh(offer, watch_s=0.01).begin()
    await until_it_answers(offer, 7)
    assert await numbers() == [1, 7, 3]
    asyncio.get_running_loop().remove_signal_handler(signal.SIGHUP)
    await asyncio.to_thread(offer.close, 5.0)


async def test_a_watch_looks_by_itself(tmp_path: Path) -> None:
    """Again and again."""
    directory = write_entry(tmp_path, "m", factor=1)
    offer = offer_of(tmp_path)
    await asyncio.to_thread(offer.start)
    Refresh(offer, watch_s=0.01).begin()
    for factor in (2, 3):
        write_model(directory, factor)
        await until_it_answers(offer, factor)
    asyncio.get_running_loop().remove_signal_handler(signal.SIGHUP)
    await asyncio.to_thread(offer.close, 5.0)
