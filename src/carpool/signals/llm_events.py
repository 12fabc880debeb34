"""What happened in an LLM engine: plain records that it emits and everything else reads.

All instants (`at`, `*_at`) are seconds of the engine's own monotonic clock. The records hold no live object.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias

__all__ = ["LLMEvent", "LLMSink", "SequenceEnded", "SequenceRefused", "StepFailed", "StepRan"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRan:
    """A step was computed.

    Args:
        at: when it was done.
        started_at: when it began to be planned.
        run_at: when the model began.
        ran_at: when the model was done, and the tokens were chosen.
        num_tokens: tokens computed.
        num_sequences: sequences that they belong to.
        num_sampled: sequences that got a token.
        kv_read: tokens in the cache that single tokens looked at.
        prefill_pairs: pairs of tokens within and before longer chunks.
        num_running: sequences that hold a slot, once it was done.
        num_waiting: sequences that wait for one.
        kv_usage: share of the cache's blocks that sequences hold, 0 to 1.
        num_preempted: sequences that gave their blocks back for it.
        preempted: the requests that those came with; empty names where none was named.
        preempted_because: why those, in words.
        num_prompt: tokens of the prompts of the sequences that got their first token.
        prefix_queries: tokens of prompts that were looked for in the prefix cache.
        prefix_hits: tokens of them that were found.
        ttft_s: arrival to first token, of each sequence that got its first.
        itl_s: the gap to the token before, of each sequence that got another.
        predicted_s: what the time model promised for `ran_at - run_at`; None without one.
    """

    at: float
    started_at: float
    run_at: float
    ran_at: float
    num_tokens: int
    num_sequences: int
    num_sampled: int
    kv_read: int = 0
    prefill_pairs: float = 0.0
    num_running: int = 0
    num_waiting: int = 0
    kv_usage: float = 0.0
    num_preempted: int = 0
    preempted: tuple[str, ...] = ()
    preempted_because: str = ""
    num_prompt: int = 0
    prefix_queries: int = 0
    prefix_hits: int = 0
    ttft_s: tuple[float, ...] = ()
    itl_s: tuple[float, ...] = ()
    predicted_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFailed:
    """A step raised; its sequences are computed again, in smaller steps.

    Args:
        at: when it failed.
        started_at: when it began.
        num_sequences: sequences that were in it.
        error: one line saying what was raised.
    """

    at: float
    started_at: float
    num_sequences: int
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceEnded:
    """A sequence left the engine.

    Args:
        at: when.
        reason: "stop", "length", "abort" (nobody waited any more, or it was given up) or "error".
        arrived_at: when it came.
        scheduled_at: when its first step began; None where it had none.
        first_token_at: when it got its first token; None where it got none.
        num_prompt: tokens of the prompt.
        num_cached: tokens of the prompt that were found in the prefix cache.
        num_generated: tokens generated.
        num_preemptions: how often its blocks were taken away.
        tenant: whose it was; empty where tenants are not told apart.
        request_id: the request that it came with; empty where none was named.
    """

    at: float
    reason: str
    arrived_at: float
    scheduled_at: float | None
    first_token_at: float | None
    num_prompt: int
    num_cached: int = 0
    num_generated: int = 0
    num_preemptions: int = 0
    tenant: str = ""
    request_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceRefused:
    """A generation was refused at arrival.

    Args:
        at: when it came.
        reason: a short word for why: `queue_full` or `invalid`.
        tenant: whose it was; empty where tenants are not told apart.
    """

    at: float
    reason: str
    tenant: str = ""


LLMEvent: TypeAlias = StepRan | StepFailed | SequenceEnded | SequenceRefused


class LLMSink(Protocol):
    """Where an LLM engine's events go: metrics, a file, a list in a test."""

    def record(self, event: LLMEvent, /) -> None:
        """Take one event; must be cheap, must not raise, may be called from any thread."""
