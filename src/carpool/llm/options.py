"""How an LLM is opened; light to import."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from carpool.core.step_policy import StepPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """What to load, where, and how its steps are formed.

    Args:
        target: `demo:smollm2`, a directory of a Hugging Face causal language model, or a `.gguf` file.
        device: where it computes, such as "cuda:0"; the best there is by default.
        dtype: "auto", "float32", "bfloat16", "float16" or "float64".
        weights: "as_is", or "int8" to halve their memory.
        num_threads: threads that compute on a CPU; all cores by default.
        max_length: the longest sequence to take, in tokens; the model's own limit by default.
        kv_memory_bytes: memory of the cache of keys and values; by default most of what is free.
        deterministic: whether a generation's logits are bitwise the same alone and in any batch.
        policy: how steps are formed.
        step_timeout_s: a step that takes longer is reported as trouble.
    """

    target: str
    device: str | None = None
    dtype: str = "auto"
    weights: Literal["as_is", "int8"] = "as_is"
    num_threads: int | None = None
    max_length: int | None = None
    kv_memory_bytes: int | None = None
    deterministic: bool = False
    policy: StepPolicy = field(default_factory=StepPolicy)
    step_timeout_s: float = 60.0
