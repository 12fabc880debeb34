"""Which shapes fit in memory, and what they need: every probe runs in another process, whose death is an answer too.

One process probes several shapes, smallest first, and reports each as soon as it is known, so that its death costs no
result. A shape does not fit when the process dies of it, when it raises for want of memory, when it passes the limit
while it runs (the process is then ended), or when the probes before it predict that it would. Larger shapes are then
not tried; the search goes on with the others, in a new process where the old one died.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from carpool.cost.memory import fit_memory
from carpool.cost.points import MemoryPoint
from carpool.profile.shape import Shape, by_work
from carpool.units import counted, format_bytes, format_durations

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

MOST_DEATHS = 4
# A model of memory needs so many probes before its word counts.
PROBES_TO_PREDICT = 3

Outcome = Literal["fits", "does not fit", "not probed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a process said of one shape.

    Args:
        peak_bytes: The most memory that it held while it ran the shape; None where it did not get through.
        seconds: How long the call took.
        error: Why it did not get through; empty where it did.
        out_of_memory: Whether that was for want of memory.
        died: Whether the process is gone.
    """

    peak_bytes: int | None = None
    seconds: float = 0.0
    error: str = ""
    out_of_memory: bool = False
    died: bool = False


class Prober(Protocol):
    """Runs shapes in another process; the seam at which tests put made-up ones."""

    def ask(self, shape: Shape, *, timeout_s: float, limit_bytes: int) -> Answer:
        """Run one shape; a process that died before is replaced by a new one first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What is known of one shape's memory.

    Args:
        batch_size: Items.
        length: Padded tokens of each.
        outcome: `fits`, `does not fit` or `not probed`.
        peak_bytes: Peak of the process, model and libraries included; None unless it fits.
        reason: Why it does not fit or was not probed.
    """

    batch_size: int
    length: int
    outcome: Outcome
    peak_bytes: int | None = None
    reason: str = ""

    @property
    def shape(self) -> Shape:
        """The shape."""
        return Shape(self.batch_size, self.length)


def shapes_to_probe(batch_sizes: Sequence[int], lengths: Sequence[int]) -> list[Shape]:
    """Span the range: the shortest and longest length, and every second batch size from the largest down."""
    sizes = {*sorted(batch_sizes)[::-2], min(batch_sizes)}
    return by_work({Shape(size, length) for size in sizes for length in {min(lengths), max(lengths)}})


class Search:
    """Probes shapes in order, within a limit of memory and of time; what it found stays when it is broken off.

    Args:
        prober: Runs a shape elsewhere.
        limit_bytes: The most that a shape may need.
        limit_source: Who says so.
        clock: Seconds from any origin.
        until: When to stop, on that clock.
    """

    def __init__(
        self, prober: Prober, *, limit_bytes: int, limit_source: str, clock: Callable[[], float], until: float
    ) -> None:
        self.probes: list[Probe] = []
        self._prober = prober
        self._limit_bytes, self._limit_source = limit_bytes, limit_source
        self._clock, self._until = clock, until
        self._deaths = 0
        self._slowest_s_per_token = 0.0

    def run(self, shapes: Iterable[Shape]) -> list[Probe]:
        """Probe shapes, least work first."""
        for shape in by_work(set(shapes)):
            reason = self._misfit(shape)
            if reason:
                self._note(shape, "does not fit", reason=reason)
            elif skipped := self._unaffordable(shape):
                self._note(shape, "not probed", reason=skipped)
            else:
                self._ask(shape)
        return self.probes

    def points(self) -> list[MemoryPoint]:
        """Return the peaks that were measured."""
        return memory_points(self.probes)

    def _misfit(self, shape: Shape) -> str:
        """Say why a shape can't fit, by the probes before it; empty where it may."""
        smaller = [probe for probe in self.probes if probe.outcome == "does not fit" and shape.covers(probe.shape)]
        if smaller:
            return f"larger than {smaller[0].shape}, which does not fit"
        points = self.points()
        if len(points) < PROBES_TO_PREDICT:
            return ""
        predicted = fit_memory(points).memory_bytes(shape.batch_size, shape.length)
        if predicted <= self._limit_bytes:
            return ""
        return f"would pass the limit: {format_bytes(predicted)} predicted, {self._limit()}"

    def _unaffordable(self, shape: Shape) -> str:
        """Say why a shape is not probed for want of time; empty where it can be."""
        if self._deaths >= MOST_DEATHS:
            return f"{counted(self._deaths, 'process')} had died of other shapes"
        left_s, needed_s = self._until - self._clock(), self._slowest_s_per_token * shape.num_tokens
        if left_s <= 0.0 or needed_s > left_s:
            needed, left = format_durations(needed_s, max(0.0, left_s))
            return f"would take {needed}, and {left} was left; raise --budget"
        return ""

    def _ask(self, shape: Shape) -> None:
        left_s = self._until - self._clock()
        answer = self._prober.ask(shape, timeout_s=max(1.0, left_s), limit_bytes=self._limit_bytes)
        self._deaths += answer.died
        if answer.peak_bytes is None:
            outcome: Outcome = "does not fit" if answer.out_of_memory else "not probed"
            self._note(shape, outcome, reason=answer.error)
            return
        # Only calls large enough not to be all overhead say how long a larger one takes.
        self._slowest_s_per_token = answer.seconds / shape.num_tokens
        if answer.peak_bytes > self._limit_bytes:
            reason = f"passed the limit: {format_bytes(answer.peak_bytes)} needed, {self._limit()}"
            self._note(shape, "does not fit", reason=reason)
        else:
            self._note(shape, "fits", peak_bytes=answer.peak_bytes)

    def _limit(self) -> str:
        return f"{format_bytes(self._limit_bytes)} allowed ({self._limit_source})"

    def _note(self, shape: Shape, outcome: Outcome, *, peak_bytes: int | None = None, reason: str = "") -> None:
        self.probes.append(
            Probe(
                batch_size=shape.batch_size, length=shape.length, outcome=outcome, peak_bytes=peak_bytes, reason=reason
            )
        )


def memory_points(probes: Iterable[Probe]) -> list[MemoryPoint]:
    """Return the peaks of the shapes that fit."""
    return [
        MemoryPoint(batch_size=probe.batch_size, length=probe.length, peak_bytes=probe.peak_bytes)
        for probe in probes
        if probe.peak_bytes is not None
    ]


def why_unfit(shape: Shape, probes: Sequence[Probe], *, limit_bytes: int | None) -> str:
    """Say why a shape must not be run in this process; empty where the probes let it.

    Args:
        shape: The shape.
        probes: What was found.
        limit_bytes: The most that a shape may need; None for no limit.
    """
    for probe in probes:
        if probe.outcome == "does not fit" and shape.covers(probe.shape):
            return probe.reason if probe.shape == shape else f"larger than {probe.shape}, which does not fit"
    points = memory_points(probes)
    if limit_bytes is None or len(points) < PROBES_TO_PREDICT:
        return ""
    predicted = fit_memory(points).memory_bytes(shape.batch_size, shape.length)
    if predicted <= limit_bytes:
        return ""
    return f"would pass the limit: {format_bytes(predicted)} predicted, {format_bytes(limit_bytes)} allowed"
