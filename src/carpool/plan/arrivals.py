"""When requests are meant to be sent: schedules fixed before the load starts, given a seeded generator.

A schedule is a rising float64 array [n] of seconds from the start. It is drawn up in advance so that nothing that the
server does can change it: that is what makes the load an open loop.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from carpool.errors import ConfigError

Times: TypeAlias = NDArray[np.float64]

MOST_REQUESTS = 5_000_000
_HIGHEST_PEAK = 2.0


def constant(rate: float, duration_s: float) -> Times:
    """Space the arrivals evenly, the first at 0.

    Args:
        rate: Requests a second.
        duration_s: The length of the schedule in seconds.

    Example:
        >>> constant(4, 1).tolist()
        [0.0, 0.25, 0.5, 0.75]
    """
    num = _expected(rate, duration_s)
    return np.arange(math.ceil(num), dtype=np.float64) / rate


def poisson(rate: float, duration_s: float, rng: np.random.Generator) -> Times:
    """Draw arrivals of many independent callers: exponential gaps.

    Args:
        rate: Mean requests a second.
        duration_s: The length of the schedule in seconds.
        rng: The source of randomness; the same seed gives the same schedule.
    """
    return gamma(rate, duration_s, 1.0, rng)


def gamma(rate: float, duration_s: float, burstiness: float, rng: np.random.Generator) -> Times:
    """Draw arrivals with gamma gaps, as bursty or as regular as asked.

    Args:
        rate: Mean requests a second.
        duration_s: The length of the schedule in seconds.
        burstiness: Squared coefficient of variation of the gaps: 1 is Poisson, above is burstier, below more regular.
        rng: The source of randomness.

    Raises:
        ConfigError: A value that is not finite and above 0, or a schedule longer than MOST_REQUESTS.
    """
    expected = _expected(rate, duration_s)
    require_positive("burstiness", burstiness)
    # The window opens at any instant, so that every second of it expects as many arrivals: within a gap, and long gaps
    # are the likelier ones to be found in (their density is weighted by their length).
    reached = float(rng.uniform() * rng.gamma(shape=1 + 1 / burstiness, scale=burstiness / rate))
    pieces: list[Times] = [np.array([reached])]
    while reached < duration_s:
        num = int(expected - reached * rate) + 64
        gaps = rng.gamma(shape=1 / burstiness, scale=burstiness / rate, size=num)
        pieces.append(reached + np.cumsum(gaps))
        reached = float(pieces[-1][-1])
    times = np.concatenate(pieces)
    return times[times < duration_s][:MOST_REQUESTS]


def on_off(rate: float, duration_s: float, on_s: float, off_s: float, rng: np.random.Generator) -> Times:
    """Draw bursts: Poisson arrivals for `on_s`, none for `off_s`, over and over; the window begins anywhere in a cycle.

    Args:
        rate: Mean requests a second over whole cycles; in a burst it is `rate * (on_s + off_s) / on_s`.
        duration_s: The length of the schedule in seconds.
        on_s: Seconds of each burst.
        off_s: Seconds of silence after it; 0 is Poisson.
        rng: The source of randomness.

    Raises:
        ConfigError: A value that is not finite and above 0 (for `off_s`, at least 0), or a schedule longer than
            MOST_REQUESTS.
    """
    _expected(rate, duration_s)
    check_on_off(on_s, off_s)
    cycle_s = on_s + off_s
    start_s = rng.uniform(0.0, cycle_s)
    # The arrivals are Poisson on a clock that stands still between bursts; that clock is then turned into time.
    first, last = (at // cycle_s * on_s + min(at % cycle_s, on_s) for at in (start_s, start_s + duration_s))
    if last <= first:
        return np.empty(0)
    running = first + poisson(rate * cycle_s / on_s, last - first, rng)
    times = running // on_s * cycle_s + running % on_s - start_s
    return np.maximum.accumulate(np.clip(times, 0.0, duration_s))  # rounding must not swap neighbours


def daily(rate: float, duration_s: float, peak_to_mean: float, period_s: float, rng: np.random.Generator) -> Times:
    """Draw Poisson arrivals whose rate follows a sine over a day; the window begins at any time of it.

    Args:
        rate: Mean requests a second over whole days.
        duration_s: The length of the schedule in seconds.
        peak_to_mean: The highest rate over the mean, 1 to 2; the lowest is as far below the mean.
        period_s: The length of a day in seconds.
        rng: The source of randomness.

    Raises:
        ConfigError: A value that is not finite and above 0, a peak outside 1 to 2, or a schedule longer than
            MOST_REQUESTS.

    Source: thinning of Lewis and Shedler, "Simulation of nonhomogeneous Poisson processes by thinning", 1979.
    """
    check_daily(peak_to_mean, period_s)
    start = rng.uniform(0.0, 2 * math.pi)
    candidates = poisson(rate * peak_to_mean, duration_s, rng)
    swing = (peak_to_mean - 1) * np.sin(start + 2 * math.pi * candidates / period_s)
    return candidates[rng.uniform(0.0, peak_to_mean, len(candidates)) < 1 + swing]


def check_on_off(on_s: float, off_s: float) -> None:
    """Refuse a cycle of bursts that is none.

    Raises:
        ConfigError: A burst is not finite and above 0, or a pause not finite and at least 0.
    """
    require_positive("burst", on_s)
    if not (math.isfinite(off_s) and off_s >= 0):
        raise ConfigError(f"a pause of {off_s} s between bursts is not finite and at least 0: give one such as 5")


def check_daily(peak_to_mean: float, period_s: float) -> None:
    """Refuse a curve that a sine can't follow.

    Raises:
        ConfigError: The peak is outside 1 to 2, or the period is not finite and above 0.
    """
    require_positive("period", period_s)
    if not 1 <= peak_to_mean <= _HIGHEST_PEAK:
        raise ConfigError(
            f"a peak of {peak_to_mean} times the mean is outside 1 to {_HIGHEST_PEAK:g}: a sine above that would fall "
            "below no arrivals at all; give one such as 1.5"
        )


def require_positive(what: str, value: float) -> None:
    """Refuse what is not a finite number above 0.

    Args:
        what: What the value is, for the message.
        value: The value.

    Raises:
        ConfigError: It is 0, negative, infinite or no number.
    """
    if not (math.isfinite(value) and value > 0):
        raise ConfigError(f"a {what} of {value} is not a finite number above 0: give one such as 30")


def _expected(rate: float, duration_s: float) -> float:
    """Count the arrivals to expect, within what fits in memory."""
    require_positive("rate", rate)
    require_positive("duration", duration_s)
    num = rate * duration_s
    check_count(num, f"{rate:g} requests a second for {duration_s:g} s")
    return num


def check_count(num: float, what: str) -> None:
    """Refuse more arrivals than fit in memory.

    Args:
        num: How many there would be.
        what: What they would be, in the plural, for the message.

    Raises:
        ConfigError: They are more than MOST_REQUESTS.
    """
    if num > MOST_REQUESTS:
        raise ConfigError(
            f"{what} are {num:,.0f} requests, over the limit of {MOST_REQUESTS:,} in one run: lower the rate or the "
            "duration"
        )
