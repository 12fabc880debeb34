"""Whatever the fields of a request hold, it is answered, or refused in OpenAI's words: never by a failure of ours."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from carpool.serve.llm.requests import ChatRequest, CompletionRequest, DetokenizeRequest, TokenizeRequest
from tests.serve.fakes import Client
from tests.serve.llm.rig import events, language_model

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hypothesis.strategies import SearchStrategy

SAID = [{"role": "user", "content": "hello"}]
BASES: dict[str, tuple[type[msgspec.Struct], dict[str, Any]]] = {
    "/v1/completions": (CompletionRequest, {"model": "m", "prompt": "hello", "max_tokens": 3}),
    "/v1/chat/completions": (ChatRequest, {"model": "m", "messages": SAID, "max_completion_tokens": 3}),
    "/tokenize": (TokenizeRequest, {"prompt": "hello"}),
    "/detokenize": (DetokenizeRequest, {"tokens": [1, 2]}),
}
NUMBERS = st.one_of(st.integers(-(10**20), 10**20), st.integers(-3, 30), st.floats(allow_nan=False), st.booleans())
LEAVES = st.one_of(st.none(), NUMBERS, st.text(max_size=8), st.sampled_from(["text", "user", "auto", "json_object"]))
KEYS = st.sampled_from(["type", "role", "content", "text", "json_schema", "schema", "json", "regex", "choice", "self"])
VALUES: SearchStrategy[Any] = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.text(max_size=4), inner, max_size=4)
)


@st.composite
def bodies(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """Draw a path and a body: right in all but some fields."""
    path = draw(st.sampled_from(sorted(BASES)))
    kind, base = BASES[path]
    names = [field.encode_name for field in msgspec.structs.fields(kind) if field.encode_name != "model"]
    return path, base | draw(st.dictionaries(st.sampled_from(names), VALUES, max_size=4))


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """Serve a model to all of them."""
    served = language_model()
    served.start()
    yield Client(served)  # type: ignore[arg-type]
    assert served.engine.num_running == served.engine.num_waiting == 0
    served.engine.check_integrity()
    served.close(30.0)


@given(bodies())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_request_is_answered_or_refused(client: Client, asked: tuple[str, dict[str, Any]]) -> None:
    """A stream that has begun ends in the mark of its end."""
    path, body = asked
    answer = asyncio.run(client.post(path, json.dumps(body).encode()))
    assert answer.status in (200, 400, 404), answer.body
    if answer.status != 200:
        assert set(answer.json["error"]) == {"message", "type", "param", "code"}
    elif answer.headers["content-type"].startswith("text/event-stream"):
        assert all("error" not in event for event in events(answer.body)), answer.body
