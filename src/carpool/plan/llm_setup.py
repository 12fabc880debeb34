"""A way to serve a model that generates: what its simulator runs, and what a search and a what-if table vary."""

from __future__ import annotations

from dataclasses import dataclass, field

from carpool.core.step_policy import StepPolicy
from carpool.plan.setup import require_at_least
from carpool.units import counted


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmSetup:
    """How steps are formed, with how much memory, on how many workers.

    Args:
        policy: How steps are formed.
        num_blocks: Blocks of keys and values that a worker has.
        num_workers: Workers, each as fast as the one that was measured; generations go to them in turn.
        static: Whether batches are formed once and run until their longest answer is done, as libraries do that know
            nothing of continuous batching.

    Raises:
        ConfigError: There is no block, or no worker.
    """

    policy: StepPolicy = field(default_factory=StepPolicy)
    num_blocks: int
    num_workers: int = 1
    static: bool = False

    def __post_init__(self) -> None:
        require_at_least(1, self, "num_blocks", "num_workers")

    def describe(self) -> str:
        """Say in a few words how steps are formed.

        >>> LlmSetup(policy=StepPolicy(num_slots=32, token_budget=256, block_size=32), num_blocks=500).describe()
        'up to 32 sequences at a time, 256 tokens in a step, prompts in pieces, 16,000 tokens of KV, on 1 worker'
        """
        policy = self.policy
        if self.static:
            parts = [f"static batches of up to {policy.num_slots}"]
        elif policy.num_slots == 1:
            parts = ["one sequence at a time"]
        else:
            parts = [
                f"up to {counted(policy.num_slots, 'sequence')} at a time",
                f"{counted(policy.token_budget, 'token')} in a step",
                "prompts in pieces" if policy.chunked_prefill else "prompts whole",
            ]
        parts.append(f"{self.num_blocks * policy.block_size:,} tokens of KV")
        return ", ".join([*parts, f"on {counted(self.num_workers, 'worker')}"])
