"""A plan: the policy to serve with, what it will do under the load that it is for, and what could be done instead."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from carpool.config.document import Migrations
from carpool.errors import ConfigError
from carpool.plan.binding import Belongs, Binding, what_binds, whether_batching_belongs
from carpool.plan.candidates import Candidates
from carpool.plan.frontier import frontier
from carpool.plan.gaps import gaps
from carpool.plan.memory_trade import MemoryTrade, memory_trade
from carpool.plan.nearest import Nearest, nearest
from carpool.plan.predict import Prediction
from carpool.plan.scene import Scene
from carpool.plan.search import FrontierPoint, Search, SearchResult, Tried
from carpool.plan.sentences import Story, doubts_about, sentences_about
from carpool.plan.setup import Setup, require_at_least
from carpool.plan.slo import Gap, Verdict
from carpool.plan.theory import Theory, theory_of
from carpool.plan.what_if import WhatIfRow, row_of, what_if
from carpool.plan.workload import Constant, Gamma, OnOff, Poisson, Workload
from carpool.signals.objective import Objective
from carpool.units import format_count, format_duration

if TYPE_CHECKING:
    from carpool.plan.subject import Subject

# Items in a window that setups are compared in: of arrivals without memory, and of others.
_ITEMS_TO_COMPARE, _ITEMS_OF_BURSTS = 2_000, 10_000
_CYCLES_TO_COMPARE = 10
# A prediction rests on so many items in a window at least, and on so many in all windows at most.
_LEAST_ITEMS, _MOST_ITEMS = 100, 200_000
_MOST_ITEMS_IN_A_ROW = 80_000  # of the table of what else could be done
_LEAST_RUNS = 5
_NUM_LENGTHS = 5_000


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

    Raises:
        ConfigError: A value is outside its range.
    """

    max_workers: int = 1
    max_batch_size: int | None = None
    memory_limit_bytes: int | None = None
    price_per_hour: float | None = None
    window_s: float = 60.0
    num_runs: int = 20
    seed: int = 0
    transport_s: float = 0.0

    def __post_init__(self) -> None:
        require_at_least(1, self, "max_workers", "max_batch_size", "memory_limit_bytes", "num_runs")
        require_at_least(0, self, "seed")
        for name, least in (("price_per_hour", "at least 0"), ("transport_s", "at least 0"), ("window_s", "above 0")):
            value = getattr(self, name)
            if value is not None and (not isfinite(value) or value < 0 or (least == "above 0" and not value)):
                raise ConfigError(f"{name} is {value}; it must be {least} and finite")


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
        verdict: Whether every objective is kept; without one, whether the load is carried.
        gaps: How far each objective is from being met.
        nearest: Where no setup keeps the objectives: what can be kept, and what would have to change.
        tried: What was compared, the chosen first, then the best; figures are of short windows.
        frontier: Latency against throughput of a few setups, as the load rises.
        binding: What limits it now, the tightest first.
        belongs: Whether batching belongs here at all.
        what_if: The same load served in other ways.
        memory_trade: Batch size against model size; None where memory was not measured.
        theory: What queueing theory says of it, or why it says nothing.
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
    theory: Theory
    sentences: tuple[str, ...]
    doubts: tuple[str, ...]


def make_plan(
    subject: Subject,
    workload: Workload,
    objectives: Sequence[Objective] = (),
    options: PlanOptions | None = None,
    *,
    watch: Callable[[str], object] = lambda _: None,
) -> Plan:
    """Choose how to serve a load, and say what that will do and what else could be done.

    Args:
        subject: The measured model.
        workload: What arrives; lengths beyond the model's are cut, and a doubt says so.
        objectives: Latencies that are promised, ascending by percentile.
        options: What the plan may use.
        watch: Told what is being looked at.

    Raises:
        ConfigError: Nothing can be served: memory holds no item, or no item is answered before its deadline.
    """
    options = options or PlanOptions()
    seen, clipped = workload.clipped(subject.max_length)
    full_s, short_s, num_runs = windows(seen, options)
    scene = Scene(
        subject=subject,
        load=seen,
        objectives=tuple(objectives),
        window_s=short_s,
        seed=options.seed,
        transport_s=options.transport_s,
    )
    candidates = _candidates(scene, seen, options)
    result = Search(
        scene=scene,
        full=replace(scene, window_s=full_s),
        candidates=candidates,
        max_workers=options.max_workers,
        num_runs=num_runs,
        watch=watch,
    ).run()
    _check_answered(result.prediction, seen, candidates)
    found = _Told(
        scene=scene, candidates=candidates, result=result, options=options, workload=seen, watch=watch, clipped=clipped
    )
    return found.plan()


def windows(workload: Workload, options: PlanOptions, *, most_items: int = _MOST_ITEMS) -> tuple[float, float, int]:
    """Return the seconds of a full window, those of a short one to compare setups in, and how many full ones.

    Full windows hold enough items to speak of, and no more than can be simulated in a short time: they are made
    shorter for that, which makes intervals wider; of arrivals with bursts or a course there are fewer of them first.

    Args:
        workload: What arrives.
        options: How long windows should be, and how many.
        most_items: Most items in all full windows together, about.
    """
    rate, num_runs = workload.rate, options.num_runs
    full_s = max(options.window_s, _LEAST_ITEMS / rate)
    has_memory = not isinstance(workload.arrivals, Poisson | Gamma | Constant)
    short_s = (_ITEMS_OF_BURSTS if has_memory else _ITEMS_TO_COMPARE) / rate
    if isinstance(workload.arrivals, OnOff):
        short_s = max(short_s, _CYCLES_TO_COMPARE * (workload.arrivals.on_s + workload.arrivals.off_s))
    short_s = min(full_s, short_s)
    most_s = most_items / rate  # of all full windows together
    if has_memory and num_runs * full_s > most_s:
        num_runs = max(min(_LEAST_RUNS, num_runs), int(most_s / full_s))
    return max(min(full_s, most_s / num_runs), short_s), short_s, num_runs


def _candidates(scene: Scene, workload: Workload, options: PlanOptions) -> Candidates:
    drawn = workload.draw(np.random.default_rng(options.seed), scene.window_s).lengths[:_NUM_LENGTHS]
    longest = max(workload.replayed or workload.lengths)  # a limit has to hold for it too, however seldom it comes
    return Candidates(
        subject=scene.subject,
        lengths=sorted([*drawn.tolist(), longest]),
        max_batch_size=options.max_batch_size,
        memory_limit_bytes=options.memory_limit_bytes,
        objectives=scene.objectives,
    )


def _check_answered(prediction: Prediction, workload: Workload, candidates: Candidates) -> None:
    """Refuse a plan that would answer nothing: there is nothing to be said about its latency."""
    if isfinite(prediction.mean_s.high):
        return
    single_s = candidates.subject.cost.clipped().time_s(1, candidates.typical)
    limits = {"deadline": workload.deadline_s, "patience": workload.patience_s}
    given = " and ".join(f"a {name} of {format_duration(at)}" for name, at in limits.items() if at is not None)
    raise ConfigError(
        f"of {format_count(workload.rate)} items/s hardly any would be answered with {given or 'such a load'}: an item "
        f"alone takes {format_duration(single_s)}; allow more time, or measure a faster model or device"
    )


def _unbatched(result: SearchResult, rows: Sequence[WhatIfRow]) -> tuple[Prediction, Prediction] | None:
    """Return the plan and no batching as the table has them; None where single items can't carry the load."""
    now = row_of(rows, result.chosen)
    single = next((row.prediction for row in rows if row.setup.policy.max_batch_size == 1), None)
    if result.unbatched is None or now is None or single is None or not single.stable:
        return None
    return now, single


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """Puts a plan together from what a search found."""

    scene: Scene
    candidates: Candidates
    result: SearchResult
    options: PlanOptions
    workload: Workload
    watch: Callable[[str], object]
    clipped: str

    def plan(self) -> Plan:
        scene, options, rows = self.scene, self.options, self._what_if()
        result = replace(self.result, unbatched=_unbatched(self.result, rows))
        held = gaps(result.prediction, result.tried)
        story = Story(
            rate=self.workload.rate,
            result=result,
            candidates=self.candidates,
            gaps=held,
            nearest=self._nearest(),
            binding=what_binds(result, self.candidates, held),
            belongs=whether_batching_belongs(result, self.candidates, self.workload.rate),
            what_if=rows,
            price_per_hour=options.price_per_hour,
        )
        sample = scene.run(result.chosen, 0)
        theory = theory_of(result.chosen, self.workload, scene.subject)
        exact = theory.sentence(result.prediction, transport_s=options.transport_s)
        return Plan(
            target=scene.subject.target,
            name=scene.subject.name,
            workload=self.workload.describe(),
            rate=self.workload.rate,
            objectives=scene.objectives,
            options=options,
            chosen=result.chosen,
            prediction=result.prediction,
            verdict=result.verdict,
            gaps=held,
            nearest=story.nearest,
            tried=result.tried,
            frontier=self._frontier(rows),
            binding=tuple(story.binding),
            belongs=story.belongs,
            what_if=tuple(story.what_if),
            memory_trade=memory_trade(
                scene.subject, self.candidates.lengths, memory_limit_bytes=options.memory_limit_bytes
            ),
            theory=theory,
            sentences=(*sentences_about(story), *([exact] if exact else [])),
            doubts=(*doubts_about(self.candidates, result, sample, self.clipped), *self._shortened()),
        )

    def _frontier(self, rows: Sequence[WhatIfRow]) -> tuple[FrontierPoint, ...]:
        """Let curves pass through what is predicted at the planned load, of the plan or in a row of the table."""

        def known(setup: Setup) -> Prediction | None:
            return self.result.prediction if setup == self.result.chosen else row_of(rows, setup)

        return frontier(self.scene, self.candidates, self.result.chosen, known=known, watch=self.watch)

    def _nearest(self) -> Nearest | None:
        if self.result.verdict is not Verdict.MISSED:
            return None
        return nearest(self.scene, self.candidates, self.result, max_workers=self.options.max_workers, watch=self.watch)

    def _what_if(self) -> tuple[WhatIfRow, ...]:
        window_s, _, num_runs = windows(self.workload, self.options, most_items=_MOST_ITEMS_IN_A_ROW)
        return what_if(
            self.scene.subject,
            self.workload,
            self.result.chosen,
            self.result.prediction,
            objectives=self.scene.objectives,
            memory_limit_bytes=self.options.memory_limit_bytes,
            price_per_hour=self.options.price_per_hour,
            window_s=window_s,
            num_runs=num_runs,
            seed=self.options.seed,
            transport_s=self.options.transport_s,
            watch=self.watch,
        )

    def _shortened(self) -> Sequence[str]:
        """Say where windows are not what was asked for."""
        found, options = self.result.prediction, self.options
        if found.window_s == options.window_s and found.num_runs == options.num_runs:
            return ()
        return (
            (
                f"{found.num_runs} windows of {format_duration(found.window_s)} were simulated instead of "
                f"{options.num_runs} of {format_duration(options.window_s)}, to hold neither too few nor too many of "
                f"{format_count(self.workload.rate)} items/s."
            ),
        )
