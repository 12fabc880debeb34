"""What arrives, in all that a plan needs to know of it: when, how long, how urgent, and how patient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from carpool.errors import ConfigError
from carpool.plan.arrivals import require_positive
from carpool.plan.process import Arrivals, Constant, Daily, Gamma, OnOff, Poisson, Replay
from carpool.plan.stream import Stream
from carpool.units import counted, format_count, format_duration

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Arrivals", "Constant", "Daily", "Gamma", "OnOff", "Poisson", "Replay", "Workload"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Items to come.

    Args:
        arrivals: When they come.
        lengths: Tokens of typical items: each item's is drawn from these, one as likely as another. Unused where
            `arrivals` replays a trace that recorded lengths.
        deadline_s: Seconds from its arrival after which an item's answer is worth nothing; None for never.
        patience_s: Seconds after which a client that still waits goes away; None for never.
        priorities: Share of the items of each priority, which need not add up to 1; empty for priority 0 throughout.

    Raises:
        ConfigError: There is no length, or one below 1; a deadline, a patience or a share is not above 0.
    """

    arrivals: Arrivals
    lengths: tuple[int, ...] = (1,)
    deadline_s: float | None = None
    patience_s: float | None = None
    priorities: Mapping[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.lengths or min(self.lengths) < 1:
            raise ConfigError(f"the lengths {self.lengths} can't be drawn from: give at least one, each at least 1")
        for what, value in (("deadline", self.deadline_s), ("patience", self.patience_s)):
            if value is not None:
                require_positive(what, value)
        for priority, share in self.priorities.items():
            require_positive(f"share of priority {priority}", share)

    @property
    def rate(self) -> float:
        """Mean items a second."""
        return self.arrivals.rate

    @property
    def replayed(self) -> tuple[int, ...] | None:
        """The lengths that a trace recorded; None where there is none, or it recorded none."""
        trace = self.arrivals.trace if isinstance(self.arrivals, Replay) else None
        return None if trace is None or trace.lengths is None else tuple(trace.lengths.tolist())

    def scaled(self, factor: float) -> Workload:
        """Return the same with so many times the rate; a trace is played as much faster.

        Raises:
            ConfigError: The factor is not a finite number above 0.
        """
        require_positive("factor", factor)
        return replace(self, arrivals=self.arrivals.scaled(factor))

    def draw(self, rng: np.random.Generator, window_s: float) -> Stream:
        """Draw what arrives in one window.

        Args:
            rng: The source of randomness; the same seed gives the same stream.
            window_s: Length of the window in seconds.

        Raises:
            ConfigError: The window is not a finite time above 0, or holds more than can be simulated.

        Example:
            >>> workload = Workload(arrivals=Constant(rate=4), lengths=(16, 32))
            >>> stream = workload.draw(np.random.default_rng(0), 1.0)
            >>> len(stream), sorted(set(stream.lengths.tolist()))
            (4, [16, 32])
        """
        times_s, recorded = self.arrivals.draw(rng, window_s)
        num = len(times_s)
        lengths = recorded if recorded is not None else rng.choice(np.array(self.lengths, dtype=np.int64), num)
        return Stream(
            times_s=times_s,
            lengths=lengths,
            window_s=window_s,
            priorities=self._draw_priorities(rng, num),
            deadlines_s=_for_all(self.deadline_s, num),
            patience_s=_for_all(self.patience_s, num),
        )

    def _draw_priorities(self, rng: np.random.Generator, num: int) -> NDArray[np.int64] | None:
        if not self.priorities:
            return None
        shares = np.array(list(self.priorities.values()), dtype=np.float64)
        return rng.choice(np.array(list(self.priorities), dtype=np.int64), num, p=shares / shares.sum())

    def clipped(self, max_length: int | None) -> tuple[Workload, str]:
        """Cut lengths to the longest that a model takes.

        Args:
            max_length: The longest; None for no limit.

        Returns:
            The workload that the model sees, and a sentence that says what was cut; empty where nothing was.
        """
        known = self.replayed or self.lengths
        num_longer = 0 if max_length is None else sum(length > max_length for length in known)
        if max_length is None or not num_longer:
            return self, ""
        said = (
            f"The model takes at most {counted(max_length, 'token')}: {num_longer:,} of the workload's "
            f"{counted(len(known), 'length')} ({num_longer / len(known):.1%}), up to {max(known):,}, "
            f"{'was' if num_longer == 1 else 'were'} cut to that."
        )
        arrivals = self.arrivals
        if isinstance(arrivals, Replay) and arrivals.trace.lengths is not None:
            arrivals = Replay(trace=arrivals.trace.clipped(max_length))
        return replace(self, arrivals=arrivals, lengths=tuple(min(length, max_length) for length in self.lengths)), said

    def describe(self) -> str:
        """Say what arrives in one sentence.

        Example:
            >>> Workload(arrivals=Poisson(rate=400), lengths=(64,), deadline_s=0.2).describe()
            'Poisson arrivals at 400/s; lengths of 64 tokens; a deadline of 200 ms.'
        """
        parts = [self.arrivals.describe(), _describe_lengths(self.replayed or self.lengths)]
        if self.deadline_s is not None:
            parts.append(f"a deadline of {format_duration(self.deadline_s)}")
        if self.patience_s is not None:
            parts.append(f"clients that leave after {format_duration(self.patience_s)}")
        if self.priorities:
            parts.append(f"priorities {', '.join(map(str, sorted(self.priorities)))}")
        return f"{'; '.join(parts)}."


def _for_all(value: float | None, num: int) -> NDArray[np.float64] | None:
    return None if value is None else np.full(num, value)


def _describe_lengths(lengths: tuple[int, ...]) -> str:
    """Say what lengths there are."""
    low, high = min(lengths), max(lengths)
    if low == high:
        return f"lengths of {counted(low, 'token')}"
    return f"lengths of {low:,} to {high:,} tokens, {format_count(float(np.mean(lengths)))} on average"
