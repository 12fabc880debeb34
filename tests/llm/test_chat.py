"""Chat templates: what they make of a conversation is what transformers makes of it."""

from __future__ import annotations

from typing import Any

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from carpool.errors import ConfigError, InvalidItem
from carpool.llm.chat import ChatTemplate

TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful assistant<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
STRIPPING = (
    "{{ bos_token }}{% for m in messages %}\n    {% if m.role == 'user' %}\n[INST] {{ m.content | trim }} [/INST]\n"
    "    {% else %}\n{% generation %}{{ m.content | trim }}{{ eos_token }}{% endgeneration %}\n    {% endif %}\n"
    "{% endfor %}"
)
TOOLS = (
    "{% set ns = namespace(count=0) %}{% if tools %}{% for tool in tools %}{{ tool | tojson(indent=2) }}\n"
    "{% set ns.count = ns.count + 1 %}{% endfor %}{% endif %}{{ ns.count }}{{ dict(a=1) }}"
    "{% for m in messages %}{% if m.role == 'skip' %}{% continue %}{% endif %}{{ m.role }}: {{ m.content }}"
    "{% if m.tool_calls is defined %}{{ m.tool_calls | tojson }}{% endif %}"
    "{% if m.reasoning_content %}<think>{{ m.reasoning_content }}{{ m.thinking }}</think>{% endif %}\n{% endfor %}"
    "{{ strftime_now('%Y') }}{% if documents %}{{ documents[0].title }}{% endif %}"
    "{% if enable_thinking is defined and enable_thinking is false %}<think></think>{% endif %}"
)
CONVERSATION: list[dict[str, Any]] = [
    {"role": "user", "content": "  What is <b>5</b> & 'six'? "},
    {"role": "assistant", "content": "Eleven, \u00fcberhaupt. ", "tool_calls": None, "reasoning": "5 + 6"},
    {"role": "skip", "content": "not seen"},
    {"role": "user", "content": "And ten more?", "tool_calls": [{"name": "add", "arguments": {"a": 11, "b": 10}}]},
]
ADD = {
    "type": "function",
    "function": {"name": "add", "description": "<two>", "parameters": {"a": [1, 2.5, True]}},
}


def _transformers(source: str, messages: list[dict[str, Any]], **options: Any) -> str:
    present = [{name: value for name, value in one.items() if value is not None} for one in messages]
    given: dict[str, Any] = {**TOKENS, **options}
    rendered: Any = render_jinja_template([present], chat_template=source, **given)[0]
    return str(rendered[0])


@pytest.mark.parametrize("source", [CHATML, STRIPPING, TOOLS])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"add_generation_prompt": True},
        {"tools": [ADD]},
        {"enable_thinking": False},
        {"documents": [{"title": "t", "text": "u"}]},
    ],
)
def test_template_renders_as_in_transformers(source: str, options: dict[str, Any]) -> None:
    """Blank lines of blocks, JSON, namespaces, loop controls, missing values, special tokens, own variables."""
    assert ChatTemplate(source, TOKENS).render(CONVERSATION, **options) == _transformers(
        source, CONVERSATION, **options
    )


@pytest.mark.parametrize("source", [CHATML, STRIPPING, TOOLS])
@pytest.mark.parametrize("content", ["Let me think", "Let me think  ", "a [INST] b"])
def test_last_message_is_left_open_as_in_transformers(source: str, content: str) -> None:
    """Whether the template keeps the blanks at the end of the message or strips them."""
    messages = [CONVERSATION[0], {"role": "assistant", "content": content}]
    ours = ChatTemplate(source, TOKENS).render(messages, continue_final_message=True)
    assert ours == _transformers(source, messages, continue_final_message=True)
    assert ours.endswith(content.rstrip() if source == STRIPPING else content)


def test_parts_of_a_message_are_left_open_behind_the_last_text() -> None:
    """A content of several parts, as some clients send it."""
    source = "{% for m in messages %}{% for part in m.content %}{{ part.text }}|{% endfor %}{% endfor %}"
    messages = [{"role": "assistant", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]}]
    ours = ChatTemplate(source).render(messages, continue_final_message=True)
    assert ours == "one|two" == _transformers(source, messages, continue_final_message=True)


def test_template_that_refuses_says_why() -> None:
    """What a template raises is the client's to mend."""
    chat = ChatTemplate("{{ raise_exception('roles must alternate') }}")
    with pytest.raises(InvalidItem, match="refuses the conversation: roles must alternate"):
        chat.render(CONVERSATION)


@pytest.mark.parametrize(
    "source", ["{{ messages[0].content.missing.deeper }}", "{{ 1 / 0 }}", "{{ messages[0]['content'] + 5 }}"]
)
def test_template_that_fails_is_no_traceback(source: str) -> None:
    """Whatever goes wrong in a template is one of our errors."""
    with pytest.raises(InvalidItem, match="refuses the conversation"):
        ChatTemplate(source).render(CONVERSATION)


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update(role='system') }}",
        "{{ cycler.__init__.__globals__ }}",
    ],
)
def test_template_stays_in_its_sandbox(source: str) -> None:
    """It neither reaches the interpreter nor changes what it was given."""
    with pytest.raises(InvalidItem, match="refuses the conversation"):
        ChatTemplate(source).render(CONVERSATION)


def test_template_that_cannot_be_read_is_the_models_fault() -> None:
    """It is told as such, and not as a fault of the conversation."""
    with pytest.raises(ConfigError, match="can't be read, mend it in its files"):
        ChatTemplate("{% for %}").render(CONVERSATION)


@pytest.mark.parametrize(
    ("messages", "options", "says"),
    [
        ([], {}, "messages is empty"),
        ("hi", {}, r"messages is 'hi': give a list such as \[\{"),
        (["hi"], {}, "give a list such as"),
        (CONVERSATION, {"add_generation_prompt": True, "continue_final_message": True}, "exclude each other"),
        ([{"role": "user"}], {"continue_final_message": True}, "whose content is a text"),
        ([{"role": "user", "content": object()}], {}, "is no JSON"),
    ],
)
def test_conversation_that_cannot_be_is_refused(messages: Any, options: dict[str, Any], says: str) -> None:
    """Each with what to mend."""
    with pytest.raises(InvalidItem, match=says):
        ChatTemplate(CHATML).render(messages, **options)


def test_what_the_template_would_leave_out_is_refused() -> None:
    """The model would never see it; what is not given needs no place."""
    ChatTemplate(TOOLS).check_has_place(tools=[{"type": "function"}], documents=[])
    with pytest.raises(InvalidItem, match="documents is given, and the model's chat template has no place for it"):
        ChatTemplate(CHATML).check_has_place(tools=None, documents=[{"text": "u"}])
    with pytest.raises(InvalidItem, match=r"tools is \[5\]: give a list of objects"):
        ChatTemplate(TOOLS).check_has_place(tools=[5])


def test_last_message_that_the_template_leaves_out_cannot_be_continued() -> None:
    """Otherwise the model would go on from something else."""
    with pytest.raises(InvalidItem, match="leaves the last message's text out"):
        ChatTemplate("{{ bos_token }}", TOKENS).render(CONVERSATION[:1], continue_final_message=True)
