"""A language model that generates letters, offered over HTTP: the real engine around a model that is a formula."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from carpool.core.step_policy import StepPolicy
from carpool.llm.chat import ChatTemplate
from carpool.llm.engine import Engine
from carpool.serve.llm.served import Promises, ServedLM
from tests.llm.fake_runner import FakeRunner, parts
from tests.serve.fakes import Client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from carpool.llm.parts import Parts

TEMPLATE = (
    "{% if tools %}{{ tools[0].function.name }} {% endif %}"
    "{% for m in messages %}{{ m.role }} {{ m.content }}.{% endfor %}"
    "{% if add_generation_prompt %}assistant {% endif %}"
)
POLICY = StepPolicy(num_slots=8, token_budget=64, block_size=4, max_waiting=64)


def letters(runner: FakeRunner, *, has_chat: bool = True) -> Parts:
    """Put together what the engine works with, a chat template among it."""
    return replace(parts(runner), chat=ChatTemplate(TEMPLATE) if has_chat else None)


def language_model(
    runner: FakeRunner | None = None,
    *,
    policy: StepPolicy = POLICY,
    promises: Promises | None = None,
    has_chat: bool = True,
    name: str = "m",
) -> ServedLM:
    """Make a model that is not yet started."""
    made = runner or FakeRunner()
    engine = Engine(lambda: letters(made, has_chat=has_chat), policy=policy)
    return ServedLM(engine, name=name, policy=policy, promises=promises)


@asynccontextmanager
async def serving(runner: FakeRunner | None = None, **options: Any) -> AsyncIterator[Client]:
    """Serve a model under the name `m`, and see afterwards that nothing is left of any request."""
    served = language_model(runner, **options)
    await asyncio.to_thread(served.start)
    try:
        yield Client(served)  # type: ignore[arg-type]
        await until_idle(served)
        served.engine.check_integrity()
    finally:
        await asyncio.to_thread(served.close, 30.0)


async def until_idle(served: ServedLM) -> None:
    """Give way until nothing runs or waits; that is another thread's to say, which sets no event of ours."""
    while served.engine.num_running or served.engine.num_waiting:  # noqa: ASYNC110
        await asyncio.sleep(0.001)


def events(body: bytes) -> list[Any]:
    """Read a stream of events, which must end in the mark of its end."""
    lines = [line for line in body.decode().split("\n\n") if line]
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
