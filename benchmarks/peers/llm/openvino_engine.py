"""OpenVINO GenAI's continuous batching, bfloat16 arithmetic; `kv` chooses what its cache holds."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING

import numpy as np
import openvino
import openvino_genai

if TYPE_CHECKING:
    from collections.abc import Sequence

    from openvino_genai.py_openvino_genai import GenerationHandle
    from peers.llm.engine import Engine, Listener, Request, Settings

TOKEN_BUDGET = 2048
CACHE_GIB = 4


def configuration(request: Request) -> openvino_genai.GenerationConfig:
    """Greedy, so many tokens."""
    found = openvino_genai.GenerationConfig()
    found.max_new_tokens = found.min_new_tokens = request.num_output
    found.ignore_eos, found.do_sample = True, False
    return found


def tensor(request: Request) -> openvino.Tensor:
    """A prompt as [1, n]."""
    return openvino.Tensor(np.array([request.prompt], np.int64))


class OpenVino:
    """A pipeline, and a thread that steps it while requests come one at a time."""

    def __init__(self, settings: Settings) -> None:
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.max_num_seqs = settings.num_slots
        scheduler.max_num_batched_tokens = TOKEN_BUDGET
        scheduler.cache_size = CACHE_GIB
        scheduler.enable_prefix_caching = False
        scheduler.dynamic_split_fuse = True
        properties = {"INFERENCE_PRECISION_HINT": "bf16"} | ({"KV_CACHE_PRECISION": settings.kv} if settings.kv else {})
        self._pipeline = openvino_genai.ContinuousBatchingPipeline(settings.model, scheduler, "CPU", properties)
        self._came: queue.SimpleQueue[tuple[Request, Listener]] = queue.SimpleQueue()
        if settings.online:
            threading.Thread(target=self._serve, daemon=True).start()

    def generate(self, requests: Sequence[Request]) -> list[list[int]]:
        """Answer all."""
        done = self._pipeline.generate([tensor(one) for one in requests], [configuration(one) for one in requests])
        return [list(one.m_generation_ids[0]) for one in done]

    def submit(self, request: Request, on_tokens: Listener) -> None:
        """Take one."""
        self._came.put((request, on_tokens))

    def _serve(self) -> None:
        """Step while there is work, and hand out what came after each step."""
        running: list[tuple[GenerationHandle, Listener, list[int]]] = []
        num_requests = 0
        while True:
            while not running or not self._came.empty():
                request, on_tokens = self._came.get()
                num_requests += 1
                handle = self._pipeline.add_request(num_requests, tensor(request), configuration(request))
                running.append((handle, on_tokens, [0, request.num_output]))
            self._pipeline.step()
            running = [one for one in running if not self._deliver(*one)]

    def _deliver(self, handle: GenerationHandle, on_tokens: Listener, counts: list[int]) -> bool:
        """Tell the listener of new tokens; tell whether they were the last."""
        while handle.can_read():
            counts[0] += sum(len(part.generated_ids) for part in handle.read().values())
            on_tokens(counts[0])
        return counts[0] >= counts[1]


def start(settings: Settings) -> Engine:
    """Start OpenVINO GenAI."""
    return OpenVino(settings)
