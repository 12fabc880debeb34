"""Models that fail in words that can't be written, or not in a few: every client is answered all the same."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from carpool.errors import CarpoolError, QueueFull
from carpool.serve.faults import to_fault
from carpool.serve.grpc.messages import ModelInferRequest
from carpool.serve.http.exchange import Exchange, Head, Reply
from tests.serve.fakes import serving
from tests.serve.grpc_rig import grpc_serving, one_answer, refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from carpool.serve.faults import Fault

HALF = "bad \ud83d"


class HarshError(CarpoolError):
    """A class of the user's own."""


class SilentError(CarpoolError):
    """It can't even say what it is."""

    def __str__(self) -> str:
        """Fail."""
        raise ValueError("no words")


class HastyError(QueueFull):
    """It says when to come back in a way that can't be counted."""

    retry_after_s = "soon"  # type: ignore[assignment]

    def __init__(self) -> None:
        Exception.__init__(self, "not now")


FAILURES = [
    (lambda: ValueError(HALF), "bad \\ud83d"),
    (lambda: HarshError(HALF), "bad \\ud83d"),
    (lambda: MemoryError("x" * 10_000_000), "xxx..."),
    (lambda: HarshError("x" * 10_000_000), "xxx..."),
    (SilentError, ""),
    (HastyError, "not now"),
]


def failing(make: Callable[[], BaseException]) -> Callable[[list[str]], list[str]]:
    """Return a model that fails on `x`, and gives `half` a surrogate pair."""

    def model(texts: list[str]) -> list[str]:
        if "x" in texts:
            raise make()
        return [HALF if text == "half" else text for text in texts]

    model.examples = ["a", "b"]  # type: ignore[attr-defined]
    return model


def asking(*texts: str) -> ModelInferRequest:
    """Write a request of texts."""
    request = ModelInferRequest(model_name="m")
    tensor = request.inputs.add(name="input", datatype="BYTES", shape=[len(texts), 1])
    tensor.contents.bytes_contents.extend(text.encode() for text in texts)
    return request


def document(*texts: str) -> dict[str, Any]:
    """Write the same as JSON."""
    return {"inputs": [{"name": "input", "datatype": "BYTES", "shape": [len(texts), 1], "data": list(texts)}]}


@pytest.mark.parametrize(("make", "said"), FAILURES)
async def test_every_failure_is_answered_over_http(make: Callable[[], BaseException], said: str) -> None:
    """In each protocol, in one line of bounded length."""
    async with asyncio.timeout(30), serving(failing(make)) as client:
        plain = await client.post("/predict/m", {"input": "x"})
        tensors = await client.post("/v2/models/m/infer", document("x"))
    for answer in (plain, tensors):
        assert answer.status in (429, 500)
        assert said in answer.json["error"]
        assert "\n" not in answer.json["error"]
        assert len(answer.body) < 3000


@pytest.mark.parametrize(("make", "said"), FAILURES)
async def test_every_failure_is_answered_over_grpc(make: Callable[[], BaseException], said: str) -> None:
    """In a call and in a stream, which goes on."""
    async with asyncio.timeout(30), grpc_serving(failing(make)) as caller:
        error = await refusal(caller.infer(asking("x")))
        stream = caller.stream()
        await stream.write(asking("x").SerializeToString())
        told = (await one_answer(stream)).error_message
        await stream.write(asking("a").SerializeToString())
        assert (await one_answer(stream)).error_message == ""
    assert said.removesuffix("...") in (error.details() or "")
    assert said in told
    assert len(told) < 3000


@pytest.mark.parametrize("path", ["/predict/m", "/v2/models/m/infer"])
async def test_a_result_that_is_no_unicode_names_its_row(path: str) -> None:
    """Over HTTP."""
    body = {"inputs": ["a", "half"]} if path.startswith("/predict") else document("a", "half")
    async with serving(failing(ValueError)) as client:
        answer = await client.post(path, body)
    assert answer.status == 500
    assert "of row 1 can't be sent (it holds '\\ud83d', which is no Unicode)" in answer.json["error"]


async def test_a_result_that_is_no_unicode_names_its_row_over_grpc() -> None:
    """As over HTTP."""
    async with grpc_serving(failing(ValueError)) as caller:
        error = await refusal(caller.infer(asking("a", "half")))
    assert "of row 1 can't be sent (it holds '\\ud83d', which is no Unicode)" in (error.details() or "")


@pytest.mark.parametrize("retry_after_s", [float("nan"), float("inf"), -1.0, 1e308])
def test_a_time_to_come_back_that_cant_be_written_is_left_out(retry_after_s: float) -> None:
    """A model may raise what it likes."""
    assert to_fault(QueueFull("full", retry_after_s=retry_after_s)).headers == []


class _Keeping:
    """A channel that keeps what is sent."""

    draining = False

    def __init__(self) -> None:
        self.sent: list[Reply] = []

    def new_id(self) -> str:
        """Name a request."""
        return "one"

    def send(self, exchange: Exchange, reply: Reply) -> None:
        """Keep an answer."""
        del exchange
        self.sent.append(reply)


def test_an_error_that_cant_be_written_is_answered_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    """Plainly, and the log says why."""

    def broken(_fault: Fault) -> Reply:
        raise UnicodeError("no words")

    channel: Any = _Keeping()
    exchange = Exchange(channel, Head("GET", "/", "", {}, {}, broken, ""), "")
    exchange.answer_with(lambda _results: Reply(b"", 1 // 0))([np.zeros(1)])
    assert [reply.status for reply in channel.sent] == [500]
    assert b"the server failed unexpectedly" in channel.sent[0].body
    assert "no words" in caplog.text
