"""vLLM on CPU: `LLM` where all requests are there, `AsyncLLM` where they come one at a time."""

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

from peers.llm.engine import Engine, Listener, Request, Settings, end_if_failed
from vllm import LLM, AsyncEngineArgs, SamplingParams
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.async_llm import AsyncLLM


def arguments(settings: Settings) -> dict[str, Any]:
    """What both interfaces are given; the rest is vLLM's choice."""
    return {
        "model": settings.model,
        "dtype": "bfloat16",
        "max_model_len": settings.max_length,
        "max_num_seqs": settings.num_slots,
        "enable_prefix_caching": False,
        "disable_log_stats": True,
    }


def sampling(request: Request, kind: RequestOutputKind) -> SamplingParams:
    """Greedy, so many tokens, no text."""
    return SamplingParams(
        max_tokens=request.num_output, ignore_eos=True, temperature=0.0, detokenize=False, output_kind=kind
    )


class Offline:
    """All requests at once."""

    def __init__(self, settings: Settings) -> None:
        self._llm = LLM(**arguments(settings))

    def generate(self, requests: Sequence[Request]) -> list[list[int]]:
        """Answer all."""
        prompts = [{"prompt_token_ids": request.prompt} for request in requests]
        params = [sampling(request, RequestOutputKind.FINAL_ONLY) for request in requests]
        return [list(done.outputs[0].token_ids) for done in self._llm.generate(prompts, params, use_tqdm=False)]

    def submit(self, request: Request, on_tokens: Listener) -> None:
        """Is not for this."""
        raise NotImplementedError


class Online:
    """Requests as they come, on an event loop of its own thread."""

    def __init__(self, settings: Settings) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._num_requests = 0
        self._llm = asyncio.run_coroutine_threadsafe(self._start(settings), self._loop).result()

    async def _start(self, settings: Settings) -> AsyncLLM:
        return AsyncLLM.from_engine_args(AsyncEngineArgs(**arguments(settings)))

    def generate(self, requests: Sequence[Request]) -> list[list[int]]:
        """Is not for this."""
        raise NotImplementedError

    def submit(self, request: Request, on_tokens: Listener) -> None:
        """Take one."""
        self._num_requests += 1
        future = asyncio.run_coroutine_threadsafe(self._follow(request, str(self._num_requests), on_tokens), self._loop)
        future.add_done_callback(end_if_failed)

    async def _follow(self, request: Request, name: str, on_tokens: Listener) -> None:
        num_tokens = 0
        params = sampling(request, RequestOutputKind.DELTA)
        async for part in self._llm.generate({"prompt_token_ids": request.prompt}, params, name):
            num_tokens += len(part.outputs[0].token_ids)
            on_tokens(num_tokens)


def start(settings: Settings) -> Engine:
    """Start vLLM."""
    return Online(settings) if settings.online else Offline(settings)
