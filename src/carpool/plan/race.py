"""Telling which setups are better, without choosing on noise.

Every setup is simulated in the same windows (common random numbers), so two of them differ by what they do and not by
their luck: what is compared is the difference in each window, with a confidence interval over the windows. Who is
surely worse than the best drops out; the others are given more windows.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import inf, log1p, log2, sqrt
from typing import TYPE_CHECKING

import numpy as np

from carpool.cost.student import student_t
from carpool.plan.figures import Figures
from carpool.plan.setup import Setup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from carpool.signals.objective import Objective

    Floats = NDArray[np.float64]

CONFIDENCE = 0.90
# Windows after which those that are surely worse drop out.
ROUNDS = (4, 8, 16)
# What is less than this is not worth another knob: of all requests, and of the latency.
SMALL_SHARE, SMALL_LATENCY = 0.005, 0.03
ENDLESS_S = 1e6  # stands for the latency of a window in which nothing was answered


@dataclass(slots=True, eq=False)
class Contender:
    """A setup, and its figures in the first windows, one after another."""

    setup: Setup
    figures: list[Figures] = field(default_factory=list)

    def attainments(self, num: int) -> Floats:
        """Share of what arrives that is answered within every objective, in each of the first windows."""
        return np.array([one.attainment for one in self.figures[:num]])

    def log_strains(self, num: int, objectives: Sequence[Objective]) -> Floats:
        """Logarithm of how far the latency is stretched, in each of the first windows."""
        return np.log([strain(one, objectives) for one in self.figures[:num]])


def strain(figures: Figures, objectives: Sequence[Objective]) -> float:
    """Return the latency over what is promised, for the objective nearest to its limit; the mean where none is."""
    if not objectives:
        return min(figures.mean_s, ENDLESS_S)
    ratios = [at_s / one.latency_s for at_s, one in zip(figures.at_objectives_s, objectives, strict=True)]
    return min(max(ratios), ENDLESS_S)


class Race:
    """Simulates contenders until they can be told apart, or as long as it is worth while.

    Args:
        simulate: Gives a setup's figures in the window of a number, the same window for every setup.
        objectives: What latencies are held against.
        knee: Among batch sizes that can't be told apart, the nearest to this one is taken.
    """

    def __init__(
        self, simulate: Callable[[Setup, int], Figures], objectives: Sequence[Objective] = (), *, knee: int = 1
    ) -> None:
        self._simulate = simulate
        self._objectives = objectives
        self._knee = knee
        self.contenders: list[Contender] = []
        self._in_race: list[Contender] = []
        self._twins: list[tuple[Contender, Contender]] = []  # whoever does the very same as one in the race
        self._leader: Contender | None = None

    def enter(self, setups: Iterable[Setup]) -> None:
        """Let setups join; one that has joined before is not simulated again."""
        for setup in setups:
            if all(setup != one.setup for one in self.contenders):
                contender = Contender(setup)
                self.contenders.append(contender)
                self._in_race.append(contender)

    def run(self) -> None:
        """Simulate round after round; who is surely worse than the leader drops out, who surely is as good may rest."""
        settled: set[int] = set()
        for num in ROUNDS:
            for contender in self._in_race:
                if id(contender) not in settled:
                    self._simulate_up_to(contender, num)
            self._set_twins_aside(num)
            self._leader = leader = self._best([one for one in self._in_race if len(one.figures) >= num], num)
            self._in_race = [one for one in self._in_race if self.compare(one, leader) >= 0]
            settled = {id(one) for one in self._in_race if one is not leader and self._is_settled(one, leader)}
            if len(settled) == len(self._in_race) - 1:
                return

    def _simulate_up_to(self, contender: Contender, num: int) -> None:
        contender.figures += [self._simulate(contender.setup, number) for number in range(len(contender.figures), num)]

    def _set_twins_aside(self, num: int) -> None:
        """Take out who did exactly what a simpler one did in every window: a batch size that is never reached."""
        first: dict[tuple[Figures, ...], Contender] = {}
        for one in sorted(self._in_race, key=lambda one: complexity(one.setup, self._knee)):
            twin = first.setdefault(tuple(replace(figures, fill_ratio=0.0) for figures in one.figures[:num]), one)
            if twin is not one:
                self._twins.append((one, twin))
                self._in_race.remove(one)

    def _best(self, contenders: Sequence[Contender], num: int) -> Contender:
        """Return the best in the first windows: most within the objectives, then the least latency."""
        most = max(float(one.attainments(num).mean()) for one in contenders)
        good = [one for one in contenders if one.attainments(num).mean() >= most - SMALL_SHARE]
        return min(good, key=lambda one: float(one.log_strains(num, self._objectives).mean()))

    @property
    def leader(self) -> Contender:
        """The best of those that are in the race."""
        assert self._leader is not None, "a race that was not run has no leader"
        return self._leader

    @property
    def ties(self) -> list[Contender]:
        """Those that are not surely worse than the leader, the simplest first."""
        level = [one for one in self._in_race if self.compare(one, self.leader) >= 0]
        twins = [one for one, twin in self._twins if twin in level]
        return sorted([*level, *twins], key=lambda one: complexity(one.setup, self._knee))

    def _is_settled(self, one: Contender, leader: Contender) -> bool:
        """Tell whether one surely is as good as the leader: more windows would not part them."""
        num = min(len(one.figures), len(leader.figures))
        shares = one.attainments(num) - leader.attainments(num)
        strains = one.log_strains(num, self._objectives) - leader.log_strains(num, self._objectives)
        return is_surely_small(shares, SMALL_SHARE) and is_surely_small(strains, log1p(SMALL_LATENCY))

    def compare(self, one: Contender, other: Contender) -> int:
        """Return 1 where `one` is surely better by more than is small, -1 where it is surely worse, else 0."""
        num = min(len(one.figures), len(other.figures))
        strains = other.log_strains(num, self._objectives) - one.log_strains(num, self._objectives)
        return better(one.attainments(num) - other.attainments(num), strains)


def complexity(setup: Setup, knee: int = 1) -> tuple[float, ...]:
    """Return a key by which setups are ordered from the simplest: workers, knobs that are turned, size of batches.

    No batching is simplest. Of several batch sizes none is simpler than another: a larger one costs nothing while it is
    not reached, and carries a surge of load, up to the knee; beyond, it only makes others wait.
    """
    policy = setup.policy
    return (
        setup.num_workers,
        policy.max_wait_s > 0,
        policy.token_budget is not None,
        bool(policy.length_buckets),
        policy.max_batch_size > 1,
        abs(log2(policy.max_batch_size / knee)),
        policy.max_wait_s,
        policy.token_budget or 0,
        len(policy.length_buckets),
    )


def better(shares: Sequence[float] | Floats, log_strains: Sequence[float] | Floats) -> int:
    """Return 1 where a setup is surely better than another by more than is small, -1 where it is surely worse, else 0.

    Args:
        shares: By how much more of what arrives it answers within every objective, in each window.
        log_strains: By how much less it stretches the latency, as a logarithm, in each window: where shares don't tell.
    """
    return surely(shares, SMALL_SHARE) or surely(log_strains, log1p(SMALL_LATENCY))


def surely(differences: Sequence[float] | Floats, margin: float = 0.0) -> int:
    """Return 1 where the mean difference surely exceeds a margin, -1 where it surely is below minus it, else 0.

    Args:
        differences: Of two setups, in each of the windows that both met.
        margin: What is too small to matter.

    >>> surely([0.9, 1.0, 1.1, 1.0]), surely([0.9, 1.0, 1.1, 1.0], margin=1.0), surely([-3.0, 1.0, 1.0, 2.0])
    (1, 0, 0)
    """
    values = np.asarray(differences, dtype=np.float64)
    mean, half = float(values.mean()), half_width(values)
    return int(mean - half > margin) - int(mean + half < -margin)


def is_surely_small(differences: Floats, margin: float) -> bool:
    """Tell whether the mean difference surely lies within a margin."""
    return abs(float(differences.mean())) + half_width(differences) <= margin


def half_width(values: Floats) -> float:
    """Return half of the confidence interval of a mean; infinite for one value."""
    if len(values) < 2:  # noqa: PLR2004 - a spread needs two
        return inf
    standard_error = float(values.std(ddof=1)) / sqrt(len(values))
    return student_t(1 - (1 - CONFIDENCE) / 2, len(values) - 1) * standard_error
