"""What is asked of a language model, before there is one: fields, limits, and forms."""

from __future__ import annotations

import json
from typing import Any

import pytest

from carpool.llm.constraint import Constraint
from carpool.serve.faults import Fault
from carpool.serve.llm.not_done import refuse_not_done
from carpool.serve.llm.requests import ChatRequest, CompletionRequest, chats, completions
from carpool.serve.llm.sampling import read_constraint, sampling_params

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


def completion(**fields: Any) -> CompletionRequest:
    """Decode a request for a completion."""
    request: CompletionRequest = completions.decode(json.dumps({"model": "m", "prompt": "a", **fields}).encode())
    return request


def chat(**fields: Any) -> ChatRequest:
    """Decode a request for a conversation."""
    messages = [{"role": "user", "content": "a"}]
    request: ChatRequest = chats.decode(json.dumps({"model": "m", "messages": messages, **fields}).encode())
    return request


@pytest.mark.parametrize(
    ("body", "param", "said"),
    [
        (b'{"model":"m","prompt":"a","temprature":1}', "temprature", "did you mean 'temperature'?"),
        (b'{"model":"m","prompt":"a","stream_options":{"usage":true}}', "stream_options.usage", "unknown field"),
        (b'{"model":"m"}', "prompt", "missing required field `prompt`"),
        (b'{"model":"m","prompt":"a","temperature":"hot"}', "temperature", "got `str`"),
        (b'{"model":"m","prompt":"a","stop":[1]}', "stop", "got `int`"),
        (b'{"model":"m","prompt":"\xff"}', "", "'utf-8' codec can't decode byte 0xff"),
        (b'{"model":"m","prompt":"\\ud800"}', "", "is not JSON"),
        (b'{"model":"m"', "", "is not JSON"),
        (b"[]", "", "got `array`"),
    ],
)
def test_what_is_no_request_is_refused_by_its_field(body: bytes, param: str, said: str) -> None:
    """The nearest field that is known is named."""
    with pytest.raises(Fault) as refusal:
        completions.decode(body)
    assert (refusal.value.status, refusal.value.param) == (400, param)
    assert said in str(refusal.value)


@pytest.mark.parametrize(
    ("fields", "param", "said"),
    [
        ({"suffix": "end"}, "suffix", "nothing is filled in between texts"),
        ({"best_of": 3, "n": 2}, "best_of", "best_of is 3 and n 2: no more answers are made than are given"),
        ({"best_of": 0}, "best_of", "best_of is 0 and n 1"),
        ({"use_beam_search": True}, "use_beam_search", "ask for n answers with logprobs"),
        ({"skip_special_tokens": False}, "skip_special_tokens", "special tokens are never in the text"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "without stream: true"),
    ],
)
def test_what_is_not_done_is_refused_with_what_to_do(fields: dict[str, Any], param: str, said: str) -> None:
    """And not passed over in silence."""
    with pytest.raises(Fault) as refusal:
        refuse_not_done(completion(**fields))
    assert refusal.value.param == param
    assert said in str(refusal.value)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tool_choice": "required", "tools": []}, "tool_choice"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"chat_template": "{{ messages }}"}, "chat_template"),
        ({"modalities": ["audio"]}, "modalities"),
        ({"store": True}, "store"),
    ],
)
def test_what_is_not_done_in_conversations_is_refused(fields: dict[str, Any], param: str) -> None:
    """By its field."""
    with pytest.raises(Fault) as refusal:
        refuse_not_done(chat(**fields))
    assert refusal.value.param == param


def test_what_asks_for_nothing_is_taken() -> None:
    """Clients send many fields at their defaults."""
    refuse_not_done(completion(suffix="", best_of=1, use_beam_search=False, length_penalty=1.0, user="u", n=2))
    refuse_not_done(chat(store=False, service_tier="auto", modalities=["text"], parallel_tool_calls=True, metadata={}))


def test_fields_become_parameters() -> None:
    """OpenAI's and vLLM's; what is not said is as by default."""
    request = completion(
        temperature=0.5, top_k=7, min_p=0.1, repetition_penalty=1.2, logit_bias={"3": -100}, seed=5, n=2,
        stop="x", stop_token_ids=[4], min_tokens=2, ignore_eos=True, include_stop_str_in_output=True, prompt_logprobs=1,
    )  # fmt: skip
    params = sampling_params(request, max_tokens=9, logprobs=2)
    assert (params.temperature, params.top_k, params.min_p, params.repetition_penalty) == (0.5, 7, 0.1, 1.2)
    assert (params.logit_bias, params.seed, params.n, params.stop) == ({3: -100.0}, 5, 2, ("x",))
    assert (params.stop_token_ids, params.min_tokens, params.ignore_eos, params.include_stop) == ((4,), 2, True, True)
    assert (params.max_tokens, params.logprobs, params.prompt_logprobs, params.top_p) == (9, 2, 1, 1.0)
    assert sampling_params(completion(), max_tokens=None, logprobs=None).temperature == 1.0


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": -1}, "temperature"),
        ({"top_p": 2}, "top_p"),
        ({"n": 0}, "n"),
        ({"presence_penalty": 3}, "presence_penalty"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"logit_bias": {"5": 101}}, "logit_bias"),
        ({"stop": [""]}, "stop"),
    ],
)
def test_value_out_of_its_range_is_refused_by_its_field(fields: dict[str, Any], param: str) -> None:
    """The message has the value and the limit."""
    with pytest.raises(Fault) as refusal:
        sampling_params(completion(**fields), max_tokens=5, logprobs=None)
    assert (refusal.value.status, refusal.value.param) == (400, param)


@pytest.mark.parametrize(
    ("fields", "constraint"),
    [
        ({}, None),
        ({"response_format": {"type": "text"}}, None),
        ({"response_format": {"type": "json_object"}}, Constraint.json_object()),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}},
            Constraint.json_schema(SCHEMA),
        ),
        ({"guided_json": SCHEMA}, Constraint.json_schema(SCHEMA)),
        ({"guided_json": json.dumps(SCHEMA)}, Constraint.json_schema(SCHEMA)),
        ({"guided_regex": "a+"}, Constraint.regex("a+")),
        ({"guided_choice": ["a", "b"]}, Constraint.choice(["a", "b"])),
        ({"structured_outputs": {"grammar": 'start: "a"'}}, Constraint.grammar('start: "a"')),
        ({"structured_outputs": {"json_object": True, "regex": None}}, Constraint.json_object()),
    ],
)
def test_form_of_the_answer_is_read(fields: dict[str, Any], constraint: Constraint | None) -> None:
    """By whichever name it goes."""
    assert read_constraint(completion(**fields)) == constraint


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"response_format": {"type": "xml"}}, "response_format.type is 'xml': give text, json_object or json_schema"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, "json_schema.schema is not there"),
        ({"structured_outputs": {"json": SCHEMA, "regex": "a"}}, "structured_outputs says json, regex: give one of"),
        ({"structured_outputs": {"regx": "a"}}, "structured_outputs says regx: give one of json, regex"),
        ({"structured_outputs": {"regex": 1}}, "structured_outputs.regex is 1: give a text"),
        ({"guided_choice": []}, "guided_choice: the choices are []"),
        ({"guided_json": 5}, "the JSON schema is 5"),
        ({"guided_regex": "a", "guided_choice": ["a"]}, "guided_regex and guided_choice each say what the answer must"),
    ],
)
def test_form_that_is_none_is_refused(fields: dict[str, Any], said: str) -> None:
    """The field is named."""
    with pytest.raises(Fault) as refusal:
        read_constraint(completion(**fields))
    assert said in str(refusal.value)
    assert refusal.value.param in fields or refusal.value.param == "guided_json"
