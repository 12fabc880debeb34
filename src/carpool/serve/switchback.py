"""Whether a policy on trial makes things worse: the decision alone, without a clock, a thread or a model.

The policy on trial takes turns with the one in force: a slice of time each, in pairs whose order is drawn by lot.
Batches hold the requests of many clients, so that two policies can't run side by side without each changing what the
other sees; slices of time keep them apart, and whatever else changes with time (a burst, a slow disk) meets both alike.
What a slice inherits from the one before is left out of the comparison.

Of each pair only one thing is kept: in which of the two slices a measure was worse. If the policies do as well as each
other, the lot makes that a fair coin. A bettor who puts a share of his money on "the new one is worse" in every pair
multiplies it by 1 + share or by 1 - share. Against a fair coin he ever has k times what he began with in at most one
trial of k, however long he plays, so that the evidence may be looked at after every pair. Where he has 20 times as much
the policy is held to be worse. Shares from 0.1 to 0.9 are played side by side, and what they hold is averaged.

Source: Shafer and Vovk, "Game-Theoretic Foundations for Probability and Finance", 2019, chapter 2 (Ville's inequality);
Bojinov, Simchi-Levi and Zhao, "Design and Analysis of Switchback Experiments", Management Science 69(7), 2023.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import TypeAlias

import numpy as np

ALPHA = 0.05
"""How often a policy that is no worse is taken for worse, at most."""
TOLERANCE = 0.05
"""A measure must be so much higher, relatively, to count as worse in a pair."""
MIN_ARRIVALS = 10
"""Arrivals in a slice below which it says nothing."""
MIN_PAIRS = 8
"""Pairs below which nothing is decided for want of evidence, until time is up."""
MOST_EXTENSION = 4.0
"""A trial that can't be decided goes on for so many times as long as it was meant to."""
LEAST_SHARE, MOST_SHARE = 0.01, 0.5

Instants: TypeAlias = np.ndarray[tuple[int], np.dtype[np.float64]]
_SHARES_BET = np.arange(0.1, 0.95, 0.1)
_SUSPICION = 2.0  # money above which the bettor is still worth listening to when time is up
_WASHOUT = 0.25  # of each slice: what it inherits from the one before
_NUM_PAIRS = 16
_MIN_SLICE_S = 0.25
_LATENCIES_A_SLICE = 10
DEFAULT_PERCENTILE = "p95"
MISSED = "missed"


class Decision(enum.Enum):
    """What is to become of a policy on trial."""

    UNDECIDED = "on trial"
    KEEP = "kept"
    ROLL_BACK = "rolled back"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """How a policy is tried.

    Args:
        began_at: when.
        share: of the time that it is in force, from 0.01 to a half.
        watch_s: how long it is meant to be tried.
        slice_s: how long it is in force at a time.
        objectives_s: promised latency in seconds by percentile; empty: the 95th percentile, with no promise.
    """

    began_at: float
    share: float
    watch_s: float
    slice_s: float
    objectives_s: Mapping[str, float] = field(default_factory=dict)

    @property
    def block_s(self) -> float:
        """From the begin of one pair to that of the next."""
        return self.slice_s / self.share

    @property
    def measures(self) -> tuple[str, ...]:
        """What is compared: percentiles of latency, and the share of requests that are not answered as promised."""
        return (*(self.objectives_s or (DEFAULT_PERCENTILE,)), MISSED)

    @property
    def late_after_s(self) -> float:
        """The latency above which a request counts as missed."""
        return max(self.objectives_s.values(), default=math.inf)


def slice_length_s(watch_s: float, share: float, latency_s: float) -> float:
    """Return how long a slice should be: some pairs within the watch, and long beside what one request takes.

    Args:
        watch_s: how long the trial is meant to be.
        share: of the time that the policy on trial is in force.
        latency_s: what requests take now, at the 95th percentile or so.
    """
    return max(_MIN_SLICE_S, watch_s * share / _NUM_PAIRS, _LATENCIES_A_SLICE * latency_s)


@dataclass(frozen=True, slots=True)
class Seen:
    """What became of the requests that arrived lately.

    Args:
        arrived_at: instants, (N,).
        latency_s: seconds to the answer, infinite for those that got none, (N,).
    """

    arrived_at: Instants
    latency_s: Instants

    def between(self, from_at: float, to_at: float) -> Instants:
        """Return the latencies of those that arrived within a stretch of time."""
        return self.latency_s[(self.arrived_at >= from_at) & (self.arrived_at < to_at)]


@dataclass(slots=True)
class Evidence:
    """What the pairs say of one measure.

    Args:
        num_worse: pairs in which the policy on trial was worse.
        num_better: pairs in which it was better; in all others it was neither.
        old: the measure under the policy in force, of every pair.
        new: the measure under the policy on trial, of every pair.
    """

    num_worse: int = 0
    num_better: int = 0
    old: list[float] = field(default_factory=list)
    new: list[float] = field(default_factory=list)

    @property
    def wealth(self) -> float:
        """What a bettor on "worse" has made of 1."""
        return float(np.mean((1 + _SHARES_BET) ** self.num_worse * (1 - _SHARES_BET) ** self.num_better))

    def add(self, old: float, new: float, promise: float) -> None:
        """Take note of a pair; what keeps its promise is not held against a policy."""
        self.old.append(old)
        self.new.append(new)
        if new > old * (1 + TOLERANCE) and new > promise:
            self.num_worse += 1
        elif old > new * (1 + TOLERANCE) and old > promise:
            self.num_better += 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is decided, and why.

    Args:
        decision: what is to become of the policy.
        num_pairs: pairs of slices that had requests enough to be compared.
        sentence: why.
        figures: for each measure its median under the old and under the new policy.
    """

    decision: Decision
    num_pairs: int
    sentence: str
    figures: Mapping[str, tuple[float, float]]


class Switchback:
    """A trial under way.

    Args:
        trial: how it is done.
        draw: tells by lot whether the new policy comes first in a pair.
    """

    def __init__(self, trial: Trial, draw: Callable[[], bool]) -> None:
        self.trial = trial
        self._draw = draw
        self._new_first: list[bool] = []
        self._num_judged = 0
        self._num_pairs = 0
        self._evidence = {measure: Evidence() for measure in trial.measures}

    def is_new_at(self, now: float) -> bool:
        """Whether the policy on trial is in force at an instant."""
        block, into_s = divmod(now - self.trial.began_at, self.trial.block_s)
        start_s = 0.0 if self._is_new_first(int(block)) else self.trial.slice_s
        return start_s <= into_s < start_s + self.trial.slice_s

    def next_at(self, now: float) -> float:
        """Return the next instant at which a slice ends."""
        trial = self.trial
        block_at = trial.began_at + (now - trial.began_at) // trial.block_s * trial.block_s
        ends_s = (trial.slice_s, 2 * trial.slice_s, trial.block_s, trial.block_s + trial.slice_s)
        return next(block_at + end_s for end_s in ends_s if block_at + end_s > now)  # the last, by rounding alone

    def _is_new_first(self, block: int) -> bool:
        while len(self._new_first) <= block:
            self._new_first.append(self._draw())
        return self._new_first[block]

    @property
    def judged_until(self) -> float:
        """What arrived before this instant is not needed any more."""
        return self.trial.began_at + self._num_judged * self.trial.block_s

    def is_compared(self, arrived_at: Instants) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Tell which arrivals fall into a pair; the others need not be kept."""
        trial = self.trial
        into_s = np.mod(arrived_at - trial.began_at, trial.block_s)
        return (arrived_at >= self.judged_until) & (into_s < 2 * trial.slice_s)

    def judge(self, seen: Seen, now: float) -> Verdict:
        """Compare the pairs that are over, and say what is to become of the policy.

        A pair is compared a slice after its end, so that its last requests are answered.

        Args:
            seen: what arrived since `judged_until`.
            now: the instant.
        """
        while now >= self.judged_until + 3 * self.trial.slice_s:
            self._compare(seen, self._num_judged)
            self._num_judged += 1
        return self._decide(now - self.trial.began_at)

    def _compare(self, seen: Seen, block: int) -> None:
        trial = self.trial
        starts = [trial.began_at + block * trial.block_s + offset for offset in (0.0, trial.slice_s)]
        inherited_s = _WASHOUT * trial.slice_s
        slices = [seen.between(start + inherited_s, start + trial.slice_s) for start in starts]
        new, old = slices if self._is_new_first(block) else reversed(slices)
        if min(len(new), len(old)) < MIN_ARRIVALS:
            return
        self._num_pairs += 1
        for measure, evidence in self._evidence.items():
            promise = trial.objectives_s.get(measure, 0.0)
            evidence.add(self._measured(measure, old), self._measured(measure, new), promise)

    def _measured(self, measure: str, latencies_s: Instants) -> float:
        if measure == MISSED:
            return float(np.mean(~(latencies_s <= self.trial.late_after_s) | np.isinf(latencies_s)))
        answered = latencies_s[np.isfinite(latencies_s)]
        return float(np.percentile(answered, float(measure[1:]))) if len(answered) else math.inf

    def _decide(self, elapsed_s: float) -> Verdict:
        trial = self.trial
        # Each measure has its share of the error that is allowed.
        enough = len(self._evidence) / ALPHA
        worst = max(self._evidence, key=lambda measure: self._evidence[measure].wealth)
        if self._evidence[worst].wealth >= enough:
            return self._verdict(Decision.ROLL_BACK, self._said_of(worst))
        suspicious = self._evidence[worst].wealth >= _SUSPICION or self._num_pairs < MIN_PAIRS
        if elapsed_s < trial.watch_s * (MOST_EXTENSION if suspicious else 1.0):
            return self._verdict(Decision.UNDECIDED, self._said_of(worst))
        if self._num_pairs < MIN_PAIRS:
            few = f"too few requests to tell: {self._num_pairs} comparisons in {elapsed_s:.0f} s, of {MIN_PAIRS} wanted"
            return self._verdict(Decision.KEEP, few)
        told = worst if self._evidence[worst].wealth > 1 else trial.measures[0]
        return self._verdict(Decision.KEEP, f"no measure is worse with confidence: {self._said_of(told)}")

    def _said_of(self, measure: str) -> str:
        evidence = self._evidence[measure]
        if not evidence.old:
            return "nothing to compare yet"
        old, new = median(evidence.old), median(evidence.new)
        what, write = (f"{measure} latency", _milliseconds) if measure != MISSED else ("share missed", _percent)
        return (
            f"{what} was worse in {evidence.num_worse} and better in {evidence.num_better} of {self._num_pairs} "
            f"comparisons (median {write(new)} against {write(old)})"
        )

    def _verdict(self, decision: Decision, sentence: str) -> Verdict:
        known = {name: one for name, one in self._evidence.items() if one.old}
        figures = {name: (median(one.old), median(one.new)) for name, one in known.items()}
        return Verdict(decision=decision, num_pairs=self._num_pairs, sentence=sentence, figures=figures)


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms"


def _percent(share: float) -> str:
    return f"{share:.2%}"
