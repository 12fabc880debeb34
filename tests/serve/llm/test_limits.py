"""What a language model refuses, and how: too long, too much, too many, unknown; and what others refuse for it."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from carpool.core.step_policy import StepPolicy
from carpool.serve.llm.served import Promises
from tests.llm.fake_runner import FakeRunner
from tests.serve.fakes import request as tensors
from tests.serve.llm.rig import events, language_model, serving, until_idle

PATH = "/v1/completions"


def asked(**more: Any) -> dict[str, Any]:
    """Return a request."""
    return {"model": "m", "prompt": "hello", "temperature": 0, "max_tokens": 4, **more}


def _held_back(gate: threading.Event) -> FakeRunner:
    """Make a model whose steps wait for a gate."""

    def wait(_batch: object) -> None:
        gate.wait(30)

    return FakeRunner(before=wait)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"prompt": "a" * 128},
            "the prompt has 128 tokens, and the model takes 128 tokens, of which one at least is generated: shorten it",
        ),
        (
            {"prompt": "a" * 100, "max_tokens": 40},
            "max_tokens is 40 after a prompt of 100 tokens, and the model takes 128 tokens: ask for 28 at most",
        ),
    ],
)
async def test_what_is_longer_than_the_model_takes_is_refused_with_the_numbers(
    fields: dict[str, Any], said: str
) -> None:
    """By the code that OpenAI's clients know."""
    async with serving() as client:
        answer = await client.post(PATH, asked(**fields))
    assert answer.status == 400
    assert answer.json["error"]["message"].startswith(said)
    assert answer.json["error"]["code"] == "context_length_exceeded"


async def test_what_is_longer_than_the_cache_holds_is_refused_with_the_numbers() -> None:
    """It could never run."""
    async with serving(FakeRunner(num_blocks=4)) as client:
        answer = await client.post(PATH, asked(prompt="a" * 20))
    assert answer.status == 400
    assert "the KV cache holds 16 tokens (of 128 that the model takes)" in answer.json["error"]["message"]


@pytest.mark.parametrize(
    ("fields", "param", "said"),
    [
        ({"prompt": ""}, "prompt", "has no tokens"),
        ({"prompt": []}, "prompt", "empty list"),
        ({"prompt": [[]]}, "prompt", "prompt 0 is []"),
        ({"prompt": [1, 99]}, "prompt", "the token 99, and the model has 0 to 31"),
        ({"prompt": [["a"]]}, "prompt", "give texts, or lists of token ids"),
        ({"prompt": [True]}, "prompt", "prompt 0 is True"),
        ({"max_tokens": 0}, "max_tokens", "or 0 with echo"),
        ({"logprobs": 21}, "logprobs", "give 0 to 20"),
        ({"n": 100}, "n", "asks for 100 answers, of at most 72: split it"),
        ({"temperature": 1e400}, None, "is not JSON"),
        ({"min_tokens": 500, "max_tokens": None}, "min_tokens", "min_tokens is 500, and 123 fit after the prompt"),
        ({"priority": 10**9}, "priority", "-1,000,000 to 1,000,000, of which lower goes sooner"),
        ({"stop_token_ids": [500]}, "stop_token_ids", "names the token 500"),
        ({"model": "nobody"}, "model", "there is no model 'nobody' here: use one of m"),
    ],
)
async def test_request_that_is_wrong_is_refused_by_its_field(fields: dict[str, Any], param: str, said: str) -> None:
    """In OpenAI's words."""
    async with serving() as client:
        answer = await client.post(PATH, asked(**fields))
    assert answer.status == (404 if param == "model" else 400)
    assert answer.json["error"]["param"] == param
    assert said in answer.json["error"]["message"]


async def test_overload_is_answered_429_and_harms_nobody_else() -> None:
    """With when to come back; of a request that is refused nothing is left."""
    gate = threading.Event()
    runner = _held_back(gate)
    policy = StepPolicy(num_slots=1, token_budget=16, block_size=4, max_waiting=2)
    async with serving(runner, policy=policy) as client:
        held = [asyncio.create_task(client.post(PATH, asked(prompt=[place]))) for place in range(2)]
        engine = client.served.engine  # type: ignore[attr-defined]
        while engine.num_running + engine.num_waiting < 2:  # noqa: ASYNC110 - the engine's thread sets no event of ours
            await asyncio.sleep(0.001)
        many = await client.post(PATH, asked(prompt=[[5], [6], [7]]))
        gate.set()
        answers = await asyncio.gather(*held)
    assert many.status == 429
    assert many.json["error"]["code"] == "rate_limit_exceeded"
    assert int(many.headers["retry-after"]) >= 1
    assert [answer.status for answer in answers] == [200, 200]


@pytest.mark.parametrize("streams", [False, True])
async def test_client_that_goes_away_frees_its_place(streams: bool) -> None:
    """Whether it reads along or waits for the whole."""
    gate, entered = threading.Event(), threading.Event()

    def wait(_batch: object) -> None:
        entered.set()
        gate.wait(30)

    async with serving(FakeRunner(before=wait)) as client:
        gone = asyncio.Event()
        body = b'{"model":"m","prompt":"hello","max_tokens":100,"temperature":0,"stream":%b}' % (
            b"true" if streams else b"false"
        )
        task = asyncio.create_task(client.send("POST", PATH, [body], gone=gone))
        await asyncio.to_thread(entered.wait)
        gone.set()
        await task
        gate.set()
        await until_idle(client.served)  # type: ignore[arg-type]
        totals = client.served.engine.metrics.totals()  # type: ignore[attr-defined]
    assert totals.endings == {"abort": 1}
    assert totals.num_generated_tokens < 10


async def test_model_that_fails_says_so_in_the_midst_of_a_stream() -> None:
    """As its last event, which clients raise."""
    runs = []

    def fail(_batch: object) -> None:
        runs.append(1)
        if len(runs) > 2:
            message = "the weights melted"
            raise RuntimeError(message)

    async with serving(FakeRunner(before=fail)) as client:
        answer = await client.post(PATH, asked(stream=True, max_tokens=9))
    last = events(answer.body)[-1]
    assert "the weights melted" in last["error"]["message"]
    assert last["error"]["type"] == "server_error"


async def test_request_that_waits_too_long_is_given_up() -> None:
    """By its own limit; while it computes it is not."""
    gate = threading.Event()
    policy = StepPolicy(num_slots=1, token_budget=16, block_size=4, max_waiting=8)
    runner = _held_back(gate)
    async with serving(runner, policy=policy, promises=Promises(timeout_s=60.0)) as client:
        first = asyncio.create_task(client.post(PATH, asked()))
        engine = client.served.engine  # type: ignore[attr-defined]
        while not engine.num_running:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.001)
        late = asyncio.create_task(client.post(PATH, asked(prompt="b"), {"X-Timeout-Ms": "1"}))
        while not engine.num_waiting:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
        gate.set()
        answers = await asyncio.gather(first, late)
    assert [answer.status for answer in answers] == [200, 504]


async def test_other_protocols_say_where_to_ask() -> None:
    """A language model has no rows, no tensors and no policy of batches."""
    async with serving() as client:
        answers = [
            await client.post("/v2/models/m/infer", tensors([1], shape=[1])),
            await client.post("/predict/m", {"input": "x"}),
            await client.get("/v2/models/m"),
            await client.get("/v2/models/m/policy"),
        ]
        ready = [await client.get("/v2/models/m/ready"), await client.get("/v2/health/ready")]
    assert [answer.status for answer in answers] == [400] * 4
    for answer in answers:
        assert "ask it at /v1/completions and /v1/chat/completions" in answer.json["error"]
    assert [answer.status for answer in ready] == [200, 200]


async def test_model_that_loads_or_has_failed_answers_503() -> None:
    """As any other model does."""
    from tests.serve.fakes import Client

    client = Client(language_model())  # type: ignore[arg-type]
    answer = await client.post(PATH, asked())
    assert answer.status == 503
    assert "is loading" in answer.json["error"]["message"]
    assert (await client.get("/health")).status == 503
