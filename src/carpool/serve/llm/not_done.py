"""Fields that are known, and refused where they ask for what is not done here: with what to do instead."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from carpool.serve.faults import bad_request

if TYPE_CHECKING:
    from collections.abc import Mapping

    from carpool.serve.llm.requests import GenerationRequest


@dataclass(frozen=True, slots=True)
class _NotDone:
    """A field, the values of it that ask for nothing, and what to do instead of others."""

    why: str
    harmless: tuple[Any, ...] = ()


_FIELDS: Mapping[str, _NotDone] = MappingProxyType(
    {
        "suffix": _NotDone("nothing is filled in between texts: leave it out", ("",)),
        "skip_special_tokens": _NotDone("special tokens are never in the text: ask for return_token_ids", (True,)),
        "spaces_between_special_tokens": _NotDone("special tokens are never in the text", (True, False)),
        "truncate_prompt_tokens": _NotDone("nothing is cut off prompts in silence: shorten the prompt"),
        "use_beam_search": _NotDone("there is no beam search: ask for n answers with logprobs", (False,)),
        "length_penalty": _NotDone("it is for beam search, which there is none of", (1, 1.0)),
        "bad_words": _NotDone("give tokens a logit_bias of -100 instead", ([],)),
        "allowed_token_ids": _NotDone("say what the answer may be by structured_outputs"),
        "logits_processors": _NotDone("no code is taken from clients", ([],)),
        "parallel_tool_calls": _NotDone("calls come as text, as the model writes them", (True, False)),
        "functions": _NotDone("give them as tools", ([],)),
        "function_call": _NotDone("give tools and tool_choice", ("auto", "none")),
        "chat_template": _NotDone("no code is taken from clients: the model's own template is used"),
        "modalities": _NotDone("answers are text alone", (["text"],)),
        "audio": _NotDone("answers are text alone"),
        "prediction": _NotDone("nothing is made of it: leave it out"),
        "service_tier": _NotDone("give a priority instead", ("auto", "default")),
        "store": _NotDone("nothing is stored", (False,)),
        "verbosity": _NotDone("say it in the conversation", ("medium",)),
        "web_search_options": _NotDone("nothing is searched for"),
    }
)


def refuse_not_done(request: GenerationRequest) -> None:
    """Refuse what is not done.

    Args:
        request: as decoded.

    Raises:
        Fault: a field asks for it; the message says which, and what to do instead.
    """
    for name, field in _FIELDS.items():
        value = getattr(request, name, None)
        if value is not None and value not in field.harmless:
            raise bad_request(f"{name} is {value!r:.60}, which is not done here: {field.why}", param=name)
    _check_best_of(getattr(request, "best_of", None), request.n or 1)
    _check_tool_choice(getattr(request, "tool_choice", None))
    if request.stream_options is not None and not request.stream:
        raise bad_request("stream_options is given without stream: true: leave it out", param="stream_options")


def _check_best_of(best_of: Any, n: int) -> None:
    if best_of is None:
        return
    if not isinstance(best_of, int) or isinstance(best_of, bool) or not 1 <= best_of <= n:
        message = f"best_of is {best_of!r:.60} and n {n}: no more answers are made than are given; raise n, and choose"
        raise bad_request(message, param="best_of")


def _check_tool_choice(choice: Any) -> None:
    if choice in (None, "auto", "none"):
        return
    remedy = "give 'auto' or 'none', and say what a call looks like by response_format or structured_outputs"
    raise bad_request(f"tool_choice is {choice!r:.60}: no call is forced; {remedy}", param="tool_choice")
