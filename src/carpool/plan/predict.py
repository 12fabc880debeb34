"""What a setup would do under a workload: many simulated windows, each figure with an interval.

A figure is uncertain for two reasons, and each window draws both: a window is finite, so its arrivals and the scatter
of its calls are chance; and the cost model is wrong by a factor that nobody knows, which is drawn from its own error.
The interval of a figure is the range that the middle 90 % of such windows span, so it is an interval for what one
measurement of that length will show.

The same seed draws the same windows for every setup, so that two setups differ by what they do and not by their luck.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from math import exp, inf, sqrt
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from carpool.errors import ConfigError
from carpool.plan.figures import Figures, figures_of
from carpool.plan.simulate import simulate
from carpool.signals.objective import Objective

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carpool.core.cost import TimeModel
    from carpool.core.policy import Policy
    from carpool.cost.model import CostModel
    from carpool.cost.step_cost import StepCost
    from carpool.plan.llm_figures import LlmFigures, LlmObjective
    from carpool.plan.setup import Setup
    from carpool.plan.simulate import Run
    from carpool.plan.stream import Stream
    from carpool.plan.subject import Subject

_TAIL = 0.05  # on either side of an interval
_NUM_QUANTILES = 101
_EDGE = 1e-6  # no error lies further out than this share of all


class Drawable(Protocol):
    """A workload: what `carpool.plan.workload.Workload` is, as far as it is needed here."""

    def draw(self, rng: np.random.Generator, window_s: float) -> Stream:
        """Draw the arrivals of one window."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A predicted figure.

    Args:
        value: Its median over the simulated windows.
        low: One window in twenty is below it.
        high: One window in twenty is above it.
    """

    value: float
    low: float
    high: float

    def holds(self, measured: float) -> bool:
        """Tell whether a measured figure lies in it."""
        return self.low <= measured <= self.high


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What a setup would do, each figure as defined in `carpool.plan.figures.Figures`.

    Args:
        num_runs: Simulated windows.
        window_s: Seconds in each.
        offered: Items a second that arrive.
        throughput: Items a second that are answered.
        goodput: Items a second answered within every objective.
        attainment: Share of what arrives that is answered within every objective.
        mean_batch_size: Items a batch.
        fill_ratio: Items over the most that the batches could hold.
        padding_waste: Share of the computed tokens that is padding.
        utilisation: Share of the workers' time spent in the model.
        mean_s: Mean latency in seconds.
        p50_s: Median latency.
        p95_s: Its 95th percentile.
        p99_s: Its 99th percentile.
        queue_delay_s: Mean time from arrival to dispatch.
        compute_s: Mean time of a batch.
        refused: Share of what arrives that is not accepted.
        expired: Share of what arrives whose deadline passes while it waits.
        objectives: What latencies were held against.
        at_objectives_s: For each objective, the latency at its percentile, of those that are answered.
        shares_within: For each objective, the share of what arrives that is answered within it; it is kept where that
            share is at least its quantile.
        stable: Whether the queue has an end: False where it still grew at the end of most windows.
        latency_quantiles_s: Of all answered items together, 101 evenly spaced quantiles; empty where there are none.
    """

    num_runs: int
    window_s: float
    offered: Interval
    throughput: Interval
    goodput: Interval
    attainment: Interval
    mean_batch_size: Interval
    fill_ratio: Interval
    padding_waste: Interval
    utilisation: Interval
    mean_s: Interval
    p50_s: Interval
    p95_s: Interval
    p99_s: Interval
    queue_delay_s: Interval
    compute_s: Interval
    refused: Interval
    expired: Interval
    objectives: tuple[Objective, ...]
    at_objectives_s: tuple[Interval, ...]
    shares_within: tuple[Interval, ...]
    stable: bool
    latency_quantiles_s: tuple[float, ...]


def predict(
    subject: Subject,
    workload: Drawable,
    setup: Setup,
    *,
    objectives: Sequence[Objective] = (),
    window_s: float = 60.0,
    num_runs: int = 20,
    seed: int = 0,
    cost: TimeModel | None = None,
    transport_s: float = 0.0,
) -> Prediction:
    """Simulate a setup's windows under a workload.

    Args:
        subject: The measured model.
        workload: What arrives.
        setup: The policy and the workers.
        objectives: Latencies that are promised.
        window_s: Seconds of a window: what a measurement would last.
        num_runs: How many windows; below 20 the intervals are no wider than what was seen.
        seed: Draws them.
        cost: Another cost than the one that was measured, for a question of what would be if.
        transport_s: Seconds that every request spends on its way to the batcher and back.

    Raises:
        ConfigError: There is no window, or it has no length.
    """
    require_windows(num_runs, window_s)
    runs = [
        replicate(subject, workload, setup, window_s=window_s, seed=seed, number=n, cost=cost) for n in range(num_runs)
    ]
    return summarise(runs, objectives, transport_s=transport_s)


def require_windows(num_runs: int, window_s: float) -> None:
    """Refuse windows that can't be simulated.

    Raises:
        ConfigError: There is none, or they have no length.
    """
    if num_runs < 1 or not 0 < window_s < inf:
        raise ConfigError(f"{num_runs} windows of {window_s:g} s can't be simulated: give at least 1 of above 0 s")


def replicate(
    subject: Subject,
    workload: Drawable,
    setup: Setup,
    *,
    window_s: float,
    seed: int,
    number: int,
    cost: TimeModel | None = None,
) -> Run:
    """Simulate one window: the same seed and number draw the same arrivals, scatter and error for every setup."""
    arrivals, calls = chances(seed, number)
    return simulate(
        workload.draw(arrivals, window_s),
        replace(setup, policy=fitted(setup.policy, subject)),
        cost or subject.cost.clipped(),
        rng=calls,
        call_spread=subject.call_spread,
        idle_penalties=subject.idle_penalties,
        slowdown=slowdown_of(subject.cost, subject.drift, seed=seed, number=number),
    )


def chances(seed: int, number: int) -> tuple[np.random.Generator, np.random.Generator]:
    """Return what draws a window's arrivals, and what draws how its calls scatter: the same for every setup."""
    arrivals, calls = np.random.SeedSequence((seed, number)).spawn(2)
    return np.random.default_rng(arrivals), np.random.default_rng(calls)


def slowdown_of(cost: CostModel | StepCost, drift: float, *, seed: int, number: int) -> float:
    """Return how many times as long as its cost says everything takes in a window, drawn from what is not sure of it.

    Args:
        cost: With the errors of its fit and of what it was fitted to.
        drift: How much slower the machine became while it was measured.
        seed: Draws all windows.
        number: Which of them it is.
    """
    relative_sd = sqrt(cost.residual_sd**2 + cost.measurement_sd**2 + drift**2)
    return exp(relative_sd * NormalDist().inv_cdf(_place_of_error(seed, number)))


def _place_of_error(seed: int, number: int) -> float:
    """Return where in its distribution a window's error lies, so that even a few windows are spread over all of it.

    Source: J. van der Corput's sequence, whose first numbers are 0, 1/2, 1/4, 3/4, 1/8, ..., begun anywhere.
    """
    mirrored = sum(1 / (2 << bit) for bit in range(number.bit_length()) if number >> bit & 1)
    begun_at = np.random.default_rng(seed).random()
    return float(np.clip((begun_at + mirrored) % 1.0, _EDGE, 1 - _EDGE))


def fitted(policy: Policy, subject: Subject) -> Policy:
    """Return the policy with the model's own buckets and limit where it names none, as a live server takes it."""
    if subject.ragged:
        tokens = policy.token_budget or subject.preferred_tokens
        return replace(policy, ragged=True, token_buckets=subject.token_buckets, token_budget=tokens)
    return policy if policy.length_buckets else replace(policy, length_buckets=subject.length_buckets)


def summarise(runs: Sequence[Run], objectives: Sequence[Objective] = (), *, transport_s: float = 0.0) -> Prediction:
    """Bring simulated windows of one setup together."""
    found = [figures_of(run, objectives, transport_s=transport_s) for run in runs]
    pooled = np.concatenate([run.latencies_s[~np.isnan(run.latencies_s)] for run in runs]) + transport_s
    spread = np.quantile(pooled, np.linspace(0, 1, _NUM_QUANTILES)).tolist() if len(pooled) else ()
    return together(found, objectives, window_s=runs[0].stream.window_s, latency_quantiles_s=tuple(spread))


def together(
    found: Sequence[Figures],
    objectives: Sequence[Objective] = (),
    *,
    window_s: float,
    latency_quantiles_s: tuple[float, ...] = (),
) -> Prediction:
    """Bring the figures of windows of one setup together.

    Args:
        found: The figures of each window, at least one.
        objectives: What latencies were held against.
        window_s: Seconds in each window.
        latency_quantiles_s: Of all answered items, 101 evenly spaced quantiles; empty where they were not kept.
    """
    return Prediction(**joined(found, objectives, window_s=window_s), latency_quantiles_s=latency_quantiles_s)


def joined(
    found: Sequence[Figures | LlmFigures], objectives: Sequence[Objective | LlmObjective], *, window_s: float
) -> dict[str, Any]:
    """Return what every prediction holds of the figures of its windows, by name.

    Args:
        found: The figures of each window, at least one.
        objectives: What they were held against.
        window_s: Seconds in each window.
    """
    apart, places = {"at_objectives_s", "shares_within", "grows"}, range(len(objectives))
    plain = [field.name for field in fields(found[0]) if field.name not in apart]
    return {
        **{name: interval([getattr(one, name) for one in found]) for name in plain},
        "num_runs": len(found),
        "window_s": window_s,
        "objectives": tuple(objectives),
        "at_objectives_s": tuple(interval([one.at_objectives_s[place] for one in found]) for place in places),
        "shares_within": tuple(interval([one.shares_within[place] for one in found]) for place in places),
        "stable": sum(one.grows for one in found) <= len(found) / 2,
    }


def interval(values: Sequence[float]) -> Interval:
    """Return the median of some windows' figures, and the range that the next one lies in with 90 % probability.

    The n windows and a further one are exchangeable, so the further one falls below the k-th smallest with probability
    k / (n + 1): quantiles are taken at (n + 1) q, and end at the extremes.

    >>> interval([float(value) for value in range(1, 40)])
    Interval(value=20.0, low=2.0, high=38.0)
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    low, value, high = (_weibull(ordered, q) for q in (_TAIL, 0.5, 1 - _TAIL))
    return Interval(value=value, low=low, high=high)


def _weibull(ordered: np.ndarray, q: float) -> float:
    """Return a quantile by position (n + 1) q; infinite neighbours need no arithmetic."""
    position = min(max((len(ordered) + 1) * q - 1, 0.0), len(ordered) - 1.0)
    below = int(position)
    share = position - below
    if not share or ordered[below] == ordered[below + 1]:
        return float(ordered[below])
    return float(ordered[below] + share * (ordered[below + 1] - ordered[below]))
