"""Continuous batching by transformers itself, with paged SDPA."""

import threading
from collections.abc import Sequence

import torch
from peers.llm.engine import Engine, Listener, Request, Settings
from transformers import AutoModelForCausalLM, ContinuousBatchingConfig, GenerationConfig

NEVER = -1
PAGE_SIZE = 64
TOKEN_BUDGET = 512


class Continuous:
    """A manager that is started once, and a thread that takes its results where requests come one at a time."""

    def __init__(self, settings: Settings) -> None:
        self._model = AutoModelForCausalLM.from_pretrained(
            settings.model, dtype=torch.bfloat16, attn_implementation="sdpa"
        )
        self._model.generation_config.eos_token_id = NEVER
        self._manager = self._model.init_continuous_batching(
            generation_config=GenerationConfig(
                do_sample=False, max_new_tokens=settings.max_length, eos_token_id=NEVER, pad_token_id=0
            ),
            continuous_batching_config=ContinuousBatchingConfig(
                max_requests_per_batch=settings.num_slots,
                page_size=PAGE_SIZE,
                num_blocks=settings.num_slots * settings.max_length // PAGE_SIZE,
                max_batch_tokens=TOKEN_BUDGET,
                allow_block_sharing=False,
            ),
        )
        self._manager.start()
        self._num_requests = 0
        self._listeners: dict[str, Listener] = {}
        if settings.online:
            threading.Thread(target=self._listen, daemon=True).start()

    def generate(self, requests: Sequence[Request]) -> list[list[int]]:
        """Answer all."""
        names = [self._add(request, streaming=False) for request in requests]
        found: dict[str, list[int]] = {}
        while len(found) < len(names):
            result = self._manager.get_result(timeout=1.0)
            if result is not None:
                found[result.request_id] = list(result.generated_tokens)
        return [found[name] for name in names]

    def submit(self, request: Request, on_tokens: Listener) -> None:
        """Take one."""
        self._listeners[str(self._num_requests + 1)] = on_tokens
        self._add(request, streaming=True)

    def _add(self, request: Request, *, streaming: bool) -> str:
        self._num_requests += 1
        name = str(self._num_requests)
        self._manager.add_request(
            request.prompt, request_id=name, max_new_tokens=request.num_output, streaming=streaming
        )
        return name

    def _listen(self) -> None:
        while True:
            result = self._manager.get_result(timeout=1.0)
            if result is not None:
                self._listeners[result.request_id](len(result.generated_tokens))


def start(settings: Settings) -> Engine:
    """Start transformers' continuous batching."""
    return Continuous(settings)
