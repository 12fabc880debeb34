"""`/tokenize`, `/detokenize`, `/v1/embeddings`, `/v1/models`, `/health` and `/metrics` of language models."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.llm.fake_runner import next_token, tokens
from tests.serve.llm.rig import serving


async def test_text_becomes_tokens_and_back() -> None:
    """The model need not be named where there is just one."""
    async with serving() as client:
        there = await client.post("/tokenize", {"prompt": "hello there", "return_token_strs": True})
        back = await client.post("/detokenize", {"model": "m", "tokens": there.json["tokens"]})
    assert there.json["tokens"] == tokens("hello there")
    assert (there.json["count"], there.json["max_model_len"]) == (11, 128)
    assert "".join(there.json["token_strs"]) == "hello there"
    assert back.json == {"prompt": "hello there"}


async def test_long_text_becomes_tokens_on_a_thread_and_back() -> None:
    """The loop serves others meanwhile; the answer is the same."""
    text = "hello there " * 2000
    async with serving() as client:
        there = await client.post("/tokenize", {"prompt": text})
        back = await client.post("/detokenize", {"tokens": there.json["tokens"]})
    assert there.json["tokens"] == tokens(text)
    assert back.json == {"prompt": text}


async def test_conversation_becomes_tokens() -> None:
    """As it would be answered."""
    async with serving() as client:
        answer = await client.post("/tokenize", {"messages": [{"role": "user", "content": "a"}]})
    assert answer.json["tokens"] == tokens("user a.assistant ")


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("/tokenize", {}, "give either prompt"),
        ("/tokenize", {"prompt": "a", "messages": []}, "give either prompt"),
        ("/tokenize", {"prompt": "a", "mdoel": "m"}, "did you mean 'model'?"),
        ("/detokenize", {"tokens": [-1]}, "the token -1"),
        ("/detokenize", {"tokens": ["a"]}, "got `str`"),
    ],
)
async def test_what_has_no_tokens_is_refused(path: str, body: Any, said: str) -> None:
    """As OpenAI writes it."""
    async with serving() as client:
        answer = await client.post(path, body)
    assert answer.status == 400
    assert said in answer.json["error"]["message"]


@pytest.mark.parametrize("given", [["abc", "b"], [tokens("abc"), tokens("b")]])
async def test_texts_become_vectors_of_length_one(given: list[Any]) -> None:
    """The last layer's at the last token, in order; what they took is told."""
    async with serving() as client:
        answer = await client.post("/v1/embeddings", {"model": "m", "input": given})
    vectors = [one["embedding"] for one in answer.json["data"]]
    assert [int(np.argmax(vector)) for vector in vectors] == [next_token(tokens("abc")), next_token(tokens("b"))]
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1.0, 1.0])
    assert answer.json["usage"] == {"prompt_tokens": 4, "total_tokens": 4}


async def test_vectors_come_as_base64_too() -> None:
    """Which OpenAI's client asks for by itself."""
    async with serving() as client:
        asked = {"model": "m", "input": "abc", "encoding_format": "base64"}
        answer = await client.post("/v1/embeddings", asked)
        refused = await client.post("/v1/embeddings", {**asked, "dimensions": 5})
        long = await client.post("/v1/embeddings", {**asked, "input": "a" * 200})
    vector = np.frombuffer(base64.b64decode(answer.json["data"][0]["embedding"]), "<f4")
    assert int(vector.argmax()) == next_token(tokens("abc"))
    assert (refused.status, refused.json["error"]["param"]) == (400, "dimensions")
    assert (long.status, long.json["error"]["code"]) == (400, "context_length_exceeded")


async def test_model_is_listed_with_its_length() -> None:
    """By the name that vLLM's clients look for."""
    async with serving() as client:
        listed = (await client.get("/v1/models")).json["data"]
        alone = (await client.get("/v1/models/m")).json
        health = await client.get("/health")
    assert [(one["id"], one["max_model_len"]) for one in listed] == [("m", 128)]
    assert alone["max_model_len"] == 128
    assert (health.status, health.body) == (200, b"")


async def test_metrics_have_both_names() -> None:
    """Ours, and those that dashboards know."""
    async with serving() as client:
        asked = {"model": "m", "prompt": "hello there", "max_tokens": 5, "temperature": 0}
        for _ in range(2):
            await client.post("/v1/completions", asked)
        page = (await client.get("/metrics")).body.decode()
    samples = {
        (sample.name, sample.labels.get("finished_reason") or sample.labels.get("reason")): sample
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if "le" not in sample.labels
    }
    values = {key: sample.value for key, sample in samples.items()}
    assert samples["vllm:num_requests_running", None].labels == {"model_name": "m", "engine": "1"}
    assert samples["carpool_llm_running_sequences", None].labels == {"model": "m", "version": "1"}
    for ours, theirs, value in [
        ("carpool_llm_prompt_tokens_total", "vllm:prompt_tokens_total", 22),
        ("carpool_llm_generated_tokens_total", "vllm:generation_tokens_total", 10),
        ("carpool_llm_prefix_found_tokens_total", "vllm:prefix_cache_hits_total", 8),
        ("carpool_llm_preemptions_total", "vllm:num_preemptions_total", 0),
        ("carpool_llm_waiting_sequences", "vllm:num_requests_waiting", 0),
        ("carpool_llm_ttft_seconds_count", "vllm:time_to_first_token_seconds_count", 2),
        ("carpool_llm_itl_seconds_count", "vllm:inter_token_latency_seconds_count", 8),
        ("carpool_llm_e2e_seconds_count", "vllm:e2e_request_latency_seconds_count", 2),
    ]:
        assert values[ours, None] == values[theirs, None] == value
    assert values["vllm:request_success_total", "length"] == 2
    assert values["carpool_llm_sequences_total", "length"] == 2
    assert 0 <= values["vllm:kv_cache_usage_perc", None] <= 1
