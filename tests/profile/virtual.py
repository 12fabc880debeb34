"""A model in virtual time: its calls take what a formula says, and no time passes for anything else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from carpool.profile.memory import Answer
from carpool.profile.shape import Shape


@dataclass(slots=True)
class VirtualTime:
    """Seconds that pass only when told to."""

    now: float = 0.0

    def __call__(self) -> float:
        """Return the seconds that have passed."""
        return self.now


@dataclass(slots=True)
class VirtualCaller:
    """Makes calls that take what a formula says; counts them; fails where told to.

    Args:
        time: What passes.
        cost_s: Seconds of a call, by its shape and the seconds that have passed.
        fail: Raises for shapes that fail, given the number of calls so far.
    """

    time: VirtualTime
    cost_s: Callable[[Shape, float], float]
    fail: Callable[[Shape, int], None] = lambda shape, num_calls: None
    calls: list[Shape] = field(default_factory=list)
    visits: list[Shape] = field(default_factory=list)

    def check_s(self, shape: Shape) -> float:
        """Run once."""
        return self._run(shape)

    def times_s(self, shape: Shape, num_calls: int, *, settle: bool) -> list[float]:
        """Run a few times."""
        self.visits.append(shape)
        return [self._run(shape) for _ in range(num_calls + settle)][settle:]

    def _run(self, shape: Shape) -> float:
        self.fail(shape, len(self.calls))
        self.calls.append(shape)
        seconds = self.cost_s(shape, self.time.now)
        self.time.now += seconds
        return seconds


@dataclass(slots=True)
class VirtualProber:
    """Answers for shapes by a formula of their memory, and dies of those beyond a size.

    Args:
        time: What passes.
        peak_bytes: Bytes of a shape.
        dies_of: Whether the process dies of a shape.
    """

    time: VirtualTime
    peak_bytes: Callable[[Shape], int]
    dies_of: Callable[[Shape], bool] = lambda shape: False
    asked: list[Shape] = field(default_factory=list)

    def ask(self, shape: Shape, *, timeout_s: float, limit_bytes: int) -> Answer:
        """Answer by the formula."""
        self.asked.append(shape)
        self.time.now += 0.01 * shape.num_tokens
        if self.dies_of(shape):
            return Answer(error="the process was killed (SIGKILL)", out_of_memory=True, died=True)
        return Answer(peak_bytes=self.peak_bytes(shape), seconds=0.01 * shape.num_tokens)
