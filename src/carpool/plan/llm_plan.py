"""A plan for a model that generates: how to serve it, what that will do, and what could be done instead."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isfinite
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from carpool.config.document import Migrations
from carpool.errors import ConfigError
from carpool.plan.llm_figures import LlmObjective
from carpool.plan.llm_predict import LlmPrediction, LlmScene
from carpool.plan.llm_search import LlmTried, search_llm, time_to_fill
from carpool.plan.llm_sentences import LlmStory, doubts_about, sentences_about
from carpool.plan.llm_setup import LlmSetup
from carpool.plan.llm_what_if import LlmFrontierPoint, LlmRow, frontier_llm, what_if_llm
from carpool.plan.llm_workload import Clipped
from carpool.plan.setup import require_at_least
from carpool.plan.slo import Verdict, verdict_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from carpool.plan.llm_predict import LlmSubject
    from carpool.plan.llm_workload import LlmWorkload

# Requests in a window that setups are compared in, at least in one that is predicted in, and at most in all of those.
_TO_COMPARE, _LEAST, _MOST, _MOST_IN_A_ROW = 150, 100, 5_000, 1_500


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmPlanOptions:
    """What a plan may use, and how long it may be thought about.

    Args:
        max_workers: Most workers, each as fast as the one that was measured.
        max_slots: Most sequences at a time; None for as many as were measured.
        memory_bytes: Memory of a worker, weights and keys and values together; None for what was allotted when it was
            measured.
        window_s: Length of a simulated run, in seconds.
        num_runs: Simulated runs behind each final figure.
        seed: Same seed, same plan.

    Raises:
        ConfigError: A value is outside its range.
    """

    max_workers: int = 1
    max_slots: int | None = None
    memory_bytes: int | None = None
    window_s: float = 60.0
    num_runs: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        require_at_least(1, self, "max_workers", "max_slots", "memory_bytes", "num_runs")
        require_at_least(0, self, "seed")
        if not (isfinite(self.window_s) and self.window_s > 0):
            raise ConfigError(f"window_s is {self.window_s}; it must be above 0 and finite")


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmPlan:
    """How to serve a model that generates, and why.

    Args:
        target: The TARGET that was profiled.
        name: The model's short name.
        workload: The load that it is for, in one sentence.
        rate: Requests a second, on average.
        objectives: What was promised.
        options: What it may use.
        chosen: The policy, the memory and the workers to serve with.
        kv_bytes: Keys and values of a worker.
        enough_kv_bytes: The least, by halves, that does as well.
        prediction: What it will do.
        verdict: Whether every objective is kept; without one, whether the load is carried.
        tried: What was compared, the chosen first, then the best; figures are of short windows.
        frontier: Times over the load, of the plan beside static batching and none.
        what_if: The same load served in other ways.
        sentences: All that in words, the most important first.
        doubts: What makes the figures less sure than their intervals say.
    """

    MIGRATIONS: ClassVar[Migrations] = {}

    schema_version: int = 1
    target: str
    name: str
    workload: str
    rate: float
    objectives: tuple[LlmObjective, ...]
    options: LlmPlanOptions
    chosen: LlmSetup
    kv_bytes: int
    enough_kv_bytes: int
    prediction: LlmPrediction
    verdict: Verdict
    tried: tuple[LlmTried, ...]
    frontier: tuple[LlmFrontierPoint, ...]
    what_if: tuple[LlmRow, ...]
    sentences: tuple[str, ...]
    doubts: tuple[str, ...]


def make_llm_plan(
    subject: LlmSubject,
    workload: LlmWorkload,
    objectives: Sequence[LlmObjective] = (),
    options: LlmPlanOptions | None = None,
    *,
    watch: Callable[[str], object] = lambda _: None,
) -> LlmPlan:
    """Choose how to serve a load of generations, and say what that will do and what else could be done.

    Args:
        subject: The measured model.
        workload: What arrives; what is longer than the model takes is cut, and a doubt says so.
        objectives: What is promised.
        options: What the plan may use.
        watch: Told what is being looked at.

    Raises:
        ConfigError: Memory holds no block beside the weights, or nothing would be answered.
    """
    options = options or LlmPlanOptions()
    load = Clipped(workload=workload, max_length=subject.max_length)
    full_s, short_s = windows(workload.rate, options)
    scene = LlmScene(subject=subject, load=load, objectives=tuple(objectives), window_s=short_s, seed=options.seed)
    scene = replace(scene, warm_s=min(full_s, time_to_fill(replace(scene, window_s=full_s))))
    given = options.memory_bytes
    found = search_llm(
        scene,
        num_blocks=subject.num_blocks if given is None else subject.memory.require_blocks(given),
        max_workers=options.max_workers,
        most_slots=options.max_slots,
        watch=watch,
    )
    watch(found.chosen.describe())
    prediction = replace(scene, window_s=full_s).predict(found.chosen, options.num_runs)
    _check_answered(prediction, workload, subject)
    row_s = max(short_s, min(full_s, _MOST_IN_A_ROW / workload.rate / options.num_runs))
    num_rows = max(3, min(options.num_runs, int(_MOST_IN_A_ROW / (workload.rate * row_s))))
    story = LlmStory(
        subject=subject,
        rate=workload.rate,
        objectives=tuple(objectives),
        chosen=found.chosen,
        prediction=prediction,
        what_if=what_if_llm(replace(scene, window_s=row_s), found.chosen, num_rows, watch=watch),
        frontier=frontier_llm(scene, found.chosen, watch=watch),
        enough_blocks=found.enough_blocks,
    )
    cut = load.share_cut(np.random.default_rng(options.seed))
    doubts = doubts_about(story, scene.run(found.chosen, 0), cut)
    return _plan(story, workload, options, found.tried, tuple(doubts))


def _check_answered(prediction: LlmPrediction, workload: LlmWorkload, subject: LlmSubject) -> None:
    """Refuse a plan that would answer nothing: there is nothing to be said about its times."""
    if not prediction.is_finite:
        raise ConfigError(
            f"of {workload.rate:g} requests a second hardly any would be answered by {subject.name}: give a lower "
            "--rate, shorter prompts or answers, or measure a faster device"
        )


def _plan(
    story: LlmStory,
    workload: LlmWorkload,
    options: LlmPlanOptions,
    tried: tuple[LlmTried, ...],
    doubts: tuple[str, ...],
) -> LlmPlan:
    block_bytes = story.subject.memory.block_bytes
    return LlmPlan(
        target=story.subject.target,
        name=story.subject.name,
        workload=workload.describe(),
        rate=workload.rate,
        objectives=story.objectives,
        options=options,
        chosen=story.chosen,
        kv_bytes=story.chosen.num_blocks * block_bytes,
        enough_kv_bytes=story.enough_blocks * block_bytes,
        prediction=story.prediction,
        verdict=verdict_of(story.prediction),
        tried=tried,
        frontier=story.frontier,
        what_if=story.what_if,
        sentences=tuple(sentences_about(story)),
        doubts=doubts,
    )


def windows(rate: float, options: LlmPlanOptions) -> tuple[float, float]:
    """Return the seconds of a full window, and those of a short one to compare setups in.

    Full windows hold enough requests to speak of, and no more than can be simulated in a short time: they are made
    shorter for that, which makes intervals wider.

    Args:
        rate: Requests a second.
        options: How long windows should be, and how many.
    """
    full_s = max(options.window_s, _LEAST / rate)
    short_s = min(full_s, _TO_COMPARE / rate)
    return max(short_s, min(full_s, _MOST / rate / options.num_runs)), short_s
