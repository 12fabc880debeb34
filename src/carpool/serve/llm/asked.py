"""A request that has been read: its prompts, what the engine is asked for, and what the answer is to hold."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from carpool.errors import InvalidItem
from carpool.llm.request import Generation
from carpool.serve.asked import PRIORITY_LIMIT
from carpool.serve.faults import bad_request
from carpool.serve.llm.not_done import refuse_not_done
from carpool.serve.llm.prompts import Prompt, read_chat, read_prompts, room
from carpool.serve.llm.sampling import named, sampling_params

if TYPE_CHECKING:
    from carpool.llm.sampling_params import SamplingParams
    from carpool.serve.call import CallOptions
    from carpool.serve.llm.requests import ChatRequest, CompletionRequest, GenerationRequest
    from carpool.serve.llm.served import ServedLM

_USUAL_TOKENS = 16  # of /v1/completions
_MOST_TOP = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request that has been read.

    Args:
        prompts: its prompts.
        generations: what the engine is asked for, one a prompt.
        n: answers for each prompt.
        logprobs: how many of the most likely tokens to tell of beside each; None tells of none.
        prompt_logprobs: the same of the prompts' tokens.
        echo: the text of the prompts, which stands before their answers; None where it does not.
        only_prompt: nothing is to be generated: the one token that comes all the same is not told.
        streams: whether the answer is sent while it is made.
        tells_usage: whether a stream ends with what it took.
        tells_usage_always: whether each part of it does.
        tells_token_ids: whether the ids of tokens are told.
    """

    prompts: tuple[Prompt, ...]
    generations: tuple[Generation, ...]
    n: int
    logprobs: int | None
    prompt_logprobs: int | None
    echo: tuple[str, ...] | None
    only_prompt: bool = False
    streams: bool = False
    tells_usage: bool = False
    tells_usage_always: bool = False
    tells_token_ids: bool = False

    @property
    def num_prompt(self) -> int:
        """Tokens of all prompts."""
        return sum(len(prompt.token_ids) for prompt in self.prompts)


def read_completion(served: ServedLM, request: CompletionRequest, options: CallOptions) -> Asked:
    """Read a request to go on from prompts.

    Args:
        served: the model.
        request: as decoded.
        options: what its headers say.

    Raises:
        Fault: it can't be answered as it is; the message says why.
    """
    refuse_not_done(request)
    logprobs = _count_top(request.logprobs, "logprobs")
    wanted = request.max_tokens
    only_prompt = bool(request.echo) and wanted == 0
    if wanted is not None and wanted < 1 and not only_prompt:
        remedy = "give 1 or more, or 0 with echo for the prompt alone"
        raise bad_request(f"max_tokens is {wanted}: {remedy}", param="max_tokens")
    params = sampling_params(request, max_tokens=1 if only_prompt else wanted, logprobs=logprobs)
    if logprobs is not None and request.echo:
        params = replace(params, prompt_logprobs=max(logprobs, request.prompt_logprobs or 0))
    prompts = read_prompts(served, request.prompt, add_special_tokens=request.add_special_tokens is not False)
    asked = _asked(served, request, prompts, params, options, usual=_USUAL_TOKENS, field="prompt")
    return replace(
        asked,
        logprobs=logprobs,
        echo=tuple(prompt.text for prompt in prompts) if request.echo else None,
        only_prompt=only_prompt,
    )


def read_conversation(served: ServedLM, request: ChatRequest, options: CallOptions) -> Asked:
    """Read a request to answer in a conversation.

    Args:
        served: the model.
        request: as decoded.
        options: what its headers say.

    Raises:
        Fault: it can't be answered as it is; the message says why.
    """
    refuse_not_done(request)
    if request.max_tokens is not None and request.max_completion_tokens is not None:
        raise bad_request("max_tokens is the older name of max_completion_tokens: give one", param="max_tokens")
    wanted = request.max_tokens if request.max_completion_tokens is None else request.max_completion_tokens
    if wanted is not None and wanted < 1:
        field = "max_tokens" if request.max_completion_tokens is None else "max_completion_tokens"
        raise bad_request(f"{field} is {wanted}: give 1 or more", param=field)
    if request.top_logprobs is not None and not request.logprobs:
        raise bad_request("top_logprobs is given without logprobs: true", param="top_logprobs")
    logprobs = (_count_top(request.top_logprobs, "top_logprobs") or 0) if request.logprobs else None
    params = sampling_params(request, max_tokens=wanted, logprobs=logprobs)
    prompt = read_chat(served, request)
    asked = _asked(served, request, [prompt], params, options, usual=None, field="messages")
    return replace(asked, logprobs=logprobs, echo=_said_last(request) if request.echo else None)


def _said_last(request: ChatRequest) -> tuple[str, ...]:
    content = request.messages[-1].get("content")
    return (content if isinstance(content, str) else "",)


def _priority(given: int) -> int:
    """Return a priority of which higher goes sooner, from vLLM's."""
    if abs(given) > PRIORITY_LIMIT:
        message = f"priority is {given}: give a whole number from {-PRIORITY_LIMIT:,} to {PRIORITY_LIMIT:,}"
        raise bad_request(f"{message}, of which lower goes sooner", param="priority")
    return -given


def _count_top(given: int | None, field: str) -> int | None:
    if given is not None and not 0 <= given <= _MOST_TOP:
        raise bad_request(f"{field} is {given}: give 0 to {_MOST_TOP}", param=field)
    return given


def _asked(
    served: ServedLM,
    request: GenerationRequest,
    prompts: list[Prompt],
    params: SamplingParams,
    options: CallOptions,
    *,
    usual: int | None,
    field: str,
) -> Asked:
    most = served.policy.num_slots + served.policy.max_waiting
    if len(prompts) * params.n > most:
        message = f"the request asks for {len(prompts) * params.n:,} answers, of at most {most:,}: split it"
        raise bad_request(message, param="n" if params.n > 1 else field)
    try:
        params.check_vocabulary(served.parts.runner.vocabulary_size)
    except InvalidItem as error:
        raise named(error, request) from error
    streams = request.stream_options
    usual = usual and max(usual, params.min_tokens)
    lengths = [room(served, prompt, params.max_tokens, usual=usual, field=field) for prompt in prompts]
    if params.min_tokens > min(lengths):
        message = f"min_tokens is {params.min_tokens}, and {min(lengths)} fit after the prompt: ask for fewer"
        raise bad_request(message, param="min_tokens")
    return Asked(
        prompts=tuple(prompts),
        generations=tuple(
            _generation(served, request, prompt, replace(params, max_tokens=length), options)
            for prompt, length in zip(prompts, lengths, strict=True)
        ),
        n=params.n,
        logprobs=None,
        prompt_logprobs=request.prompt_logprobs,
        echo=None,
        streams=bool(request.stream),
        tells_usage=bool(streams and streams.include_usage),
        tells_usage_always=bool(streams and streams.continuous_usage_stats),
        tells_token_ids=bool(request.return_token_ids),
    )


def _generation(
    served: ServedLM, request: GenerationRequest, prompt: Prompt, params: SamplingParams, options: CallOptions
) -> Generation:
    promises = served.promises
    return Generation(
        prompt=prompt.token_ids,
        params=params,
        priority=options.priority if request.priority is None else _priority(request.priority),
        tenant=options.tenant,
        request_id=options.request_id,
        ttft_s=promises.ttft_s,
        tpot_s=promises.tpot_s,
        timeout_s=options.timeout_s or promises.timeout_s,
        cache_salt=request.cache_salt or "",
    )
