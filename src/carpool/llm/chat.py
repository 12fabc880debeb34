"""Chat templates: a conversation as the text that a model was trained to go on from.

A template is a program that comes with a model's files: it runs in jinja2's sandbox, on plain data only. What it makes
of a conversation is what `apply_chat_template` of transformers makes of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from carpool.errors import ConfigError, InvalidItem

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jinja2 import Environment, Template

Read = TypeVar("Read")
_MARK = "\ue000where the model goes on\ue001 "  # ends in a blank, so that it shows whether the template strips those


@dataclass(frozen=True)
class ChatTemplate:
    """A model's chat template.

    Args:
        source: the template, in jinja2's language.
        special_tokens: texts that it may name, such as `{"bos_token": "<s>", "eos_token": "</s>"}`.

    >>> chat = ChatTemplate(
    ...     "{% for m in messages %}<{{ m.role }}>{{ m.content }}{{ eos_token }}{% endfor %}", {"eos_token": "</s>"}
    ... )
    >>> chat.render([{"role": "user", "content": "hello"}])
    '<user>hello</s>'
    """

    source: str
    special_tokens: Mapping[str, str] = field(default_factory=dict)

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = False,
        continue_final_message: bool = False,
        **variables: Any,
    ) -> str:
        """Turn a conversation into text.

        Args:
            messages: at least one, each with a `role` and mostly a `content`; keys of value None are left out.
            tools: JSON schemas of functions that the model may call.
            documents: with `title` and `text`, for templates that take them.
            add_generation_prompt: end with what opens the model's own turn.
            continue_final_message: leave the last message open, so that the model goes on with it.
            variables: whatever else the template knows, such as `enable_thinking`.

        Raises:
            InvalidItem: the template refuses the conversation, or there is nothing to go on from.
            ConfigError: the template itself is wrong.
        """
        if not isinstance(messages, list | tuple) or not all(isinstance(one, Mapping) for one in messages):
            example = '[{"role": "user", "content": "..."}]'
            raise InvalidItem(f"messages is {messages!r:.60}: give a list such as {example}")
        if not messages:
            raise InvalidItem("messages is empty: a conversation has at least one")
        if add_generation_prompt and continue_final_message:
            raise InvalidItem(
                "add_generation_prompt and continue_final_message exclude each other: the model either opens a turn of "
                "its own or goes on with the last message"
            )
        chat = [_with_reasoning({k: _plain(v) for k, v in message.items() if v is not None}) for message in messages]
        if continue_final_message:
            chat[-1] = _marked(chat[-1])
        given = {"tools": tools, "documents": documents, **self.special_tokens, **variables}
        named = {name: _plain(value) for name, value in given.items()}
        template = self._compiled
        try:
            text = template.render(messages=chat, add_generation_prompt=add_generation_prompt, **named)
        except Exception as error:
            # Whatever a template does with what it was given, the conversation is what differs from one that works.
            raise InvalidItem(f"the model's chat template refuses the conversation: {error}") from error
        return _open_at_mark(text) if continue_final_message else text

    def check_has_place(self, **lists: Any) -> None:
        """Refuse lists of objects that the template would leave out in silence.

        Args:
            lists: by the variables that they are for, such as `tools`; empty ones and None are fine.

        Raises:
            InvalidItem: one is no list of objects, or the template does not read that variable.
        """
        for name, given in lists.items():
            if not given:
                continue
            if not isinstance(given, list | tuple) or not all(isinstance(one, Mapping) for one in given):
                raise InvalidItem(f"{name} is {given!r:.60}: give a list of objects")
            if name not in self._names:
                raise InvalidItem(
                    f"{name} is given, and the model's chat template has no place for it: leave it out, or write it "
                    "into a message"
                )

    @cached_property
    def _names(self) -> set[str]:
        """The variables that the template reads."""
        from jinja2.meta import find_undeclared_variables

        return find_undeclared_variables(self._read(_environment().parse))

    @cached_property
    def _compiled(self) -> Template:
        return self._read(_environment().from_string)

    def _read(self, read: Callable[[str], Read]) -> Read:
        from jinja2 import TemplateError

        try:
            return read(self.source)
        except TemplateError as error:
            raise ConfigError(f"the model's chat template can't be read, mend it in its files: {error}") from error


def _environment() -> Environment:
    """Return what templates run in: jinja2's sandbox, with the functions that models' templates call."""
    from jinja2.ext import Extension, loopcontrols
    from jinja2.nodes import CallBlock, Node
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """Takes `{% generation %}`, which marks for training what an assistant said, and prints what is in it."""

        tags = {"generation"}  # noqa: RUF012 - as jinja2 has it

        def parse(self, parser: Any) -> Node:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return CallBlock(self.call_method("_said"), [], [], body).set_lineno(line)

        @staticmethod
        def _said(caller: Any) -> Any:
            return caller()

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = _strftime_now
    return environment


def _tojson(
    value: Any,
    ensure_ascii: bool = False,  # noqa: FBT001, FBT002 - templates give them by place
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,  # noqa: FBT001, FBT002
) -> str:
    """Write JSON as templates expect it; jinja2's own filter writes what is safe in HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _refuse(message: str) -> None:
    from jinja2 import TemplateError

    raise TemplateError(message)


def _strftime_now(format_: str) -> str:
    return datetime.now().astimezone().strftime(format_)


def _plain(value: Any) -> Any:
    """Return a copy made of JSON's own types: a template calls methods of nothing else, and changes nothing of ours."""
    if value is None or type(value) in (str, int, float, bool):
        return value
    if isinstance(value, dict):
        return {_plain(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    raise InvalidItem(f"{value!r:.80} is no JSON: a conversation holds texts, numbers, lists and objects")


def _with_reasoning(message: dict[str, Any]) -> dict[str, Any]:
    """Name a message's reasoning as every template does: some read `reasoning_content`, some `thinking`."""
    names = ("reasoning_content", "thinking", "reasoning")
    reasoning = next((message[name] for name in names if name in message), None)
    if reasoning is None:
        return message
    return {"thinking": reasoning, **message, "reasoning_content": reasoning}


def _marked(message: dict[str, Any]) -> dict[str, Any]:
    """Put the mark behind the text of a message."""
    content = message.get("content")
    if isinstance(content, str):
        return {**message, "content": content + _MARK}
    parts = content if isinstance(content, list) else []
    for place in reversed(range(len(parts))):
        if isinstance(parts[place], dict) and isinstance(parts[place].get("text"), str):
            part = {**parts[place], "text": parts[place]["text"] + _MARK}
            return {**message, "content": [*parts[:place], part, *parts[place + 1 :]]}
    raise InvalidItem("continue_final_message needs a last message whose content is a text to go on with")


def _open_at_mark(text: str) -> str:
    """Cut a text at the mark; blanks before it as well, where the template strips blanks."""
    before, found, after = text.rpartition(_MARK.strip())
    if not found:
        raise InvalidItem("continue_final_message: the model's chat template leaves the last message's text out")
    return before if after.startswith(" ") else before.rstrip()
