"""OpenAI's own client against a language model, unchanged: blocking, in asyncio and streaming; `generate` is right."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import openai
import pytest
import torch

from tests.llm.tiny import byte_tokenizer, tiny_model

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.system.server import Running

NUM_TOKENS = 12
PROMPTS = ["The train leaves", "A lake is", "Who"]


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[openai.OpenAI]:
    """The client, as its users make it."""
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def right(prompt: str) -> str:
    """Say what Hugging Face's `generate` goes on with."""
    ids = byte_tokenizer().encode(prompt).ids
    with torch.no_grad():
        model = tiny_model("llama")
        made = model.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=NUM_TOKENS, pad_token_id=0)
    text: str = byte_tokenizer().decode(made[0, len(ids) :].tolist())
    return text


def test_completions_are_those_of_generate(client: openai.OpenAI) -> None:
    """Several prompts in one request, each gone on from."""
    answer = client.completions.create(model="lm", prompt=PROMPTS, max_tokens=NUM_TOKENS, temperature=0)
    assert [choice.text for choice in answer.choices] == [right(prompt) for prompt in PROMPTS]
    assert answer.usage is not None
    assert answer.usage.completion_tokens <= NUM_TOKENS * len(PROMPTS)


def test_stream_of_a_completion_is_its_text(client: openai.OpenAI) -> None:
    """Part by part, with what it took at its end."""
    stream = client.completions.create(
        model="lm",
        prompt=PROMPTS[0],
        max_tokens=NUM_TOKENS,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    parts = list(stream)
    assert "".join(choice.text for part in parts for choice in part.choices) == right(PROMPTS[0])
    assert parts[-1].usage is not None
    assert parts[-2].choices[0].finish_reason in ("length", "stop")


def test_conversation_is_answered(client: openai.OpenAI) -> None:
    """By the template of the model's own files; the log probabilities come as the client knows them."""
    answer = client.chat.completions.create(
        model="lm",
        messages=[{"role": "user", "content": "hello"}],
        max_completion_tokens=NUM_TOKENS,
        temperature=0,
        logprobs=True,
        top_logprobs=2,
    )
    choice = answer.choices[0]
    assert choice.message.content == right("<s>user: hello\n<s>assistant: ")
    assert choice.logprobs is not None
    assert choice.logprobs.content is not None
    assert all(len(token.top_logprobs) == 2 for token in choice.logprobs.content)


def test_conversation_is_streamed_by_the_clients_own_reader(client: openai.OpenAI) -> None:
    """Which brings the parts together again."""
    said = right("<s>user: hello\n<s>assistant: ")
    before, stop = said[:5], said[5:8]
    with client.chat.completions.stream(
        model="lm", messages=[{"role": "user", "content": "hello"}], temperature=0, stop=stop
    ) as stream:
        deltas = [event.delta for event in stream if event.type == "content.delta"]
        whole = stream.get_final_completion()
    assert "".join(deltas) == whole.choices[0].message.content == before
    assert whole.choices[0].finish_reason == "stop"


async def test_many_are_answered_at_a_time_in_asyncio(server: Running) -> None:
    """Each what it would have been answered alone."""
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:

        async def ask(prompt: str) -> str:
            answer = await client.completions.create(model="lm", prompt=prompt, max_tokens=NUM_TOKENS, temperature=0)
            return answer.choices[0].text

        async def stream(prompt: str) -> str:
            parts = await client.completions.create(
                model="lm", prompt=prompt, max_tokens=NUM_TOKENS, temperature=0, stream=True
            )
            return "".join([choice.text async for part in parts for choice in part.choices])

        asked = [run(prompt) for prompt in PROMPTS * 5 for run in (ask, stream)]
        answers = await asyncio.gather(*asked)
    assert answers == [right(prompt) for prompt in PROMPTS * 5 for _ in range(2)]


def test_answer_keeps_to_a_schema(client: openai.OpenAI) -> None:
    """Whatever the model, whose weights are random, would have said."""
    schema = {
        "type": "object",
        "properties": {"ok": {"type": "boolean"}},
        "required": ["ok"],
        "additionalProperties": False,
    }
    answer = client.chat.completions.create(
        model="lm",
        messages=[{"role": "user", "content": "hello"}],
        response_format={"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}},
        extra_body={"top_k": 5, "repetition_penalty": 1.1},
        max_completion_tokens=100,
        seed=3,
    )
    found = answer.choices[0].message.content or ""
    assert json.loads(found)["ok"] in (True, False)


def test_embeddings_have_the_length_one(client: openai.OpenAI) -> None:
    """And the size of the model's layers."""
    answer = client.embeddings.create(model="lm", input=PROMPTS)
    vectors = torch.tensor([one.embedding for one in answer.data])
    assert vectors.shape == (3, 32)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(3))


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"model": "nobody"}, openai.NotFoundError, "there is no model 'nobody'"),
        ({"model": "pair"}, openai.BadRequestError, "does not generate text: ask it at /predict/pair"),
        ({"max_tokens": 1000}, openai.BadRequestError, "and the model takes 128 tokens: ask for"),
        ({"extra_body": {"temprature": 1}}, openai.BadRequestError, "did you mean 'temperature'"),
    ],
)
def test_errors_are_those_that_the_client_knows(
    client: openai.OpenAI, fields: dict[str, Any], error: type[openai.APIStatusError], message: str
) -> None:
    """By the classes that its users catch."""
    with pytest.raises(error, match=message):
        client.completions.create(**{"model": "lm", "prompt": "a", **fields})
