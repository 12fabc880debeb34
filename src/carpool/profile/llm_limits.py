"""What limits a step of a model that generates: its weights, arithmetic, keys and values, or what every step costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from carpool.core.step import StepWork
    from carpool.profile.llm_artefact import LlmProfile

LimitKind: TypeAlias = Literal["weights", "overhead", "compute", "KV"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepParts:
    """Where the time of a step goes, by the fit and the peaks of the machine.

    Args:
        weights_s: What reading the weights once takes at the machine's best copy, as far as a step has it.
        overhead_s: What every step costs besides, whatever is in it.
        compute_s: What grows with the tokens and sequences in it.
        kv_s: What grows with the tokens of the cache that it looks at.
    """

    weights_s: float
    overhead_s: float
    compute_s: float
    kv_s: float

    @property
    def by_kind(self) -> dict[LimitKind, float]:
        """Each part by its name."""
        return {"weights": self.weights_s, "overhead": self.overhead_s, "compute": self.compute_s, "KV": self.kv_s}

    @property
    def total_s(self) -> float:
        """All of it."""
        return sum(self.by_kind.values())

    @property
    def limit(self) -> LimitKind:
        """The largest part."""
        return max(self.by_kind, key=self.by_kind.__getitem__)

    def share(self, kind: LimitKind) -> float:
        """Return a part's share of the whole."""
        return self.by_kind[kind] / self.total_s if self.total_s else 0.0


def parts_of(profile: LlmProfile, work: StepWork) -> StepParts | None:
    """Take a step apart; None where there is no fit.

    Args:
        profile: What was measured.
        work: The step.
    """
    cost = profile.step_cost
    if cost is None:
        return None
    read_s = 0.0 if profile.peaks is None else profile.memory.weights_bytes / profile.peaks.bytes_per_s
    weights_s = min(read_s, cost.step_s)
    return StepParts(
        weights_s=weights_s,
        overhead_s=cost.step_s - weights_s,
        compute_s=cost.token_s * work.num_tokens + cost.sequence_s * work.num_sequences,
        kv_s=cost.kv_s * work.kv_read + cost.pair_s * work.prefill_pairs,
    )
