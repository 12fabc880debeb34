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
    """Draw arrivals with gamma gaps: as bursty, or as regular, as asked.

    Args:
        rate: Mean requests a second.
        duration_s: The length of the schedule in seconds.
        burstiness: Squared coefficient of variation of the gaps: 1 is Poisson, above is burstier, below more regular.
        rng: The source of randomness.

    Raises:
        ConfigError: A value that is not finite and above 0, or a schedule longer than MOST_REQUESTS.
    """
    expected = _expected(rate, duration_s)
    if not (math.isfinite(burstiness) and burstiness > 0):
        raise ConfigError(f"a burstiness of {burstiness} is not a finite number above 0: 1 is Poisson, 4 is bursty")
    pieces: list[Times] = []
    reached = 0.0
    while reached < duration_s:
        num = int(expected - reached * rate) + 64
        gaps = rng.gamma(shape=1 / burstiness, scale=burstiness / rate, size=num)
        pieces.append(reached + np.cumsum(gaps))
        reached = float(pieces[-1][-1])
    times = np.concatenate(pieces)
    return times[times < duration_s][:MOST_REQUESTS]


def _expected(rate: float, duration_s: float) -> float:
    """Count the arrivals to expect, within what fits in memory."""
    for what, value in (("rate", rate), ("duration", duration_s)):
        if not (math.isfinite(value) and value > 0):
            raise ConfigError(f"a {what} of {value} is not a finite number above 0: give one such as 30")
    num = rate * duration_s
    if num > MOST_REQUESTS:
        raise ConfigError(
            f"{rate:g} requests a second for {duration_s:g} s are {num:,.0f} requests, over the limit of "
            f"{MOST_REQUESTS:,} in one run: lower the rate or the duration"
        )
    return num
