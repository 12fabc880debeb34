"""Plain JSON and OpenAI's API over the routes: options by headers, and answers as they were asked for."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from tests.serve.fakes import Doubler, embed, hold, let_wait, serving


async def test_one_item_and_several() -> None:
    """The answer has the form of the question."""
    async with serving(Doubler()) as client:
        one = await client.post("/predict/m", {"input": [1, 2.5]})
        several = await client.post("/predict/m", {"inputs": [[1, 2], [3, 4]]})
    assert one.json == {"output": [2, 5]}
    assert several.json == {"outputs": [[2, 4], [6, 8]]}


async def test_many_items_are_answered_in_order() -> None:
    """Their answer is written on a thread."""
    rows = 100 + np.arange(8000).reshape(-1, 2) / 8
    async with serving(Doubler()) as client:
        answer = await client.post("/predict/m", {"inputs": rows.tolist()})
    assert answer.json["outputs"] == (2 * rows).tolist()


async def test_what_fails_names_the_item() -> None:
    """As it does in every protocol."""
    async with serving(Doubler()) as client:
        refused = await client.post("/predict/m", {"inputs": [[1, 1], [-1, 1]]})
        failed = await client.post("/predict/m", {"input": [13, 13]})
        unknown = await client.post("/predict/x", {"input": [1, 1]})
    assert (refused.status, failed.status, unknown.status) == (400, 500, 404)
    assert "item 1 of 2" in refused.json["error"]
    assert "13 brings bad luck" in failed.json["error"]


async def test_higher_priority_goes_sooner() -> None:
    """By a header."""
    model = Doubler()
    async with serving(model, max_batch_size=1) as client:
        held = await hold(client, model)
        low = asyncio.create_task(client.post("/predict/m", {"input": [2, 2]}))
        await let_wait(client, 1)
        high = asyncio.create_task(client.post("/predict/m", {"input": [3, 3]}, {"X-Priority": "5"}))
        await let_wait(client, 2)
        model.seen.clear()
        model.gate.set()
        await asyncio.gather(held, low, high)
    assert model.seen == [[1, 1], [3, 3], [2, 2]]


async def test_a_deadline_that_passes_is_told() -> None:
    """By a header, in milliseconds."""
    model = Doubler()
    async with serving(model, max_batch_size=1) as client:
        held = await hold(client, model)
        late = await client.post("/predict/m", {"input": [1, 1]}, {"X-Timeout-Ms": "20"})
        model.gate.set()
        await held
    assert late.status == 504


@pytest.mark.parametrize(
    ("header", "value", "said"),
    [
        ("X-Priority", "high", "X-Priority is 'high': give a whole number"),
        ("X-Priority", "1.5", "X-Priority is '1.5'"),
        ("X-Priority", "1_0", "X-Priority is '1_0'"),
        ("X-Priority", "2000000", "from -1,000,000 to 1,000,000"),
        ("X-Priority", "9" * 5000, "X-Priority is '9999"),
        ("X-Timeout-Ms", "0", "X-Timeout-Ms is '0': give milliseconds above 0"),
        ("X-Timeout-Ms", "-5", "give milliseconds above 0"),
        ("X-Timeout-Ms", "nan", "give milliseconds above 0"),
        ("X-Timeout-Ms", "inf", "give milliseconds above 0"),
        ("X-Timeout-Ms", "1_0", "X-Timeout-Ms is '1_0': give milliseconds above 0"),
        ("X-Timeout-Ms", "soon", "give milliseconds above 0"),
    ],
)
@pytest.mark.parametrize("path", ["/predict/m", "/v1/embeddings"])
async def test_options_that_say_nothing_are_refused(path: str, header: str, value: str, said: str) -> None:
    """Rather than taken for the usual ones."""
    body = {"input": "a"} if path.startswith("/predict") else {"model": "m", "input": "a"}
    async with serving(embed) as client:
        answer = await client.post(path, body, {header: value})
    assert answer.status == 400
    message = answer.json["error"]
    assert said in (message if isinstance(message, str) else message["message"])


async def test_openais_models_are_told_one_by_one() -> None:
    """And one that there is not is refused in its way."""
    async with serving(embed) as client:
        listed = (await client.get("/v1/models")).json
        one = await client.get("/v1/models/m")
        none = await client.get("/v1/models/x")
    assert listed == {"object": "list", "data": [one.json]}
    assert (one.json["id"], one.json["object"]) == ("m", "model")
    assert (none.status, none.json["error"]["code"]) == (404, "model_not_found")


async def test_many_texts_are_embedded_in_order() -> None:
    """A large body is read on a thread."""
    texts = [f"{'a' * (index % 7)} {'b' * 100}" for index in range(500)]
    async with serving(embed) as client:
        answer = await client.post("/v1/embeddings", {"model": "m", "input": texts})
        unknown = await client.post("/v1/embeddings", {"model": "x", "input": texts})
    assert [one["embedding"][1] for one in answer.json["data"]] == [text.count("a") for text in texts]
    assert (unknown.status, unknown.json["error"]["param"]) == (404, "model")


async def test_a_model_of_bytes_is_no_model_of_texts() -> None:
    """It is asked with base64, and not offered for embeddings."""

    def sizes(images: list[bytes]) -> list[np.ndarray]:
        return [np.array([len(image)], np.float32) for image in images]

    sizes.examples = [b"\0", b"\1\2"]  # type: ignore[attr-defined]
    async with serving(sizes) as client:
        answer = await client.post("/predict/m", {"inputs": ["/wA=", ""]})
        refused = await client.post("/v1/embeddings", {"model": "m", "input": "a"})
    assert answer.json == {"outputs": [[2], [0]]}
    assert (refused.status, refused.json["error"]["param"]) == (400, "model")
