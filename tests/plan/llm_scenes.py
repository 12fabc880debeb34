"""A measured model that generates, and what arrives at it, shared by the tests of its plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from carpool.cost.kv_memory import KvMemory
from carpool.cost.step_cost import StepCost, StepRange, decode_work
from carpool.plan.llm_predict import LlmScene, LlmSubject
from carpool.plan.llm_workload import Lengths, LlmWorkload
from carpool.plan.process import Poisson

if TYPE_CHECKING:
    from carpool.plan.llm_figures import LlmObjective

COST = StepCost(
    step_s=0.018,
    token_s=1.2e-4,
    sequence_s=2.5e-4,
    kv_s=6e-7,
    pair_s=2e-8,
    most=StepRange(num_tokens=1024, num_sequences=64, kv_read=65_536, prefill_pairs=1e6),
    error_pct=2.0,
    worst_error_pct=6.0,
    worst_error_at=decode_work(64, 1024),
    residual_sd=0.02,
    measurement_sd=0.01,
)
SUBJECT = LlmSubject(
    target="demo:tiny",
    name="tiny",
    cost=COST,
    max_length=4096,
    memory=KvMemory(weights_bytes=269_000_000, block_bytes=368_640, block_size=16),
    num_blocks=4096,
)


def workload(rate: float = 2.0, **changed: Any) -> LlmWorkload:
    """Chats: prompts and answers of about a hundred tokens."""
    known: dict[str, Any] = {
        "arrivals": Poisson(rate=rate),
        "prompts": Lengths(typical=(134,), spread=0.8),
        "outputs": Lengths(typical=(60,), spread=0.8),
    }
    return LlmWorkload(**(known | changed))


def scene(
    rate: float = 2.0, objectives: tuple[LlmObjective, ...] = (), window_s: float = 30.0, **changed: Any
) -> LlmScene:
    """That load at that model."""
    return LlmScene(subject=SUBJECT, load=workload(rate, **changed), objectives=objectives, window_s=window_s)
