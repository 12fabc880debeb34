"""Static batching: `generate` on as many requests as there are slots, until the longest of them is done."""

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from peers.llm.engine import Engine, Listener, Request, Settings
from transformers import AutoModelForCausalLM


class Static:
    """A model, asked for one padded batch after another."""

    def __init__(self, settings: Settings) -> None:
        self._model: Any = AutoModelForCausalLM.from_pretrained(settings.model, dtype=torch.bfloat16)
        self._model.generation_config.eos_token_id = None
        self._num_slots = settings.num_slots

    def generate(self, requests: Sequence[Request]) -> list[list[int]]:
        """Answer all, in batches in the order of arrival."""
        starts = range(0, len(requests), self._num_slots)
        batches = (self._batch(requests[start : start + self._num_slots]) for start in starts)
        return list(itertools.chain.from_iterable(batches))

    def submit(self, request: Request, on_tokens: Listener) -> None:
        """Is not for this: a batch takes nobody in once it runs."""
        raise NotImplementedError

    def _batch(self, requests: Sequence[Request]) -> list[list[int]]:
        width = max(len(request.prompt) for request in requests)
        num_new = max(request.num_output for request in requests)
        padding = [width - len(request.prompt) for request in requests]
        ids = torch.tensor([[0] * pad + one.prompt for pad, one in zip(padding, requests, strict=True)])
        mask = torch.tensor([[0] * pad + [1] * (width - pad) for pad in padding])
        out = self._model.generate(
            input_ids=ids,
            attention_mask=mask,
            do_sample=False,
            max_new_tokens=num_new,
            pad_token_id=0,
        )
        rows = out[:, width:].tolist()
        return [row[: request.num_output] for row, request in zip(rows, requests, strict=True)]


def start(settings: Settings) -> Engine:
    """Load the model."""
    return Static(settings)
