"""What clients ask of a language model: OpenAI's fields, and those that vLLM adds.

A field that is not known is refused with the nearest one that is, as OpenAI does: one that is passed over in silence is
a setting that its sender believes to be in force. Fields that are known, and ask for what is not done here, are refused
by their values (`carpool.serve.llm.not_done`).

Source: https://platform.openai.com/docs/api-reference/completions, .../chat, and vLLM's "OpenAI-Compatible Server"
"""

from __future__ import annotations

import re
from typing import Any, TypeVar

import msgspec

from carpool.config.keys import nearest
from carpool.serve.faults import Fault, bad_request
from carpool.serve.oip import decode_json

R = TypeVar("R", bound=msgspec.Struct)
_UNKNOWN = re.compile(r"unknown field `(.*?)`(?: - at `\$\.?(.*)`)?", re.DOTALL)
_PLACE = re.compile(r"- at `\$\.(\w+)")
_MISSING = re.compile(r"missing required field `(\w+)`")


class StreamOptions(msgspec.Struct, forbid_unknown_fields=True):
    """What a stream tells besides the text.

    Args:
        include_usage: a last part with the tokens of the whole request.
        continuous_usage_stats: the tokens so far in every part.
        include_obfuscation: padding against eavesdroppers, of which none is added.
    """

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None
    include_obfuscation: bool | None = None


class GenerationRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What both ways of asking have in common.

    Args:
        model: which model.
        max_tokens: the most tokens to generate.
        temperature: 0 takes the most likely token; 1 draws from the model's own distribution.
        top_p: draw only from the most likely tokens that together have this probability.
        n: answers for each prompt.
        stop: texts that end an answer, and are left out of it.
        seed: with it the same request gives the same answer again, whatever else is asked at the time.
        presence_penalty: taken off the logits of tokens that were generated before.
        frequency_penalty: taken off the logits of tokens for each time that they were generated before.
        logit_bias: added to the logits of tokens, by their ids.
        stream: whether the answer is sent while it is made, as server-sent events.
        stream_options: what a stream tells besides the text.
        response_format: `text`, `json_object`, or `json_schema` with a schema.
        user: taken, and of no effect.
        top_k: draw only from so many of the most likely tokens.
        min_p: draw only from tokens at least so many times as likely as the most likely one.
        repetition_penalty: divides the logits of tokens that came before.
        min_tokens: until so many are generated the answer does not end.
        stop_token_ids: tokens that end an answer.
        include_stop_str_in_output: leave the stop text in the answer.
        ignore_eos: go on where the model would end.
        prompt_logprobs: tell of each token of the prompt how likely it and so many others were.
        structured_outputs: the form of the answer: `json`, `regex`, `choice`, `grammar` or `json_object`.
        guided_json: a JSON schema of the answer; an older name.
        guided_regex: an expression that matches the answer; an older name.
        guided_choice: what the answer may be; an older name.
        guided_grammar: a grammar of the answer; an older name.
        priority: lower goes sooner, as in vLLM; it wins over the header X-Priority, of which higher goes sooner.
        cache_salt: only requests of one salt share what is cached of their prompts.
        return_token_ids: tell the ids of the prompt's and the answer's tokens.
        add_special_tokens: whether the tokenizer adds the tokens that a text begins or ends with.
    """

    model: str
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    n: int | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    response_format: dict[str, Any] | None = None
    user: str | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    min_tokens: int | None = None
    stop_token_ids: list[int] | None = None
    include_stop_str_in_output: bool | None = None
    ignore_eos: bool | None = None
    prompt_logprobs: int | None = None
    structured_outputs: dict[str, Any] | None = None
    guided_json: Any = None
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None
    priority: int | None = None
    cache_salt: str | None = None
    return_token_ids: bool | None = None
    add_special_tokens: bool | None = None
    # Known, and refused where they ask for what is not done.
    skip_special_tokens: Any = None
    spaces_between_special_tokens: Any = None
    truncate_prompt_tokens: Any = None
    use_beam_search: Any = None
    length_penalty: Any = None
    bad_words: Any = None
    allowed_token_ids: Any = None
    logits_processors: Any = None


class CompletionRequest(GenerationRequest, kw_only=True, forbid_unknown_fields=True):
    """Go on from prompts.

    Args:
        prompt: a text, texts, the token ids of one prompt, or those of several.
        logprobs: tell how likely each token and so many others were.
        echo: whether the prompt stands before the answer, and its tokens before the answer's.
    """

    prompt: str | list[Any]
    logprobs: int | None = None
    echo: bool | None = None
    suffix: Any = None
    best_of: int | None = None


class ChatRequest(GenerationRequest, kw_only=True, forbid_unknown_fields=True):
    """Answer in a conversation.

    Args:
        messages: what was said, each with a `role` and a `content`.
        max_completion_tokens: the newer name of `max_tokens`.
        logprobs: whether to tell how likely each token was.
        top_logprobs: and so many others.
        tools: functions that the model may call; they are passed to its chat template, and a call comes as text.
        tool_choice: `auto`, or `none` to keep them from the template.
        documents: passed to the template.
        chat_template_kwargs: what else the template knows, such as `enable_thinking`.
        reasoning_effort: passed to the template.
        add_generation_prompt: whether the template opens the model's turn.
        continue_final_message: go on with the last message in place of a new one.
        echo: whether the last message stands before the answer.
        metadata: taken, and of no effect.
        prompt_cache_key: taken, and of no effect.
        safety_identifier: taken, and of no effect.
    """

    messages: list[dict[str, Any]]
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: Any = None
    documents: list[dict[str, Any]] | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    reasoning_effort: str | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    echo: bool | None = None
    metadata: dict[str, Any] | None = None
    prompt_cache_key: str | None = None
    safety_identifier: str | None = None
    # Known, and refused where they ask for what is not done.
    parallel_tool_calls: Any = None
    functions: Any = None
    function_call: Any = None
    chat_template: Any = None
    modalities: Any = None
    audio: Any = None
    prediction: Any = None
    service_tier: Any = None
    store: Any = None
    verbosity: Any = None
    web_search_options: Any = None
    best_of: Any = None


class TokenizeRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Turn a text, or a conversation, into tokens.

    Args:
        model: which model; may be left out where there is just one that generates.
        prompt: a text.
        messages: a conversation, in its place.
        add_special_tokens: whether the tokenizer adds the tokens that a text begins or ends with; by default it does so
            to a text, and not to a conversation, whose template says them.
        return_token_strs: tell the tokens as texts too.
        add_generation_prompt: whether the template opens the model's turn.
        continue_final_message: leave the last message open.
        tools: passed to the template.
        chat_template_kwargs: what else the template knows.
    """

    model: str | None = None
    prompt: str | None = None
    messages: list[dict[str, Any]] | None = None
    add_special_tokens: bool | None = None
    return_token_strs: bool | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    tools: list[dict[str, Any]] | None = None
    chat_template_kwargs: dict[str, Any] | None = None


class DetokenizeRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Turn tokens into a text.

    Args:
        tokens: their ids.
        model: which model; may be left out where there is just one that generates.
    """

    tokens: list[int]
    model: str | None = None


class Decoder:
    """Decodes requests of one kind, and names the field where one is wrong.

    Args:
        kind: the type of the request.
    """

    def __init__(self, kind: type[R]) -> None:
        self._decode = msgspec.json.Decoder(kind).decode
        self._known = [field.encode_name for field in msgspec.structs.fields(kind)]

    def decode(self, body: bytes) -> Any:
        """Decode a request.

        Args:
            body: JSON, as it came.

        Raises:
            Fault: it is not such a request; the message says why, and `param` is the field.
        """
        try:
            return decode_json(self._decode, body)
        except Fault as fault:
            raise self._explained(fault) from None

    def _explained(self, fault: Fault) -> Fault:
        said = str(fault)
        unknown, missing, place = _UNKNOWN.search(said), _MISSING.search(said), _PLACE.search(said)
        if unknown is None:
            named = missing or place
            return bad_request(said, param=named[1] if named else "")
        name, where = unknown[1], unknown[2]
        if where:
            return bad_request(f"unknown field {where}.{name}: leave it out", param=f"{where}.{name}"[:100])
        return bad_request(f"unknown field {name[:60]!r}: {nearest(name, self._known)}", param=name[:60])


completions = Decoder(CompletionRequest)
chats = Decoder(ChatRequest)
tokenizations = Decoder(TokenizeRequest)
detokenizations = Decoder(DetokenizeRequest)
