"""Carpool's own engine: `LLM.generate` where all requests are there, `LLM.stream` where they come one at a time."""

import asyncio
import threading
from collections.abc import Sequence

from peers.llm.engine import Engine, Listener, Request, Settings, end_if_failed

from carpool import LLM
from carpool.llm.sampling_params import SamplingParams

KV_MEMORY = "4GiB"


def sampling(request: Request) -> SamplingParams:
    """Greedy, so many tokens."""
    return SamplingParams(temperature=0.0, max_tokens=request.num_output, ignore_eos=True)


class Carpool:
    """A language model; where requests come one at a time, with an event loop on a thread of its own."""

    def __init__(self, settings: Settings) -> None:
        self._llm = LLM(
            settings.model,
            dtype="bfloat16",
            max_length=settings.max_length,
            num_slots=settings.num_slots,
            kv_memory=KV_MEMORY,
            prefix_caching=False,
            deterministic=settings.deterministic,
        ).start()
        self._loop = asyncio.new_event_loop()
        if settings.online:
            threading.Thread(target=self._loop.run_forever, daemon=True).start()

    def generate(self, requests: Sequence[Request]) -> list[list[int]]:
        """Answer all."""
        done = self._llm.generate([one.prompt for one in requests], [sampling(one) for one in requests])
        return [list(one.choices[0].token_ids) for one in done]

    def submit(self, request: Request, on_tokens: Listener) -> None:
        """Take one."""
        future = asyncio.run_coroutine_threadsafe(self._follow(request, on_tokens), self._loop)
        future.add_done_callback(end_if_failed)

    async def _follow(self, request: Request, on_tokens: Listener) -> None:
        num_tokens = 0
        async for output in self._llm.stream(request.prompt, sampling(request)):
            num_tokens += len(output.token_ids)
            on_tokens(num_tokens)


def start(settings: Settings) -> Engine:
    """Start Carpool."""
    return Carpool(settings)
