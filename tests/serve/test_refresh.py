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
