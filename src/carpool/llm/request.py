"""What an LLM engine is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from carpool.llm.sampling_params import SamplingParams


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """A prompt, and how to go on from it.

    Args:
        prompt: token ids, at least one.
        params: how tokens are chosen, and when to stop; `n` sequences go on from the one prompt.
        priority: higher goes sooner; below zero is background work.
        tenant: whose share of the capacity it uses.
        request_id: what the request is called in events and traces.
        ttft_s: seconds within which the first token is wanted; an objective.
        tpot_s: seconds that may pass between tokens; an objective.
        timeout_s: seconds after which it is given up where its prompt still waits; None waits as long as it takes.
        cache_salt: only generations of one salt find each other's prompts in the prefix cache.
        wants: text, or the last layer's vector of the prompt's last token, as an embedding.
    """

    prompt: Sequence[int]
    params: SamplingParams = field(default_factory=SamplingParams)
    priority: int = 0
    tenant: str = ""
    request_id: str = ""
    ttft_s: float | None = None
    tpot_s: float | None = None
    timeout_s: float | None = None
    cache_salt: str = ""
    wants: Literal["text", "vector"] = "text"
