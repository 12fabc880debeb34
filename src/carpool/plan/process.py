"""Ways that arrivals come: each says its mean rate, draws a window of itself, and can be made busier."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from carpool.errors import ConfigError
from carpool.plan import arrivals
from carpool.plan.arrivals import Times, require_positive
from carpool.plan.trace import Trace
from carpool.units import format_duration

if TYPE_CHECKING:
    from typing import Self

Lengths: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rated:
    """Arrivals of a mean rate.

    Args:
        rate: Mean items a second.
    """

    rate: float

    def __post_init__(self) -> None:
        require_positive("rate", self.rate)

    def scaled(self, factor: float) -> Self:
        """Return the same with so many times the rate, all else alike."""
        return replace(self, rate=self.rate * factor)


@dataclass(frozen=True, slots=True, kw_only=True)
class Poisson(_Rated):
    """Many independent callers: exponential gaps."""

    def draw(self, rng: np.random.Generator, window_s: float) -> tuple[Times, Lengths | None]:
        """Draw the arrivals of a window, whose lengths are the workload's to draw."""
        return arrivals.poisson(self.rate, window_s, rng), None

    def describe(self) -> str:
        """Name it with its rate."""
        return f"Poisson arrivals at {self.rate:g}/s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gamma(_Rated):
    """Gaps as bursty or as regular as asked.

    Args:
        burstiness: Squared coefficient of variation of the gaps: 1 is Poisson, above is burstier.
    """

    burstiness: float = 4.0

    def __post_init__(self) -> None:
        super(Gamma, self).__post_init__()
        require_positive("burstiness", self.burstiness)

    def draw(self, rng: np.random.Generator, window_s: float) -> tuple[Times, Lengths | None]:
        """Draw the arrivals of a window."""
        return arrivals.gamma(self.rate, window_s, self.burstiness, rng), None

    def describe(self) -> str:
        """Name it with its rate and burstiness."""
        return f"gamma arrivals of burstiness {self.burstiness:g} at {self.rate:g}/s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant(_Rated):
    """Even gaps; the window begins anywhere in one."""

    def draw(self, rng: np.random.Generator, window_s: float) -> tuple[Times, Lengths | None]:
        """Draw the arrivals of a window."""
        times = arrivals.constant(self.rate, window_s) + rng.uniform(0.0, 1 / self.rate)
        return times[times < window_s], None

    def describe(self) -> str:
        """Name it with its rate."""
        return f"evenly spaced arrivals at {self.rate:g}/s"


@dataclass(frozen=True, slots=True, kw_only=True)
class OnOff(_Rated):
    """Bursts of Poisson arrivals with silence between them.

    Args:
        on_s: Seconds of a burst.
        off_s: Seconds of silence after it.
    """

    on_s: float = 1.0
    off_s: float = 1.0

    def __post_init__(self) -> None:
        super(OnOff, self).__post_init__()
        arrivals.check_on_off(self.on_s, self.off_s)

    def draw(self, rng: np.random.Generator, window_s: float) -> tuple[Times, Lengths | None]:
        """Draw the arrivals of a window."""
        return arrivals.on_off(self.rate, window_s, self.on_s, self.off_s, rng), None

    def describe(self) -> str:
        """Name it with its rate and its cycle."""
        cycle = format_duration(self.on_s + self.off_s)
        return f"bursts of {format_duration(self.on_s)} every {cycle} at {self.rate:g}/s on average"


@dataclass(frozen=True, slots=True, kw_only=True)
class Daily(_Rated):
    """Poisson arrivals whose rate follows a sine over a day; the window begins at any time of it.

    Args:
        peak_to_mean: The highest rate over the mean, 1 to 2.
        period_s: The length of a day in seconds.
    """

    peak_to_mean: float = 1.5
    period_s: float = 86_400.0

    def __post_init__(self) -> None:
        super(Daily, self).__post_init__()
        arrivals.check_daily(self.peak_to_mean, self.period_s)

    def draw(self, rng: np.random.Generator, window_s: float) -> tuple[Times, Lengths | None]:
        """Draw the arrivals of a window."""
        return arrivals.daily(self.rate, window_s, self.peak_to_mean, self.period_s, rng), None

    def describe(self) -> str:
        """Name it with its rates and its period."""
        return (
            f"a daily curve of {format_duration(self.period_s)} with a mean of {self.rate:g}/s and a peak of "
            f"{self.rate * self.peak_to_mean:g}/s"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """A recorded trace, gone round and round.

    A window shorter than the trace begins anywhere in it and goes on from the trace's end at its start, so that every
    part of the trace is as likely; a window at least as long begins at the trace's start and repeats it. So a workload
    of a trace that was cut to the window's own length is always that very recording.

    Args:
        trace: What was recorded.
    """

    trace: Trace

    def __post_init__(self) -> None:
        if not len(self.trace):
            raise ConfigError(f"the trace {self.trace.source} holds no arrivals: give one that does")

    @property
    def rate(self) -> float:
        """Mean items a second."""
        return self.trace.rate

    def scaled(self, factor: float) -> Replay:
        """Return the same, played so many times as fast."""
        return Replay(trace=self.trace.window(speed=factor))

    def draw(self, rng: np.random.Generator, window_s: float) -> tuple[Times, Lengths | None]:
        """Draw a window of the trace, with the lengths that it recorded."""
        times_s, rows = self.draw_rows(rng, window_s)
        return times_s, None if self.trace.lengths is None else self.trace.lengths[rows]

    def draw_rows(self, rng: np.random.Generator, window_s: float) -> tuple[Times, NDArray[np.int64]]:
        """Draw a window of the trace, with the number of what arrives in the trace."""
        require_positive("duration", window_s)
        trace = self.trace
        start_s = rng.uniform(0.0, trace.duration_s) if window_s < trace.duration_s else 0.0
        rounds = int((start_s + window_s) // trace.duration_s) + 1
        arrivals.check_count(rounds * len(trace), f"{rounds:,} rounds of the trace {trace.source}")
        times = (np.arange(rounds)[:, None] * trace.duration_s + trace.times_s).ravel() - start_s  # (rounds * n,)
        first, last = np.searchsorted(times, (0.0, window_s)).tolist()
        return times[first:last], np.arange(first, last) % len(trace)

    def describe(self) -> str:
        """Name the file with what of it is played, and how fast."""
        trace = self.trace
        speed = f" at {trace.speed:g} times its speed" if trace.speed != 1 else ""
        start = f" from {format_duration(trace.start_s)} on" if trace.start_s else ""
        return (
            f"the trace {os.path.normpath(trace.source)}{start}{speed}: {len(trace):,} arrivals in "
            f"{format_duration(trace.duration_s)}, {trace.rate:.4g}/s on average"
        )


Arrivals: TypeAlias = Poisson | Gamma | Constant | OnOff | Daily | Replay
