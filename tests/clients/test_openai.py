"""OpenAI's own client against the server, unchanged: embeddings, as numbers and as base64, blocking and in asyncio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import openai
import pytest

if TYPE_CHECKING:
    from tests.system.server import Running

TEXTS = ["a banana", "x"]
VECTORS = [[8.0, 4.0, 0.5], [1.0, 0.0, 0.5]]


@pytest.mark.parametrize("encoding_format", ["float", "base64", None])
def test_embeddings(server: Running, encoding_format: Literal["float", "base64"] | None) -> None:
    """By default the client asks for base64, and unpacks it."""
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        options = {} if encoding_format is None else {"encoding_format": encoding_format}
        answer = client.embeddings.create(model="embed", input=TEXTS, **options)  # type: ignore[arg-type]
        single = client.embeddings.create(model="embed", input="x")
    if encoding_format != "base64":  # asked for by name, the client leaves it as it came
        assert [one.embedding for one in answer.data] == VECTORS
    assert [one.index for one in answer.data] == [0, 1]
    assert single.data[0].embedding == VECTORS[1]


async def test_embeddings_in_asyncio(server: Running) -> None:
    """The same from the asyncio client."""
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        answer = await client.embeddings.create(model="embed", input=TEXTS)
    assert [one.embedding for one in answer.data] == VECTORS


def test_models(server: Running) -> None:
    """What there is to embed with is listed."""
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        assert "embed" in [model.id for model in client.models.list()]


@pytest.mark.parametrize(
    ("model", "texts", "error", "message"),
    [
        ("nobody", ["x"], openai.NotFoundError, "there is no model 'nobody'"),
        ("pair", ["x"], openai.BadRequestError, "does not turn texts into vectors"),
        ("embed", [""], openai.BadRequestError, "not empty"),
    ],
)
def test_errors_are_those_that_the_client_knows(
    server: Running, model: str, texts: list[str], error: type[openai.APIStatusError], message: str
) -> None:
    """By the classes that its users catch."""
    with (
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client,
        pytest.raises(error, match=message),
    ):
        client.embeddings.create(model=model, input=texts)
