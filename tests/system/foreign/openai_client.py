"""OpenAI's client of the version before; run by the Python of an environment that has it."""

import asyncio
import json
import sys
from typing import Any

import openai

ENDPOINT: dict[str, Any] = {"base_url": f"{sys.argv[1]}/v1", "api_key": "none", "max_retries": 0}
TEXTS = ["a banana", "x"]


async def in_asyncio() -> list[list[float]]:
    """Ask the asyncio client."""
    async with openai.AsyncOpenAI(**ENDPOINT) as client:
        return [one.embedding for one in (await client.embeddings.create(model="embed", input=TEXTS)).data]


def main() -> None:
    """Ask, and print what came back."""
    with openai.OpenAI(**ENDPOINT) as client:
        told: dict[str, Any] = {
            "version": openai.__version__,
            "default": [one.embedding for one in client.embeddings.create(model="embed", input=TEXTS).data],
            "float": [
                one.embedding
                for one in client.embeddings.create(model="embed", input=TEXTS, encoding_format="float").data
            ],
            "asyncio": asyncio.run(in_asyncio()),
            "models": sorted(model.id for model in client.models.list()),
        }
        try:
            client.embeddings.create(model="nobody", input=TEXTS)
        except openai.NotFoundError as error:
            told["error"] = error.code
    print(json.dumps(told))  # noqa: T201


main()
