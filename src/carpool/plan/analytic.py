"""What queueing theory says of one worker that takes what waits: no simulation, no chance, an answer in milliseconds.

Items arrive as a Poisson process and all cost alike; the worker, whenever it is free, runs what waits, up to
`max_batch_size`. The number that wait when a batch ends is then a Markov chain, and every mean follows from where that
chain spends its time. `carpool.plan.assumptions` says whether a setup and a workload are of that kind.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from carpool.errors import ConfigError
from carpool.plan.boundary import Boundary, boundary
from carpool.plan.ladder import Floats
from carpool.plan.scatter import Scatter
from carpool.units import counted, format_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# How close a latency comes to its limit, relative to it.
_TOLERANCE, _MOST_ROUNDS = 1e-7, 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """What a worker does in the long run.

    Args:
        rate: Items a second that arrive, and that are answered.
        load: The rate over the largest sustainable one.
        utilisation: Share of the time in which a batch runs; above the load where small batches take longer an item.
        mean_batch_size: Items a batch.
        mean_latency_s: Arrival to answer.
        mean_queue_delay_s: Arrival to dispatch.
        mean_compute_s: Of a batch.
        batch_sizes: Probabilities that a batch has 1, 2, ..., `max_batch_size` items.
        queue: Probabilities that 0, 1, ... items wait when a batch ends: `queue.lengths(num)`.
        imbalance: By how much items answered differ from items that arrive, relative to them: the error of rounding,
            and of what was left out.
    """

    rate: float
    load: float
    utilisation: float
    mean_batch_size: float
    mean_latency_s: float
    mean_queue_delay_s: float
    mean_compute_s: float
    batch_sizes: Floats
    queue: Boundary
    imbalance: float

    @property
    def neglected(self) -> float:
        """The most probability that was left out of the calculation: of long queues, or many arrivals in one batch."""
        return self.queue.neglected


def solve(rate: float, times_s: Sequence[float] | Floats, *, call_spread: Sequence[float] = ()) -> Chain:
    """Find the long run of one worker with Poisson arrivals, which runs what waits whenever it is free.

    Args:
        rate: Items a second that arrive.
        times_s: Seconds that a batch of 1, 2, ..., `max_batch_size` items takes, of any form.
        call_spread: How single calls scatter: quantiles, evenly spaced from 0 to 1, of what their time is multiplied
            by; where empty, every batch of a size takes the same time.

    Raises:
        ConfigError: The rate cannot be sustained, or a number is not finite and above 0.
        OutOfRange: The queue is so long that the chain has too many states.

    Source: the chain on the queue length at completions, as in Inoue, "Queueing analysis of GPU-based inference servers
        with dynamic batching: a closed-form characterization", 2021, with a cap, times of any form, and scatter.

    Example:
        >>> single = solve(0.5, [1.0])  # batches of one: s + rho s / (2 (1 - rho)), Pollaczek and Khinchine
        >>> round(single.mean_latency_s, 9), round(single.utilisation, 9)
        (1.5, 0.5)
        >>> pairs = solve(0.5, [1.0, 1.2])
        >>> round(pairs.mean_latency_s, 3), round(pairs.mean_batch_size, 3)
        (1.297, 1.101)
    """
    times, scatter = _known(times_s), Scatter.of(call_spread)
    largest = largest_rate(times, call_spread=call_spread)
    _check(rate, "rate", "items a second")
    if rate >= largest:
        raise ConfigError(
            f"a rate of {rate:g} a second is not below {largest:g}, the most that batches of up to "
            f"{counted(len(times), 'item')} sustain, so the queue would grow without end: lower the rate, or change "
            "the batch size"
        )
    return _summary(rate, rate / largest, times, scatter, boundary(rate * times, scatter))


def _summary(rate: float, load: float, times: Floats, scatter: Scatter, found: Boundary) -> Chain:
    """Average over the chain's states what happens from one completion to the next.

    The mean number present over time is the mean area under it in such a cycle over the mean length of a cycle, and
    the latency is that number over the rate (Little).
    """
    waiting = np.arange(len(found.below))
    sizes = np.append(np.maximum(waiting, 1), len(times))
    shares = np.append(found.below, found.above)
    run_s = times[sizes - 1]
    items, compute_s = shares @ sizes, shares @ run_s * scatter.mean
    idle_s = found.below[0] / rate
    # Items left behind wait for the whole batch; those that arrive meanwhile, half of it on average.
    left_area = found.excess * times[-1] * scatter.mean
    arriving_area = rate / 2 * scatter.second_moment * (shares @ run_s**2)
    delay_s = (left_area + arriving_area) / items
    return Chain(
        rate=rate,
        load=load,
        utilisation=float(compute_s / (compute_s + idle_s)),
        mean_batch_size=float(items),
        mean_latency_s=float(delay_s + shares @ (sizes * run_s) * scatter.mean / items),
        mean_queue_delay_s=float(delay_s),
        mean_compute_s=float(compute_s),
        batch_sizes=np.bincount(sizes, weights=shares)[1:].astype(np.float64),
        queue=found,
        imbalance=float(abs(rate * (compute_s + idle_s) / items - 1.0)),
    )


def largest_rate(times_s: Sequence[float] | Floats, *, call_spread: Sequence[float] = ()) -> float:
    """Return the rate below which a worker keeps up, in items a second: `B / t(B)`, with full batches all the time.

    Args:
        times_s: Seconds that a batch of 1, 2, ..., B = `max_batch_size` items takes.
        call_spread: Quantiles of what the times are multiplied by.

    Raises:
        ConfigError: A number is not finite and above 0.

    Example:
        >>> round(largest_rate([0.010, 0.011, 0.012, 0.013]), 3)
        307.692
    """
    times = _known(times_s)
    return float(len(times) / (times[-1] * Scatter.of(call_spread).mean))


def best_cap(times_s: Sequence[float] | Floats) -> int:
    """Return the `max_batch_size` with the largest sustainable rate; of several, the smallest.

    Args:
        times_s: Seconds that a batch of 1, 2, ... items takes.

    Raises:
        ConfigError: A number is not finite and above 0.

    Example:
        >>> best_cap([0.010, 0.011, 0.012, 0.024])
        3
    """
    times = _known(times_s)
    return int(np.argmax(np.arange(1, len(times) + 1) / times)) + 1


def largest_rate_within(
    mean_latency_s: float, times_s: Sequence[float] | Floats, *, call_spread: Sequence[float] = ()
) -> float:
    """Return a rate at which the mean latency is within a limit, and just above which it is not.

    Where the latency rises with the rate, as it does when larger batches never take less time, it is the largest.

    Args:
        mean_latency_s: The limit in seconds.
        times_s: Seconds that a batch of 1, 2, ..., `max_batch_size` items takes.
        call_spread: Quantiles of what the times are multiplied by.

    Raises:
        ConfigError: The limit is not above the time of one item alone, or a number is not finite and above 0.

    Example:
        >>> round(largest_rate_within(1.5, [1.0]), 6)  # where an item waits for half of the time it runs for
        0.5
    """
    times, scatter = _known(times_s), Scatter.of(call_spread)
    _check(mean_latency_s, "mean latency", "seconds")
    alone_s = float(times[0]) * scatter.mean
    if mean_latency_s <= alone_s:
        raise ConfigError(
            f"a mean latency of {format_duration(mean_latency_s)} cannot be kept at any rate, since one item alone "
            f"takes {format_duration(alone_s)}: allow more than that"
        )

    def excess(rate: float) -> float:
        within_s = mean_latency_s * (1 - _TOLERANCE)  # so that what is close to it is within the limit itself
        return within_s / solve(rate, times, call_spread=call_spread).mean_latency_s - 1.0

    return _zero(excess, mean_latency_s / alone_s - 1.0, largest_rate(times, call_spread=call_spread))


def _zero(function: Callable[[float], float], at_zero: float, end: float) -> float:
    """Return where a function is close to 0 that begins above it at 0 and ends at `end` with -1.

    Source: Dowell and Jarratt, "A modified regula falsi method for computing the root of an equation", 1971: the value
        at an end that stays a second time is halved, so that both ends close in.
    """
    low, high, at_low, at_high, before = 0.0, end, at_zero, -1.0, 0.0
    for _ in range(_MOST_ROUNDS):
        place = high - (high - low) * at_high / (at_high - at_low)
        if not low < place < high:
            break
        value = function(place)
        if abs(value) < _TOLERANCE:
            return place
        if value < 0:
            high, at_high, at_low = place, value, at_low / 2 if before < 0 else at_low
        else:
            low, at_low, at_high = place, value, at_high / 2 if before > 0 else at_high
        before = value
    return low


def uncapped_latency_bound(rate: float, overhead_s: float, item_s: float) -> float:
    """Return what the mean latency does not exceed where batches have no cap, in seconds.

    Batches of b items take `overhead_s + item_s * b` seconds.

    Args:
        rate: Items a second that arrive, Poisson.
        overhead_s: Seconds that a batch takes besides.
        item_s: Seconds that each of its items takes.

    Raises:
        ConfigError: The rate is not below `1 / item_s`, or a number is not finite and above 0.

    Source: Inoue, "Queueing analysis of GPU-based inference servers with dynamic batching: a closed-form
        characterization", 2021: `min(phi0, phi1)`. The first supposes batches of one item on average, which it takes
        little load to exceed, and the second that the worker is never idle.

    Example:
        >>> round(uncapped_latency_bound(0.5, 1.0, 1.0), 3)
        4.667
    """
    for value, what, unit in (
        (rate, "rate", "items"),
        (overhead_s, "overhead", "seconds"),
        (item_s, "time", "seconds"),
    ):
        _check(value, what, unit)
    load = rate * item_s
    if load >= 1.0:
        raise ConfigError(
            f"a rate of {rate:g} a second is not below {1 / item_s:g}, which no size of batches reaches: lower it"
        )
    singles = (overhead_s + item_s) / (2 * (1 - load))
    singles *= 1 + 2 * rate * overhead_s + (1 - rate * overhead_s) / (1 + load)
    busy = 3 * overhead_s / (2 * (1 - load)) + item_s / 2 * (load + 2) / (1 - load**2)
    return min(singles, busy)


def _known(times_s: Sequence[float] | Floats) -> Floats:
    times = np.asarray(times_s, dtype=np.float64)
    if times.ndim != 1 or not len(times) or not np.isfinite(times).all() or (times <= 0).any():
        raise ConfigError(
            "times_s must be the seconds of batches of 1, 2, ... items, each a finite number above 0: "
            f"it is {times.tolist()}"
        )
    return times


def _check(value: float, what: str, unit: str) -> None:
    if not 0 < value < math.inf:
        raise ConfigError(f"a {what} of {value:g} is not a finite number of {unit} above 0: give one")
