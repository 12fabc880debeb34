"""A thousand streams at a time over real sockets, of which many break off: nothing is left of them."""

from __future__ import annotations

import asyncio
import json
import random
import resource
import threading
from typing import TYPE_CHECKING

import pytest

from carpool.core.step_policy import StepPolicy
from carpool.serve.app import create_router
from carpool.serve.offer import Offer
from tests.llm.fake_runner import EOS, FakeRunner, expected, text
from tests.serve import http_rig
from tests.serve.llm.rig import events, language_model, until_idle

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

    from carpool.llm.runner import StepBatch

NUM_STREAMS = 1000
AT_ONCE, AT_HEAD, IN_MIDST = 0, 1, 5
POLICY = StepPolicy(num_slots=64, token_budget=256, block_size=4, max_waiting=4096)


@pytest.fixture(autouse=True)
def many_files() -> Iterator[None]:
    """Let this process hold both ends of all connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4 * NUM_STREAMS
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, wanted), hard), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class HeldRunner(FakeRunner):
    """Computes nothing before it may."""

    def __init__(self) -> None:
        super().__init__(num_blocks=80)
        self.may_run = threading.Event()

    def run(self, batch: StepBatch) -> torch.Tensor:
        """Compute a step."""
        self.may_run.wait()
        return super().run(batch)


async def visit(server: http_rig.Server, chance: random.Random, patience: int | None) -> bool:
    """Ask for a stream; read all of it, which must be right, or break off: at once, at its head, or in its midst."""
    prompt = [chance.randrange(EOS) for _ in range(chance.randrange(1, 30))]
    num_tokens = chance.randrange(1, 40)
    body = {"model": "m", "prompt": prompt, "max_tokens": num_tokens, "temperature": 0, "stream": True}
    client = await server.connect()
    client.write(http_rig.written("POST", "/v1/completions", json.dumps(body).encode()))
    if patience is None:
        answer = await client.answer(to="POST")
        parts = events(answer.body)
        assert "".join(part["choices"][0]["text"] for part in parts) == text(expected(prompt, num_tokens))
        return True
    if patience:
        await client.reader.readuntil(b"\r\n\r\n")
        await client.reader.read(200 * (patience - AT_HEAD))
    client.reset() if chance.random() < 0.5 else client.writer.close()
    return False


async def test_disconnects_leave_nothing_behind() -> None:
    """No block, no sequence, no task and no connection; those who stay are answered as if they were alone."""
    runner = HeldRunner()
    served = language_model(runner, policy=POLICY)
    starting = asyncio.to_thread(served.start)
    runner.may_run.set()  # to warm up
    await starting
    runner.may_run.clear()
    before = len(asyncio.all_tasks())
    chance = random.Random(11)
    async with http_rig.serving(router=create_router(Offer.of(served))) as server:
        patiences = chance.choices([None, AT_ONCE, AT_HEAD, IN_MIDST], weights=[2, 1, 1, 1], k=NUM_STREAMS)
        visits = [asyncio.ensure_future(visit(server, chance, patience)) for patience in patiences]
        early = (one for one, patience in zip(visits, patiences, strict=True) if patience in (AT_ONCE, AT_HEAD))
        await asyncio.gather(*early)
        runner.may_run.set()
        stayed = await asyncio.gather(*visits)
        await until_idle(served)
        served.engine.check_integrity()
        server.hang_up()
        await http_rig.until(lambda: len(asyncio.all_tasks()) <= before + 1)  # the sweep over connections is one
    totals = served.engine.metrics.totals()
    assert sum(totals.endings.values()) <= NUM_STREAMS
    assert totals.endings["length"] >= sum(stayed) > NUM_STREAMS // 4
    assert totals.endings["abort"] > 0
    assert totals.num_preemptions > 0
    assert served.engine.usage == 0
    await asyncio.to_thread(served.close, 5.0)
