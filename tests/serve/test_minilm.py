"""Real embeddings through OpenAI's own client, held against sentence-transformers' own."""

from __future__ import annotations

from typing import Any

import numpy as np
import openai
import pytest
from sentence_transformers import SentenceTransformer

from carpool.core import Policy
from carpool.models.demo import minilm_directory
from carpool.models.target import load_target
from carpool.models.text import sentences
from carpool.serve.served import Served
from tests.serve.live import visit

TEXTS = sentences(24, seed=5)


@pytest.fixture(scope="module")
def theirs() -> Any:
    """What sentence-transformers gives, in float32, and its tokenizer."""
    return SentenceTransformer(str(minilm_directory()), device="cpu", local_files_only=True)


def minilm(dtype: str) -> Served:
    """MiniLM on offer, with few lengths to warm."""
    return Served(load_target("demo:minilm", dtype=dtype), name="minilm", policy=Policy(max_batch_size=8))


def least_cosine(ours: Any, theirs: Any) -> float:
    """The least cosine of pairs of rows."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    return float(((ours * theirs).sum(axis=1) / lengths).min())


@pytest.mark.parametrize(("dtype", "least"), [("float32", 0.9999), ("bfloat16", 0.999)])
def test_openais_client_gets_sentence_transformers_embeddings(theirs: Any, dtype: str, least: float) -> None:
    """As base64, which it asks for by itself, as numbers, and from token ids."""

    def client(url: str) -> list[Any]:
        with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as api:
            assert [model.id for model in api.models.list()] == ["minilm"]
            packed = api.embeddings.create(model="minilm", input=TEXTS)
            numbers = api.embeddings.create(model="minilm", input=TEXTS, encoding_format="float")
            ids = [theirs.tokenizer(text)["input_ids"][:256] for text in TEXTS[:4]]
            from_ids = api.embeddings.create(model="minilm", input=ids)
        assert packed.usage.prompt_tokens == sum(len(theirs.tokenizer(text)["input_ids"]) for text in TEXTS)
        assert [one.index for one in packed.data] == list(range(len(TEXTS)))
        return [[one.embedding for one in answer.data] for answer in (packed, numbers, from_ids)]

    packed, numbers, from_ids = visit(minilm(dtype), client)
    expected = theirs.encode(TEXTS)
    assert least_cosine(packed, expected) > least
    assert least_cosine(numbers, expected) > least
    assert least_cosine(from_ids, expected[:4]) > least


def test_openais_client_raises_its_own_errors() -> None:
    """For a model that is not there, and for what is wrong."""

    def client(url: str) -> list[str]:
        with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as api:
            with pytest.raises(openai.NotFoundError) as absent:
                api.embeddings.create(model="other", input="a")
            with pytest.raises(openai.BadRequestError) as wrong:
                api.embeddings.create(model="minilm", input="a", dimensions=100)
            with pytest.raises(openai.BadRequestError) as unknown:
                api.embeddings.create(model="minilm", input=[[10**9]])
        return [str(absent.value), str(wrong.value), str(unknown.value)]

    absent, wrong, unknown = visit(minilm("float32"), client)
    assert "there is no model 'other' here: use one of minilm" in absent
    assert "dimensions is 100: this model's vectors have 384" in wrong
    assert "token id 1000000000 is not in the vocabulary" in unknown
