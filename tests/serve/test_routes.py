"""What is on offer at which path, before and after a model is ready."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from carpool.errors import ConfigError, ModelError
from tests.serve.fakes import Client, Doubler, embed, offer, request, serving

if TYPE_CHECKING:
    from collections.abc import Sequence

INFER = "/v2/models/m/infer"


async def test_health_and_metadata() -> None:
    """Live, ready, and what the model takes and gives, with the version's own paths."""
    async with serving(Doubler()) as client:
        assert (await client.get("/v2")).json["name"] == "carpool"
        assert (await client.get("/v2/health/live")).json == {"live": True}
        assert (await client.get("/v2/health/ready")).json == {"ready": True}
        assert (await client.get("/v2/models/m/ready")).json == {"name": "m", "ready": True}
        metadata = (await client.get("/v2/models/m")).json
        assert (await client.get("/v2/models/m/versions/1")).json == metadata
        assert (await client.get("/v2/models/m/versions/2")).status == 404
    assert metadata["inputs"] == [{"name": "input", "datatype": "FP32", "shape": [-1, 2]}]
    assert metadata["outputs"] == [{"name": "output", "datatype": "FP32", "shape": [-1, 2]}]


async def test_a_model_without_examples_is_served_all_the_same() -> None:
    """It says nothing of its inputs, and takes any one tensor."""

    def count(texts: list[str]) -> list[int]:
        return [len(text) for text in texts]

    async with serving(count) as client:
        assert (await client.get("/v2/models/m")).json["inputs"] == []
        answer = await client.post(INFER, request(["abc", ""], shape=[2, 1], datatype="BYTES"))
    assert answer.json["outputs"][0]["data"] == [3, 0]


async def test_a_model_that_loads_is_live_but_not_ready() -> None:
    """Requests are told to come back."""
    client = Client(offer(Doubler()))
    assert (await client.get("/v2/health/live")).status == 200
    for path in ("/v2/health/ready", "/v2/models/m/ready", "/v2/models/m"):
        assert (await client.get(path)).status == 503
    answer = await client.post(INFER, request([1, 1], shape=[1, 2]))
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert "is loading" in answer.json["error"]


async def test_a_model_that_could_not_load_says_why() -> None:
    """To whoever asks, and not only in the log."""

    class Broken:
        def load(self) -> None:
            message = "no weights"
            raise RuntimeError(message)

        def __call__(self, batch: Sequence[Any]) -> Sequence[Any]:
            return batch

    served = offer(Broken())
    with pytest.raises(ModelError, match="no weights"):
        await asyncio.to_thread(served.start)
    answer = await Client(served).post(INFER, request([1, 1], shape=[1, 2]))
    assert answer.status == 503
    assert "no weights" in answer.json["error"]


def test_a_name_that_cannot_stand_in_a_url_is_refused() -> None:
    """Before anything is loaded."""
    with pytest.raises(ConfigError, match="'a/b' can't stand in a URL"):
        offer(Doubler(), name="a/b")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/v2/models/x", 404),
        ("POST", "/v2/models/x/infer", 404),
        ("GET", INFER, 405),
        ("DELETE", "/v2/health/live", 405),
        ("GET", "/v1/embeddings", 405),
        ("GET", "/v1/nothing", 404),
    ],
)
async def test_unknown_paths_models_and_methods(method: str, path: str, status: int) -> None:
    """Each in the shape of the protocol that was meant."""
    async with serving(Doubler()) as client:
        answer = await client.send(method, path)
    assert answer.status == status
    error = answer.json["error"]
    assert isinstance(error["message"] if path.startswith("/v1") else error, str)
    assert "allow" in answer.headers or status != 405


async def test_embeddings_from_any_function_of_texts() -> None:
    """Not only from encoders."""
    async with serving(embed) as client:
        assert [one["id"] for one in (await client.get("/v1/models")).json["data"]] == ["m"]
        answer = await client.post("/v1/embeddings", {"model": "m", "input": ["abc", "aa"]})
    assert [one["embedding"] for one in answer.json["data"]] == [[3, 1, 0.1], [2, 2, 0.1]]


@pytest.mark.parametrize(
    ("document", "status", "param"),
    [
        ({"model": "x", "input": "a"}, 404, "model"),
        ({"model": "m", "input": [1, 2]}, 400, "input"),
        ({"model": "m", "input": "a", "dimensions": 2}, 400, "dimensions"),
        ({"model": "m", "input": ""}, 400, "input"),
    ],
)
async def test_wrong_embedding_requests_name_the_field(document: dict[str, Any], status: int, param: str) -> None:
    """As OpenAI's own errors do."""
    async with serving(embed) as client:
        answer = await client.post("/v1/embeddings", document)
    assert (answer.status, answer.json["error"]["param"]) == (status, param)


async def test_embeddings_of_a_model_that_has_none() -> None:
    """It says how to ask instead."""
    async with serving(Doubler()) as client:
        answer = await client.post("/v1/embeddings", {"model": "m", "input": "a"})
    assert answer.status == 400
    assert "ask it through /v2/models/m/infer" in answer.json["error"]["message"]


async def test_our_own_failure_is_told_without_a_traceback(caplog: pytest.LogCaptureFixture) -> None:
    """The log has it; the client does not."""
    async with serving(embed) as client:
        client.served.signature = None  # type: ignore[assignment]
        answer = await client.post(INFER, request(["a"], shape=[1], datatype="BYTES"))
    told = f"the server failed unexpectedly: its log says how, at request {answer.headers['x-request-id']}"
    assert (answer.status, answer.json["error"]) == (500, told)
    assert "AttributeError" in caplog.text
    assert answer.headers["x-request-id"] in caplog.text
