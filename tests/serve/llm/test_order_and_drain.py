"""Who goes first, and what becomes of streams when the server stops."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

from carpool.core.step_policy import StepPolicy
from carpool.serve.server import Ending
from tests.llm.fake_runner import FakeRunner, expected, text, tokens
from tests.serve.live import stop, visit_to_the_end
from tests.serve.llm.rig import events, language_model, serving

PATH = "/v1/completions"
ONE_SLOT = StepPolicy(num_slots=1, token_budget=16, block_size=4, max_waiting=64)


async def order_of(asked: list[tuple[str, dict[str, Any], dict[str, str]]]) -> list[str]:
    """Let requests wait behind one that is held up, and return their names in the order of their answers.

    Args:
        asked: names, fields and headers, in the order of arrival.
    """
    gate, answered = threading.Event(), []

    def wait(_batch: object) -> None:
        gate.wait(30)

    async with serving(FakeRunner(before=wait), policy=ONE_SLOT) as client:
        engine = client.served.engine  # type: ignore[attr-defined]

        async def ask(name: str, fields: dict[str, Any], headers: dict[str, str]) -> None:
            body = {"model": "m", "prompt": name, "max_tokens": 4, "temperature": 0, **fields}
            assert (await client.post(PATH, body, headers)).status == 200
            answered.append(name)

        tasks = [asyncio.create_task(ask("first", {}, {}))]
        for place, one in enumerate(asked):
            while engine.num_running + engine.num_waiting <= place:  # noqa: ASYNC110 - the engine's thread sets no event
                await asyncio.sleep(0.001)
            tasks.append(asyncio.create_task(ask(*one)))
        while engine.num_running + engine.num_waiting <= len(asked):  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.001)
        gate.set()
        await asyncio.gather(*tasks)
    return answered[1:]


async def test_higher_header_goes_first_and_lower_field() -> None:
    """The header is Carpool's, of which higher goes sooner; the field is vLLM's, of which lower does."""
    asked: list[tuple[str, dict[str, Any], dict[str, str]]] = [
        ("usual", {}, {}),
        ("header", {}, {"X-Priority": "50"}),
        ("field", {"priority": -100}, {}),
        ("later", {"priority": 100}, {}),
    ]
    assert await order_of(asked) == ["field", "header", "usual", "later"]


async def test_tenant_of_one_request_does_not_wait_for_all_of_another() -> None:
    """Shares are equal, where nothing is told of them."""
    heavy: list[tuple[str, dict[str, Any], dict[str, str]]] = [
        ("heavy" + "." * place, {}, {"X-Tenant": "heavy"}) for place in range(6)
    ]
    order = await order_of([*heavy, ("light", {}, {"X-Tenant": "light"})])
    assert order.index("light") <= 2


def test_stop_finishes_streams_that_have_begun() -> None:
    """Within the drain's time; the server then ends well."""
    gate = threading.Event()
    runs: list[int] = []

    def wait(_batch: object) -> None:
        runs.append(1)
        if len(runs) > 3:
            gate.wait(30)

    served = language_model(FakeRunner(before=wait))
    body = {"model": "m", "prompt": "hello", "max_tokens": 20, "temperature": 0, "stream": True}

    def use(url: str) -> bytes:
        with closing(http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)) as connection:
            connection.request("POST", PATH, json.dumps(body))
            answer = connection.getresponse()
            begun = answer.read1(200)
            stop()
            gate.set()
            return begun + answer.read()

    told, ending = visit_to_the_end(served, use)
    said = "".join(part["choices"][0]["text"] for part in events(told))
    assert said == text(expected(tokens("hello"), 20))
    assert ending is Ending.ANSWERED
