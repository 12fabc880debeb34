"""From what a client sends to prompts: token ids, and the text that they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from carpool.errors import InvalidItem
from carpool.serve.faults import bad_request

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carpool.serve.llm.requests import ChatRequest, TokenizeRequest
    from carpool.serve.llm.served import ServedLM

TOO_LONG = "context_length_exceeded"
# What the template is given by other fields.
_RESERVED = {"self", "messages", "tools", "documents", "add_generation_prompt", "continue_final_message"}


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt.

    Args:
        token_ids: at least one.
        text: as it was sent, or as its tokens read.
    """

    token_ids: tuple[int, ...]
    text: str


def read_prompts(served: ServedLM, given: str | list[Any], *, add_special_tokens: bool = True) -> list[Prompt]:
    """Read the prompts of a request: one text, texts, one list of token ids, or lists of them.

    Args:
        served: the model.
        given: as it was sent.
        add_special_tokens: whether the tokenizer adds what a text begins or ends with.

    Raises:
        Fault: it is none of these, or a prompt is empty.
    """
    rows = [given] if isinstance(given, str) or (given and type(given[0]) is int) else given
    if not rows:
        raise bad_request("prompt is an empty list: give one at least", param="prompt")
    return [_read(served, row, place, add_special_tokens=add_special_tokens) for place, row in enumerate(rows)]


def _read(served: ServedLM, row: Any, place: int, *, add_special_tokens: bool) -> Prompt:
    if isinstance(row, str):
        return encode(served, row, add_special_tokens=add_special_tokens)
    if not isinstance(row, list) or not row or set(map(type, row)) != {int}:
        what = "lists of token ids, none of them empty"
        raise bad_request(f"prompt {place} is {row!r:.60}: give texts, or {what}", param="prompt")
    check_token_ids(served, row, field="prompt")
    return Prompt(tuple(row), served.tokenizer.decode(row, skip_special_tokens=False))


def check_token_ids(served: ServedLM, token_ids: Sequence[int], *, field: str) -> None:
    """Refuse tokens that the model does not have.

    Raises:
        Fault: one is not its own, which is named.
    """
    size = served.parts.runner.vocabulary_size
    least, most = min(token_ids, default=0), max(token_ids, default=0)
    if least < 0 or most >= size:
        wrong = least if least < 0 else most
        raise bad_request(f"{field} has the token {wrong}, and the model has 0 to {size - 1:,}", param=field)


def encode(served: ServedLM, text: str, *, add_special_tokens: bool, field: str = "prompt") -> Prompt:
    """Turn a text into a prompt.

    Args:
        served: the model.
        text: as it was sent.
        add_special_tokens: whether the tokenizer adds what a text begins or ends with.
        field: where it stood.

    Raises:
        Fault: it has no tokens.
    """
    token_ids = _ids_of(served, text, add_special_tokens=add_special_tokens)
    if not token_ids:
        raise bad_request(f"{field} {text!r:.40} has no tokens: give some text to go on from", param=field)
    return Prompt(token_ids, text)


def _ids_of(served: ServedLM, text: str, *, add_special_tokens: bool) -> tuple[int, ...]:
    """Return a text's tokens; as a batch of one, which alone lets other threads run meanwhile."""
    return tuple(served.tokenizer.encode_batch([text], add_special_tokens=add_special_tokens)[0].ids)


def room(served: ServedLM, prompt: Prompt, wanted: int | None, *, usual: int | None, field: str) -> int:
    """Return how many tokens to generate after a prompt.

    Args:
        served: the model.
        prompt: what comes before them.
        wanted: how many were asked for; None where nothing was said.
        usual: how many there are then, if they fit; None for as many as do.
        field: where the prompt stood.

    Raises:
        Fault: the prompt leaves no room, or not as much as was asked for; the message has the numbers.
    """
    num_prompt = len(prompt.token_ids)
    left = served.max_length - num_prompt
    if left < 1:
        message = f"the prompt has {num_prompt:,} tokens, and {served.limit()}, of which one at least is generated"
        raise bad_request(f"{message}: shorten it to {max(0, served.max_length - 1):,}", param=field, code=TOO_LONG)
    if wanted is None:
        return left if usual is None else min(usual, left)
    if wanted > left:
        message = f"max_tokens is {wanted:,} after a prompt of {num_prompt:,} tokens, and {served.limit()}"
        raise bad_request(f"{message}: ask for {left:,} at most, or shorten the prompt", param=field, code=TOO_LONG)
    return wanted


# ------------------------------------------------------------------------------------------------- conversations


def read_chat(served: ServedLM, request: ChatRequest | TokenizeRequest) -> Prompt:
    """Turn a conversation into a prompt, by the model's own template.

    Args:
        served: the model.
        request: the conversation, and what else the template is given.

    Raises:
        Fault: the model has no template, or it refuses the conversation.
    """
    goes_on = bool(request.continue_final_message)
    opens = not goes_on if request.add_generation_prompt is None else request.add_generation_prompt
    tools = None if getattr(request, "tool_choice", None) == "none" else request.tools
    documents = getattr(request, "documents", None)
    more = dict(request.chat_template_kwargs or {})
    if effort := getattr(request, "reasoning_effort", None):
        more.setdefault("reasoning_effort", effort)
    messages = [_message(message, place) for place, message in enumerate(request.messages or ())]
    reserved = sorted(_RESERVED & {*more})
    if reserved:
        raise bad_request(f"chat_template_kwargs has {reserved[0]!r}: give it by itself", param="chat_template_kwargs")
    try:
        chat = served.chat()
        chat.check_has_place(tools=tools, documents=documents)
        text = chat.render(
            messages,
            tools=tools,
            documents=documents,
            add_generation_prompt=opens,
            continue_final_message=goes_on,
            **more,
        )
    except InvalidItem as error:
        name = str(error).partition(" ")[0]
        raise bad_request(str(error), param=name if name in ("tools", "documents") else "messages") from error
    return encode(served, text, add_special_tokens=bool(request.add_special_tokens), field="messages")


def _message(message: dict[str, Any], place: int) -> dict[str, Any]:
    """Return a message as templates take it: its content one text."""
    where = f"messages[{place}]"
    role = message.get("role")
    if not isinstance(role, str) or not role:
        raise bad_request(f"{where}.role is {role!r:.60}: give one, such as 'user'", param=f"{where}.role")
    content = _content(message.get("content"), where)
    # What OpenAI calls the developer's, models' templates know as the system's.
    told = {**message, "role": "system" if role == "developer" else role, "content": content}
    calls = message.get("tool_calls")
    return {**told, "tool_calls": [_call(call) for call in calls]} if isinstance(calls, list) else told


def _call(call: Any) -> Any:
    """Return a call of a tool with its arguments as templates take them: not as the JSON that the API has."""
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("arguments"), str):
        return call
    try:
        arguments = msgspec.json.decode(function["arguments"] or "{}")
    except msgspec.DecodeError:  # the model wrote something else, which the template shows as it is
        return call
    return {**call, "function": {**function, "arguments": arguments}}


def _content(content: Any, where: str) -> str:
    if content is None:  # as beside calls of tools
        return ""
    if isinstance(content, str):
        return content
    texts = [part.get("text") for part in content if isinstance(part, dict)] if isinstance(content, list) else [None]
    kinds = [part.get("type") for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    strange = next((kind for kind in kinds if kind not in ("text", "refusal", "input_text")), None)
    if strange is not None:
        message = f"{where}.content has a part of type {strange!r:.40}: this model reads texts alone"
        raise bad_request(message, param=f"{where}.content")
    if not all(isinstance(text, str) for text in texts) or len(texts) != len(content):
        raise bad_request(f"{where}.content is {content!r:.60}: give a text", param=f"{where}.content")
    return "\n".join(text for text in texts if isinstance(text, str))


def read_tokens(served: ServedLM, request: TokenizeRequest) -> Prompt:
    """Read what is to be tokenised.

    Args:
        served: the model.
        request: a text, or a conversation.

    Raises:
        Fault: it is neither, or both.
    """
    if (request.prompt is None) == (request.messages is None):
        raise bad_request("give either prompt, a text, or messages, a conversation", param="prompt")
    if request.messages is not None:
        return read_chat(served, request)
    text = request.prompt or ""
    added = request.add_special_tokens is not False
    return Prompt(_ids_of(served, text, add_special_tokens=added), text)
