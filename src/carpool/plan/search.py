"""The cheapest setup that keeps the objectives, found without choosing on noise.

Fewer workers are cheaper, so they are tried first. Among setups with as many workers the one with most requests within
the objectives wins, then the one with the least latency; what can't be told apart goes to the simpler, and of batch
sizes to the one nearest the knee. First batches differ in size alone; then the best of them get one knob more, and at
last the knobs that helped are put together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import isfinite
from typing import TYPE_CHECKING

import numpy as np

from carpool.plan.candidates import Candidates
from carpool.plan.predict import Prediction
from carpool.plan.race import ROUNDS, SMALL_SHARE, Contender, Race, half_width, strain, surely
from carpool.plan.scene import Scene
from carpool.plan.setup import Setup
from carpool.plan.slo import Verdict, verdict_of
from carpool.plan.words import describe_setup
from carpool.units import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carpool.signals.objective import Objective

# A load this much beyond what full batches can carry is not simulated: nothing can keep up with it.
_HOPELESS = 1.1
# A latency so many times over its objective is not brought within it by another knob.
_BEYOND_RESCUE = 2.0
# A worker more should bring the latency down by this much, where it does not bring more requests within the objective.
_WORTH_A_WORKER = 0.25
_KNOBS = ("max_wait_s", "token_budget", "length_buckets")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """One way to serve the load, as far as the search looked at it.

    Args:
        setup: The policy and the workers.
        prediction: What it would do in a few short windows, the same for everything that was tried.
        verdict: Whether every objective is kept.
        tie: Whether it is as good as the best with as many workers, as far as the windows can tell.
    """

    setup: Setup
    prediction: Prediction
    verdict: Verdict
    tie: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontierPoint:
    """A setup under one load.

    Args:
        label: What the setup is called in a legend.
        setup: The policy and the workers.
        rate: Items a second that arrive.
        prediction: What it would do.
    """

    label: str
    setup: Setup
    rate: float
    prediction: Prediction


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """What a search found.

    Args:
        chosen: What to serve with.
        prediction: What it will do, in windows of full length.
        verdict: Whether every objective is kept.
        fastest: The setup with the least latency that was tried with as many workers.
        unbatched: The chosen setup beside no batching on as many workers, both in the same windows; None where that
            can't carry the load.
        tried: Everything that was simulated, the chosen first, then the best.
    """

    chosen: Setup
    prediction: Prediction
    verdict: Verdict
    fastest: Setup
    unbatched: tuple[Prediction, Prediction] | None
    tried: tuple[Tried, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """The best with so many workers, predicted in full."""

    race: Race
    contender: Contender
    prediction: Prediction
    verdict: Verdict


def _silent(_: str) -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """Finds the cheapest setup that keeps the objectives, or the one with the best goodput where none does.

    Args:
        scene: Short windows, to compare setups in.
        full: Windows of full length, to predict in what was found.
        candidates: What may be tried.
        max_workers: Most workers.
        num_runs: Windows behind the final prediction.
        watch: Told what is being looked at.
    """

    scene: Scene
    full: Scene
    candidates: Candidates
    max_workers: int = 1
    num_runs: int = 20
    watch: Callable[[str], object] = _silent

    def run(self) -> SearchResult:
        """Try fewer workers first, and stop at the first setup that keeps the objectives for sure."""
        races: list[Race] = []
        found: list[_Found] = []
        for num_workers in self._worker_counts():
            races.append(self._race(num_workers))
            if not _is_hopeful(races[-1].leader, self.scene.objectives):
                continue
            found.append(self._predicted(races[-1]))
            if found[-1].verdict is Verdict.MET:
                return _result(self.scene, races, found[-1])
        best = max(found, key=lambda one: one.verdict.rank, default=None)
        if best is None or best.verdict is Verdict.MISSED:
            best = self._predicted(_best_goodput(races, self.scene.objectives))
        return _result(self.scene, races, best)

    def _worker_counts(self) -> Sequence[int]:
        """Return the numbers of workers that can carry the load, ascending; the most allowed where none can."""
        largest = self.candidates.plain(1)[-1]
        counts = range(1, self.max_workers + 1)
        return [num for num in counts if self._can_carry(replace(largest, num_workers=num))] or [self.max_workers]

    def _can_carry(self, setup: Setup) -> bool:
        return self.scene.load.rate <= _HOPELESS * self.candidates.capacity(setup)

    def _race(self, num_workers: int) -> Race:
        """Compare setups with so many workers."""
        plain = self.candidates.plain(num_workers)
        race = Race(self.scene.figures, self.scene.objectives, knee=self.candidates.knee)
        race.enter([one for one in plain if self._can_carry(one)] or plain[-1:])
        self.watch(f"batch sizes on {counted(num_workers, 'worker')}")
        race.run()
        if _within_reach(race, self.scene):
            self.watch(f"waits, token budgets and padding on {counted(num_workers, 'worker')}")
            self._turn_knobs(race)
        return race

    def _turn_knobs(self, race: Race) -> None:
        """Turn one knob after another of the best setup and of the simplest that ties with it, while that helps."""
        for _ in _KNOBS:
            leader = race.leader
            for base in {id(one): one for one in (leader, race.ties[0])}.values():
                race.enter(self.candidates.variants(base.setup))
            race.run()
            if race.leader is leader:
                return

    def _predicted(self, race: Race) -> _Found:
        """Predict the simplest of the best in full; where it does not keep the objectives, the fastest too."""
        best: _Found | None = None
        for contender in {id(one): one for one in (race.ties[0], race.leader)}.values():
            self.watch(describe_setup(contender.setup))
            prediction = self.full.predict(contender.setup, self.num_runs)
            found = _Found(race=race, contender=contender, prediction=prediction, verdict=verdict_of(prediction))
            if found.verdict is Verdict.MET:
                return found
            best = found if best is None or found.verdict.rank > best.verdict.rank else best
        assert best is not None
        return best


def _within_reach(race: Race, scene: Scene) -> bool:
    """Tell whether some setup is near enough to the objectives for another knob to matter."""
    if not scene.objectives:
        return True
    return bool(np.median([strain(one, scene.objectives) for one in race.leader.figures]) < _BEYOND_RESCUE)


def _is_hopeful(contender: Contender, objectives: Sequence[Objective]) -> bool:
    """Tell whether short windows leave it open that every objective is kept."""
    for index, objective in enumerate(objectives):
        shares = np.array([one.shares_within[index] for one in contender.figures])
        if shares.mean() + half_width(shares) < objective.quantile:
            return False
    return True


def _best_goodput(races: Sequence[Race], objectives: Sequence[Objective]) -> Race:
    """Return the race with the best leader; where more workers do not surely help, the one with fewer."""
    best, *others = races
    for other in others:
        if _worth_more_workers(other.leader, best.leader, objectives):
            best = other
    return best


def _worth_more_workers(one: Contender, other: Contender, objectives: Sequence[Objective]) -> bool:
    num = min(len(one.figures), len(other.figures))
    by_share = surely(one.attainments(num) - other.attainments(num), SMALL_SHARE)
    strains = other.log_strains(num, objectives) - one.log_strains(num, objectives)
    return by_share > 0 or (by_share == 0 and surely(strains, _WORTH_A_WORKER) > 0)


def _result(scene: Scene, races: Sequence[Race], best: _Found) -> SearchResult:
    ties = best.race.ties
    others = [one for race in races for one in race.contenders if one is not best.contender]
    others.sort(key=lambda one: (one not in ties, _rank(one, scene.objectives)))
    tried = [_tried(scene, one, tie=one in ties) for one in [best.contender, *others]]
    tried[0] = replace(tried[0], verdict=best.verdict)
    return SearchResult(
        chosen=best.contender.setup,
        prediction=best.prediction,
        verdict=best.verdict,
        fastest=best.race.leader.setup,
        unbatched=_beside_unbatched(scene, best),
        tried=tuple(one for one in tried if _is_finite(one.prediction)),
    )


def _beside_unbatched(scene: Scene, best: _Found) -> tuple[Prediction, Prediction] | None:
    single = next((one for one in best.race.contenders if one.setup.policy.max_batch_size == 1), None)
    if single is None:
        return None
    num = min(len(single.figures), len(best.contender.figures))
    return scene.together(best.contender.figures[:num]), scene.together(single.figures[:num])


def _rank(contender: Contender, objectives: Sequence[Objective]) -> tuple[float, float]:
    num = len(contender.figures)
    return -float(contender.attainments(num).mean()), float(contender.log_strains(num, objectives).mean())


def _tried(scene: Scene, contender: Contender, *, tie: bool) -> Tried:
    prediction = scene.together(contender.figures[: ROUNDS[0]])
    return Tried(setup=contender.setup, prediction=prediction, verdict=verdict_of(prediction), tie=tie)


def _is_finite(prediction: Prediction) -> bool:
    """Tell whether something was answered in every window: a latency without end can't be written down."""
    return all(isfinite(one.high) for one in (prediction.mean_s, prediction.compute_s, prediction.queue_delay_s))
