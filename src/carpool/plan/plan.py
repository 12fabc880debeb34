"""A plan: the policy to serve with, what it will do under the load that it is for, and what could be done instead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from carpool.config.document import Migrations
from carpool.plan.binding import Belongs, Binding
from carpool.plan.memory_trade import MemoryTrade
from carpool.plan.nearest import Nearest
from carpool.plan.predict import Prediction
from carpool.plan.search import FrontierPoint, Tried
from carpool.plan.setup import Setup
from carpool.plan.slo import Gap, Verdict
from carpool.plan.what_if import WhatIfRow
from carpool.signals.objective import Objective


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOptions:
    """What a plan may use, and how long it may be thought about.

    Args:
        max_workers: Most workers, each as fast as the one that was measured.
        max_batch_size: Most items in a batch; None for as many as were measured.
        memory_limit_bytes: Most memory of a batch; None for what the profile says.
        price_per_hour: Of one worker, in any currency; None leaves costs out.
        window_s: Length of a simulated run, in seconds.
        num_runs: Simulated runs behind each final figure.
        seed: Same seed, same plan.
        transport_s: Seconds that every request spends on its way to the batcher and back.
    """

    max_workers: int = 1
    max_batch_size: int | None = None
    memory_limit_bytes: int | None = None
    price_per_hour: float | None = None
    window_s: float = 60.0
    num_runs: int = 20
    seed: int = 0
    transport_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to serve with, and why.

    Args:
        target: The TARGET that was profiled.
        name: The model's short name.
        workload: The load that it is for, in one sentence.
        rate: Items a second, on average.
        objectives: What was promised.
        options: What it may use.
        chosen: The policy and the workers to serve with.
        prediction: What they will do.
        verdict: Whether every objective is kept.
        gaps: How far each objective is from being met.
        nearest: Where no objective can be kept: what can be.
        tried: What was compared, the best first; the chosen one among them.
        frontier: Latency against throughput of a few setups, as the load rises.
        binding: What limits it now, the tightest first.
        belongs: Whether batching belongs here at all.
        what_if: The same load served in other ways.
        memory_trade: Batch size against model size; None where memory was not measured.
        sentences: All that in words, the most important first.
        doubts: What makes the figures less sure than their intervals say.
    """

    MIGRATIONS: ClassVar[Migrations] = {}

    schema_version: int = 1
    target: str
    name: str
    workload: str
    rate: float
    objectives: tuple[Objective, ...]
    options: PlanOptions
    chosen: Setup
    prediction: Prediction
    verdict: Verdict
    gaps: tuple[Gap, ...]
    nearest: Nearest | None
    tried: tuple[Tried, ...]
    frontier: tuple[FrontierPoint, ...]
    binding: tuple[Binding, ...]
    belongs: Belongs
    what_if: tuple[WhatIfRow, ...]
    memory_trade: MemoryTrade | None
    sentences: tuple[str, ...]
    doubts: tuple[str, ...]
