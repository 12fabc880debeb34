"""`/v1/chat/completions`: conversations through the model's own template, whole answers and streams."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.llm.fake_runner import expected, text, tokens
from tests.serve.llm.rig import events, serving

PATH = "/v1/chat/completions"
SAID = [{"role": "user", "content": "hello"}]
TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]


def asked(**more: Any) -> dict[str, Any]:
    """Return a request that has one right answer."""
    return {"model": "m", "messages": SAID, "temperature": 0, "max_completion_tokens": 6, **more}


def right(prompt: str = "user hello.assistant ", num: int = 6) -> str:
    """Return the answer."""
    return text(expected(tokens(prompt), num))


async def test_conversation_is_answered() -> None:
    """By the assistant; what it took is told."""
    async with serving() as client:
        answer = await client.post(PATH, asked())
    document = answer.json
    assert (document["object"], document["id"][:9]) == ("chat.completion", "chatcmpl-")
    [choice] = document["choices"]
    assert choice["message"] == {"content": right(), "role": "assistant", "refusal": None}
    assert (choice["finish_reason"], choice["logprobs"]) == ("length", None)
    assert document["usage"]["prompt_tokens"] == len("user hello.assistant ")


@pytest.mark.parametrize(
    ("messages", "prompt"),
    [
        ([{"role": "user", "content": [{"type": "text", "text": "hello"}]}], "user hello.assistant "),
        ([{"role": "developer", "content": "be kind"}, *SAID], "system be kind.user hello.assistant "),
        ([*SAID, {"role": "assistant", "content": "yes", "audio": None}], "user hello.assistant yes.assistant "),
    ],
)
async def test_messages_come_in_several_forms(messages: Any, prompt: str) -> None:
    """Content in parts, the developer's role, and messages as answers had them."""
    async with serving() as client:
        answer = await client.post(PATH, asked(messages=messages))
    assert answer.json["choices"][0]["message"]["content"] == right(prompt)


async def test_tools_reach_the_template_unless_they_are_not_to() -> None:
    """They are the template's to write down."""
    async with serving() as client:
        with_tools = await client.post(PATH, asked(tools=TOOLS))
        without = await client.post(PATH, asked(tools=TOOLS, tool_choice="none"))
    assert with_tools.json["choices"][0]["message"]["content"] == right("add user hello.assistant ")
    assert without.json["choices"][0]["message"]["content"] == right()


async def test_last_message_is_gone_on_with() -> None:
    """Its turn stays open."""
    messages = [*SAID, {"role": "assistant", "content": "well"}]
    async with serving() as client:
        answer = await client.post(PATH, asked(messages=messages, continue_final_message=True, echo=True))
    content = answer.json["choices"][0]["message"]["content"]
    assert content == "well" + right("user hello.assistant well")


async def test_stream_begins_with_the_role_and_ends_with_the_reason() -> None:
    """What is in between is the answer."""
    async with serving() as client:
        answer = await client.post(PATH, asked(stream=True, stream_options={"include_usage": True}))
    first, *parts, last = events(answer.body)
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert first["object"] == "chat.completion.chunk"
    assert "".join(part["choices"][0]["delta"].get("content", "") for part in parts) == right()
    assert [part["choices"][0]["finish_reason"] for part in parts] == [None] * (len(parts) - 1) + ["length"]
    assert (last["choices"], last["usage"]["completion_tokens"]) == ([], 6)


async def test_streams_of_several_answers_are_told_apart() -> None:
    """Each has its own number, and its own beginning and end."""
    async with serving() as client:
        parts = events((await client.post(PATH, asked(stream=True, n=3))).body)
    for index in range(3):
        own = [part["choices"][0] for part in parts if part["choices"][0]["index"] == index]
        assert own[0]["delta"]["role"] == "assistant"
        assert "".join(one["delta"].get("content", "") for one in own) == right()
        assert own[-1]["finish_reason"] == "length"


@pytest.mark.parametrize("streams", [False, True])
async def test_logprobs_are_told_with_bytes(streams: bool) -> None:
    """Of the chosen token, and of as many others as asked for."""
    async with serving() as client:
        answer = await client.post(PATH, asked(logprobs=True, top_logprobs=2, stream=streams))
    documents = events(answer.body) if streams else [answer.json]
    told = [one for part in documents for one in (part["choices"][0]["logprobs"] or {"content": []})["content"]]
    assert "".join(one["token"] for one in told) == right()
    assert bytes(byte for one in told for byte in one["bytes"]).decode() == right()
    assert all(len(one["top_logprobs"]) == 2 and one["top_logprobs"][0]["token"] == one["token"] for one in told)


async def test_answer_has_the_form_that_was_asked_for() -> None:
    """Whatever the model would have said."""
    async with serving() as client:
        chosen = await client.post(PATH, asked(guided_choice=["yes.", "no."], max_completion_tokens=10))
        matched = await client.post(PATH, asked(structured_outputs={"regex": "[a-c]{4}"}))
    assert chosen.json["choices"][0]["message"]["content"] in ("yes.", "no.")
    assert set(matched.json["choices"][0]["message"]["content"]) <= set("abc")
    assert matched.json["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("fields", "param", "said"),
    [
        ({"messages": []}, "messages", "messages is empty"),
        ({"messages": [{"content": "x"}]}, "messages[0].role", "give one, such as 'user'"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content", "give a text"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "messages[0].content",
            "has a part of type 'image_url': this model reads texts alone",
        ),
        ({"top_logprobs": 2}, "top_logprobs", "without logprobs: true"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "give 0 to 20"),
        ({"max_tokens": 3}, "max_tokens", "the older name of max_completion_tokens"),
        ({"max_completion_tokens": 0}, "max_completion_tokens", "give 1 or more"),
        ({"chat_template_kwargs": {"messages": []}}, "chat_template_kwargs", "give it by itself"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": 5}}}}, "response_format", ""),
        ({"guided_regex": "(["}, "guided_regex", "the regex constraint can't be"),
    ],
)
async def test_conversation_that_is_none_is_refused(fields: dict[str, Any], param: str, said: str) -> None:
    """By the field that is wrong."""
    async with serving() as client:
        answer = await client.post(PATH, asked(**fields))
    assert answer.status == 400
    error = answer.json["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert said in error["message"]


async def test_model_without_a_template_says_where_else_to_ask() -> None:
    """It goes on from prompts all the same."""
    async with serving(has_chat=False) as client:
        answer = await client.post(PATH, asked())
    assert answer.status == 400
    assert "has no chat template: send a prompt to /v1/completions" in answer.json["error"]["message"]


async def test_arguments_of_calls_are_given_to_the_template_as_objects() -> None:
    """The API writes them as JSON within JSON, which templates do not."""
    called = {"id": "1", "type": "function", "function": {"name": "add", "arguments": json.dumps({"a": 1})}}
    messages = [*SAID, {"role": "assistant", "content": None, "tool_calls": [called]}]
    async with serving() as client:
        answer = await client.post(PATH, asked(messages=messages))
    assert answer.status == 200


async def test_message_without_content_beside_calls_is_an_empty_one() -> None:
    """OpenAI's client sends null there, which templates take for a word, or stumble over."""
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [*SAID, {"role": "assistant", "content": None, "tool_calls": [call]}]
    async with serving() as client:
        found = await client.post("/tokenize", {"messages": messages})
        expected = await client.post("/tokenize", {"messages": [*SAID, {"role": "assistant", "content": ""}]})
    assert found.json["tokens"] == expected.json["tokens"]
