"""The cheapest setup of a model that generates which keeps the objectives: slots, token budget, memory, workers.

Every setup is simulated in the same windows, so two of them differ by what they do and not by their luck; what can't be
told apart goes to the one that stands nearest to the knee.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import log, log2
from typing import TYPE_CHECKING

import numpy as np

from carpool.core.step_policy import StepPolicy
from carpool.cost.step_cost import decode_work
from carpool.errors import ConfigError
from carpool.plan.llm_figures import LlmFigures
from carpool.plan.llm_predict import LlmPrediction, LlmScene
from carpool.plan.llm_setup import LlmSetup
from carpool.plan.predict import chances
from carpool.plan.race import ENDLESS_S, SMALL_SHARE, better
from carpool.plan.slo import Verdict, verdict_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from carpool.plan.llm_predict import LlmSubject

_NUM_WINDOWS = 5
_MOST_SLOTS, _LEAST_BUDGET, _MOST_BUDGET = 256, 64, 2048
_MOST_HALVINGS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmTried:
    """One way to serve the load, as far as the search looked at it.

    Args:
        setup: The policy, the memory and the workers.
        prediction: What it would do in a few short windows, the same for everything that was tried.
        verdict: Whether every objective is kept.
    """

    setup: LlmSetup
    prediction: LlmPrediction
    verdict: Verdict


@dataclass(slots=True, eq=False)
class _Contender:
    setup: LlmSetup
    figures: list[LlmFigures]


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmFound:
    """What a search found.

    Args:
        chosen: What to serve with.
        tried: Everything that was simulated, the chosen first, then the best.
        enough_blocks: The fewest blocks, by halves, that do as well.
    """

    chosen: LlmSetup
    tried: tuple[LlmTried, ...]
    enough_blocks: int


def search_llm(
    scene: LlmScene,
    *,
    num_blocks: int,
    max_workers: int = 1,
    most_slots: int | None = None,
    watch: Callable[[str], object] = lambda _: None,
) -> LlmFound:
    """Find the setup with the most requests within the objectives, then the least time; fewer workers first.

    Args:
        scene: Short windows, to compare setups in.
        num_blocks: Blocks of a worker.
        max_workers: Most workers.
        most_slots: Most sequences at a time; None for as many as were measured.
        watch: Told what is being looked at.
    """
    search = _Search(scene, num_blocks, most_slots, watch)
    best = search.best_with(1)
    for num_workers in range(2, max_workers + 1):
        if verdict_of(scene.together(best.figures)) is Verdict.MET:
            break
        best = search.best_with(num_workers)
    return search.found(best)


def sizes_of(subject: LlmSubject, most_slots: int | None) -> tuple[list[int], list[int]]:
    """Return the numbers of slots, and the token budgets, that may be tried: doublings within what was measured.

    Args:
        subject: The measured model.
        most_slots: Most sequences at a time.

    Raises:
        ConfigError: So many were not measured.
    """
    measured = subject.cost.most
    if most_slots is not None and most_slots > measured.num_sequences:
        raise ConfigError(
            f"{most_slots} sequences at a time were not measured, only up to {measured.num_sequences}: profile again "
            f"with --batch-sizes up to {most_slots}"
        )
    limit = min(measured.num_sequences, _MOST_SLOTS, most_slots or _MOST_SLOTS)
    slots = [1 << power for power in range(2, limit.bit_length()) if 1 << power <= limit] or [limit]
    most = min(measured.num_tokens, _MOST_BUDGET)
    powers = range(_LEAST_BUDGET.bit_length() - 1, most.bit_length())
    budgets = [1 << power for power in powers if 1 << power <= most] or [most]
    return slots, budgets


class _Search:
    """Enters contenders one after another, each simulated once."""

    def __init__(
        self, scene: LlmScene, num_blocks: int, most_slots: int | None, watch: Callable[[str], object]
    ) -> None:
        self.scene = scene
        self.num_blocks = num_blocks
        self.watch = watch
        self.slots, self.budgets = sizes_of(scene.subject, most_slots)
        self.contenders: list[_Contender] = []

    def best_with(self, num_workers: int) -> _Contender:
        """Vary slots first, then the token budget of the best, then slots again where another budget is better."""
        budget = self.budgets[-1]
        best = self._best(self._setup(slots, budget, num_workers) for slots in self.slots)
        again = self._best(
            self._setup(best.setup.policy.num_slots, budget, num_workers)
            for budget in self.budgets
            if budget >= best.setup.policy.num_slots
        )
        if again.setup.policy.token_budget == budget:
            return again
        chosen = again.setup.policy.token_budget
        return self._best(self._setup(slots, chosen, num_workers) for slots in self.slots if slots <= chosen)

    def _setup(self, num_slots: int, token_budget: int, num_workers: int) -> LlmSetup:
        policy = StepPolicy(
            num_slots=num_slots,
            token_budget=max(token_budget, num_slots),
            block_size=self.scene.subject.memory.block_size,
        )
        subject = self.scene.subject
        # A server keeps no more than its slots could ever hold.
        most = -(-num_slots * subject.max_length // subject.memory.block_size)
        return LlmSetup(policy=policy, num_blocks=min(self.num_blocks, most), num_workers=num_workers)

    def _best(self, setups: Iterable[LlmSetup]) -> _Contender:
        """Return the best, or of those that can't be told from it the one nearest to the knee."""
        entered = [self._enter(setup) for setup in setups]
        leader = min(entered, key=self._rank)
        return min((one for one in entered if self._compare(one, leader) >= 0), key=self._distance)

    def _enter(self, setup: LlmSetup) -> _Contender:
        known = next((one for one in self.contenders if one.setup == setup), None)
        if known is None:
            self.watch(setup.describe())
            known = _Contender(setup, [self.scene.figures(setup, number) for number in range(_NUM_WINDOWS)])
            self.contenders.append(known)
        return known

    def _rank(self, one: _Contender) -> tuple[float, float]:
        """Order by the share within the objectives, in steps too small to matter, then by how far times are off."""
        share = float(np.mean([figures.attainment for figures in one.figures]))
        return -round(share / SMALL_SHARE), float(np.mean(self._log_strains(one)))

    def _log_strains(self, one: _Contender) -> list[float]:
        return [log(self._strain(figures)) for figures in one.figures]

    def _strain(self, figures: LlmFigures) -> float:
        """Return the time over what is promised, for the objective nearest to its limit; without any the latency."""
        objectives = self.scene.objectives
        if not objectives:
            return min(figures.latency_p50_s, ENDLESS_S)
        ratios = [at / one.limit_s for at, one in zip(figures.at_objectives_s, objectives, strict=True)]
        return max(1e-9, min(max(ratios), ENDLESS_S))

    def _compare(self, one: _Contender, other: _Contender) -> int:
        """Return 1 where `one` is surely better by more than is small, -1 where it is surely worse, else 0."""
        shares = [a.attainment - b.attainment for a, b in zip(one.figures, other.figures, strict=True)]
        strains = [b - a for a, b in zip(self._log_strains(one), self._log_strains(other), strict=True)]
        return better(shares, strains)

    def _distance(self, one: _Contender) -> tuple[float, float]:
        """Return how far slots are from the knee, and the token budget from the largest."""
        policy, cost = one.setup.policy, self.scene.subject.cost
        knee = cost.knee(max(1, cost.most.kv_read // max(1, cost.most.num_sequences) // 4))
        return abs(log2(policy.num_slots / knee)), abs(log2(policy.token_budget / self.budgets[-1]))

    def found(self, best: _Contender) -> LlmFound:
        """Say what was found, and how much memory would do as well."""
        enough = self._enough_blocks(best)
        others = sorted((one for one in self.contenders if one is not best), key=self._rank)
        tried = [
            LlmTried(setup=one.setup, prediction=prediction, verdict=verdict_of(prediction))
            for one in (best, *others)
            if (prediction := self.scene.together(one.figures)).is_finite
        ]
        return LlmFound(chosen=best.setup, tried=tuple(tried), enough_blocks=enough)

    def _enough_blocks(self, best: _Contender) -> int:
        """Halve the memory for as long as nothing becomes surely worse."""
        enough = best.setup.num_blocks
        for _ in range(_MOST_HALVINGS):
            fewer = enough // 2
            if fewer < 1:
                break
            one = self._enter(replace(best.setup, num_blocks=fewer))
            self.contenders.remove(one)
            if self._compare(one, best) < 0 or any(figures.refused > 0 for figures in one.figures):
                break
            enough = fewer
        return enough


def capacity(subject: LlmSubject, setup: LlmSetup, prompt: float, output: float) -> float:
    """Return about how many requests a second a setup can carry, of so many tokens each.

    Every slot is taken to be busy with a request in the middle of its answer, as far as memory holds so many.

    Args:
        subject: The measured model.
        setup: How it is served.
        prompt: Tokens of a prompt, on average.
        output: Tokens of an answer, on average.
    """
    cost, block = subject.cost, setup.policy.block_size
    held = setup.num_blocks * block / max(1.0, prompt + output)
    together = max(1, min(setup.policy.num_slots, int(held)))
    token_s = cost.line_s(decode_work(together, round(prompt + output / 2))) / together
    prompt_s = cost.token_s * prompt + cost.pair_s * prompt * prompt / 2
    return setup.num_workers / (output * token_s + prompt_s)


def means_of(scene: LlmScene) -> tuple[float, float]:
    """Return the mean tokens of a prompt and of an answer, of what arrives in a window."""
    stream = scene.load.draw(np.random.default_rng(scene.seed), scene.window_s)
    if not len(stream):
        raise ConfigError(
            f"nothing arrives in a window of {scene.window_s:g} s: give a higher --rate or a longer --window"
        )
    return float(stream.prompt_lengths.mean()), float(stream.output_lengths.mean())


def time_to_fill(scene: LlmScene) -> float:
    """Return about how long a request takes where as many run as were measured: what it takes to fill a server."""
    prompt, output = means_of(scene)
    cost, context = scene.subject.cost, round(prompt + output / 2)
    return output * cost.line_s(decode_work(cost.most_sequences(context), context))


def longest_prompt(scene: LlmScene, num_windows: int) -> int:
    """Return the longest prompt of so many windows."""
    found = 1
    for number in range(num_windows):
        arrivals, _ = chances(scene.seed, number)
        found = max(found, int(scene.load.draw(arrivals, scene.warm_s + scene.window_s).prompt_lengths.max(initial=1)))
    return found
