"""The knobs of continuous batching, in one frozen value."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from carpool.core.limits import check_at_most, check_seconds, check_weights, check_whole
from carpool.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPolicy:
    """How the steps of an LLM are formed.

    Args:
        num_slots: most sequences that run at a time.
        token_budget: most tokens that a step computes; at least `num_slots`, so that every sequence can go on in every
            step, and a prompt always has something left for it.
        block_size: tokens in a block of the cache.
        prefix_caching: keep the blocks of what has been computed, for sequences that begin in the same way.
        chunked_prefill: let a prompt run in pieces beside others. Without it each runs whole, in one step, and one
            longer than the token budget is refused.
        max_waiting: most sequences that wait; one more is refused.
        tenant_weights: shares of the tenants; 1 where not named.
        ageing_s: how many seconds of waiting one level of priority is worth.
        patience_s: the objective for the first token that a sequence without one is ordered by, so that those with one
            can't starve it.

    Raises:
        ConfigError: a value is outside its range.
    """

    num_slots: int = 64
    token_budget: int = 512
    block_size: int = 32
    prefix_caching: bool = True
    chunked_prefill: bool = True
    max_waiting: int = 1024
    tenant_weights: Mapping[str, float] = field(default_factory=dict)
    ageing_s: float = 1.0
    patience_s: float = 10.0

    def __post_init__(self) -> None:
        for name in ("num_slots", "token_budget", "block_size", "max_waiting"):
            check_whole(name, getattr(self, name))
            check_at_most(name, getattr(self, name))
        for name in ("ageing_s", "patience_s"):
            check_seconds(name, getattr(self, name))
        check_weights(self.tenant_weights)
        if self.token_budget < self.num_slots:
            raise ConfigError(
                f"token_budget is {self.token_budget}, below num_slots {self.num_slots}, but each running sequence "
                "needs a token of every step: raise token_budget or lower num_slots"
            )
