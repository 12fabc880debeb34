"""How long a batch of each shape takes: warmed up, interleaved so that drift hits every shape alike, within a budget.

One *visit* of a shape gives one sample. A short call is made a few times within a visit, after one that is not timed
(the shape before it left its own data in the caches), and the sample is the median of those; a long call is made once.
Every round visits the shapes in another random order. All shapes get at least 5 samples, or 3 where they are long and
the budget is short; then rounds go on with those whose median is still uncertain. What cannot be paid for is dropped,
with the reason, before it is run.

Nothing here reads a clock of its own or knows a model: both come from outside, so that tests run in virtual time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Literal, Protocol

from carpool.errors import CarpoolError, ModelError, OutOfMemory
from carpool.profile.shape import Shape, by_work
from carpool.signals.figures import percentile, percentile_interval
from carpool.units import format_count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import numpy as np

LEAST_SAMPLES, FEWEST_SAMPLES, MOST_SAMPLES = 5, 3, 60
MOST_WARM_UPS = 6
# A call that is slower than the one before by less than this has settled.
SETTLED = 0.9
# A visit fills about this much time with calls, at most so many.
VISIT_S, MOST_CALLS = 0.012, 8
# Above this, what the shape before left in the caches is too small a part of the call to matter.
COLD_MATTERS_S = 0.02
# A median is known well enough once its 95 % interval is within this, relative to it.
NARROW = 0.03
CONFIDENCE = 0.95
NUM_QUANTILES = 101
# Fewer calls than this say little of how calls scatter.
FEWEST_CALLS = 50

DropKind = Literal["budget", "memory", "error"]


class Caller(Protocol):
    """Runs the model on a batch of some shape; the seam at which tests put a model in virtual time."""

    def check_s(self, shape: Shape) -> float:
        """Run once, check that every item got one finite result, and return the seconds of the call.

        Raises:
            CarpoolError: The model raised, ran out of memory, or returned what it must not.
        """

    def times_s(self, shape: Shape, num_calls: int, *, settle: bool) -> list[float]:
        """Run a few times and return the seconds of each call; `settle` runs once more first, untimed."""


@dataclass(slots=True)
class Samples:
    """What is known so far of one shape.

    Args:
        shape: The shape.
        estimate_s: Seconds of its last call while warming up: what it is taken to cost.
        least: Samples that it must have.
        samples_s: One for each visit, in order.
        calls_s: Every timed call.
        num_warm_ups: Calls before the first that was timed.
    """

    shape: Shape
    estimate_s: float
    least: int
    samples_s: list[float] = field(default_factory=list)
    calls_s: list[float] = field(default_factory=list)
    num_warm_ups: int = 0

    @property
    def num_calls(self) -> int:
        """Timed calls in all."""
        return len(self.calls_s)

    @property
    def calls_per_visit(self) -> int:
        """Timed calls that a visit makes."""
        return max(1, min(MOST_CALLS, int(VISIT_S / max(self.estimate_s, 1e-9))))

    @property
    def settles(self) -> bool:
        """Whether a visit begins with a call that is not timed."""
        return self.estimate_s < COLD_MATTERS_S

    @property
    def visit_s(self) -> float:
        """Seconds that a visit is expected to take."""
        return self.estimate_s * (self.calls_per_visit + self.settles)

    @property
    def outstanding_s(self) -> float:
        """Seconds of the visits that this shape must still have."""
        return self.visit_s * max(0, self.least - len(self.samples_s))


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """The median time of one shape.

    Args:
        shape: The shape.
        time_s: Median seconds of a call.
        low_s: Lower end of its confidence interval, an order statistic.
        high_s: Upper end.
        confidence: Probability that the interval covers the median: 0.95, or less with fewer than 6 samples.
        num_samples: Visits, each one sample.
        num_calls: Calls that were timed.
    """

    shape: Shape
    time_s: float
    low_s: float
    high_s: float
    confidence: float
    num_samples: int
    num_calls: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """A shape that was not measured, and why."""

    shape: Shape
    kind: DropKind
    reason: str


@dataclass(slots=True)
class Sweep:
    """All measurements so far; it stays valid whenever the measuring is broken off.

    Args:
        points: Shapes that are being measured.
        dropped: Shapes that are not, with reasons.
    """

    points: list[Samples] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)

    def timings(self) -> list[Timing]:
        """Return the medians of all shapes with a sample, ascending by length and batch size."""
        ordered = sorted(self.points, key=lambda point: (point.shape.length, point.shape.batch_size))
        return [summarise(point) for point in ordered if point.samples_s]

    def drift(self) -> float:
        """Return how much slower the later half of each shape's samples was than the earlier: 0.02 is 2 %."""
        ratios = []
        for point in self.points:
            half = len(point.samples_s) // 2
            if half:
                ratios.append(median(point.samples_s[-half:]) / median(point.samples_s[:half]))
        return median(ratios) - 1.0 if ratios else 0.0

    def call_spread(self) -> tuple[float, ...]:
        """Return quantiles, evenly spaced from 0 to 1, of the time of single calls over the median of their shape.

        Empty where there are too few calls to tell.
        """
        ratios = [
            call_s / median(point.calls_s)
            for point in self.points
            if len(point.calls_s) >= FEWEST_SAMPLES
            for call_s in point.calls_s
        ]
        if len(ratios) < FEWEST_CALLS:
            return ()
        return tuple(round(percentile(ratios, q), 4) for q in range(NUM_QUANTILES))

    @property
    def num_samples(self) -> int:
        """Samples of all shapes."""
        return sum(len(point.samples_s) for point in self.points)

    def require_timings(self, what: str) -> None:
        """Refuse to go on with nothing.

        Args:
            what: What was to be measured, for the message.

        Raises:
            ModelError: No shape has a sample; says what the model did.
        """
        if not self.num_samples:
            reason = self.dropped[0].reason if self.dropped else "none ran"
            raise ModelError(f"no {what} could be measured: {reason}")

    def drop(self, shape: Shape, kind: DropKind, reason: str) -> None:
        """Note that a shape is not measured."""
        self.dropped.append(Dropped(shape=shape, kind=kind, reason=reason))


def summarise(point: Samples) -> Timing:
    """Return the median of a shape's samples and its interval.

    With fewer than 6 samples no two of them enclose the median with 95 %: the whole range is taken, and the
    confidence that it does have, `1 - 2^(1 - n)`, is said.
    """
    samples = point.samples_s
    low, high = percentile_interval(samples, 50, confidence=CONFIDENCE)
    bounded = low is not None and high is not None
    return Timing(
        shape=point.shape,
        time_s=median(samples),
        low_s=low if low is not None else min(samples),
        high_s=high if high is not None else max(samples),
        confidence=CONFIDENCE if bounded else 1.0 - 2.0 ** (1 - len(samples)),
        num_samples=len(samples),
        num_calls=point.num_calls,
    )


def time_shapes(
    shapes: Iterable[Shape],
    caller: Caller,
    *,
    sweep: Sweep,
    clock: Callable[[], float],
    until: float,
    rng: np.random.Generator,
    watch: Callable[[Sweep], None],
) -> None:
    """Warm all shapes up, take the samples that each must have, try what was too dear again, and go on while one may.

    Args:
        shapes: What to measure.
        caller: Runs the model.
        sweep: Where all is noted.
        clock: Seconds from any origin.
        until: When all measuring must be over, on that clock.
        rng: Orders the rounds.
        watch: Told after each shape that was warmed up, and after each visit.
    """
    explore(shapes, caller, sweep=sweep, clock=clock, until=until, watch=watch)
    repeat(caller, sweep=sweep, clock=clock, until=until, rng=rng, only_promised=True, watch=watch)
    # First calls overstate what a shape costs: what seemed too dear is judged again by those that were repeated.
    again = [one.shape for one in sweep.dropped if one.kind == "budget"]
    sweep.dropped = [one for one in sweep.dropped if one.kind != "budget"]
    explore(again, caller, sweep=sweep, clock=clock, until=until, watch=watch)
    repeat(caller, sweep=sweep, clock=clock, until=until, rng=rng, watch=watch)


def explore(
    shapes: Iterable[Shape],
    caller: Caller,
    *,
    sweep: Sweep,
    clock: Callable[[], float],
    until: float,
    watch: Callable[[Sweep], None] = lambda _: None,
) -> None:
    """Warm up every shape, smallest first, and drop those that the budget can't pay for, that fail, or that don't fit.

    Args:
        shapes: What to measure.
        caller: Runs the model.
        sweep: Where points and dropped shapes are noted.
        clock: Seconds from any origin.
        until: When all measuring must be over, on that clock.
        watch: Told after each shape.
    """
    for shape in by_work(set(shapes)):
        blocker = next((one.shape for one in sweep.dropped if one.kind == "memory" and shape.covers(one.shape)), None)
        if blocker is not None:
            sweep.drop(shape, "memory", f"larger than {blocker}, which does not fit")
        else:
            _admit(shape, caller, sweep, clock, until)
        watch(sweep)


def _admit(shape: Shape, caller: Caller, sweep: Sweep, clock: Callable[[], float], until: float) -> None:
    """Warm one shape up if its repeats can be paid for beside those already promised."""
    predicted_s = predict_s(shape, sweep.points)
    spare_s = until - clock() - sum(point.outstanding_s for point in sweep.points)
    least = next((n for n in (LEAST_SAMPLES, FEWEST_SAMPLES) if predicted_s * (n + 1) <= spare_s), None)
    if least is None and sweep.points:
        # In seconds throughout: such reasons stand below one another.
        needed = f"{format_count(predicted_s * (FEWEST_SAMPLES + 1))} s"
        left = f"{format_count(spare_s)} s" if spare_s > 0.0 else "nothing"
        sweep.drop(shape, "budget", f"skipped: would take {needed}, and {left} of the budget was left; raise --budget")
        return
    try:
        sweep.points.append(_warm_up(shape, caller, least or FEWEST_SAMPLES, spare_s))
    except OutOfMemory as error:
        sweep.drop(shape, "memory", str(error))
    except CarpoolError as error:
        sweep.drop(shape, "error", str(error))


def _warm_up(shape: Shape, caller: Caller, least: int, spare_s: float) -> Samples:
    """Run until a call is no longer clearly faster than the one before, at most 6 times and a twentieth of the time."""
    point = Samples(shape=shape, estimate_s=caller.check_s(shape), least=least, num_warm_ups=1)
    spent_s = point.estimate_s
    while point.num_warm_ups < MOST_WARM_UPS and spent_s + point.estimate_s < 0.05 * spare_s:
        (again_s,) = caller.times_s(shape, 1, settle=False)
        settled = again_s >= SETTLED * point.estimate_s
        point.estimate_s = min(again_s, point.estimate_s)
        point.num_warm_ups += 1
        spent_s += again_s
        if settled:
            break
    return point


def predict_s(shape: Shape, points: Sequence[Samples]) -> float:
    """Guess a shape's seconds from the nearest smaller one measured, as if time grew with its tokens; 0 without any."""
    smaller = [point for point in points if shape.covers(point.shape)]
    if not smaller:
        return 0.0
    nearest = max(smaller, key=lambda point: point.shape.num_tokens)
    return nearest.estimate_s * shape.num_tokens / nearest.shape.num_tokens


def repeat(
    caller: Caller,
    *,
    sweep: Sweep,
    clock: Callable[[], float],
    until: float,
    rng: np.random.Generator,
    only_promised: bool = False,
    watch: Callable[[Sweep], None] = lambda _: None,
) -> None:
    """Visit all points round after round, in a new order each time, until all medians are narrow or the time is up.

    Args:
        caller: Runs the model.
        sweep: The points; samples are added to them.
        clock: Seconds from any origin.
        until: When to stop, on that clock.
        rng: Orders the rounds.
        only_promised: Stop when every point has the samples that it must have.
        watch: Told after each visit.
    """
    round_number, visited = 0, True
    while visited or round_number < LEAST_SAMPLES:
        visited = False
        for point in [sweep.points[index] for index in rng.permutation(len(sweep.points))]:
            if _is_due(point, round_number, only_promised=only_promised) and _is_affordable(
                point, sweep, until - clock()
            ):
                _visit(point, caller, sweep)
                visited = True
                watch(sweep)
        round_number += 1


def _is_due(point: Samples, round_number: int, *, only_promised: bool) -> bool:
    """Spread the promised samples evenly over the first rounds; afterwards ask whether the median is narrow."""
    if len(point.samples_s) < point.least:
        return (round_number + 1) * point.least // LEAST_SAMPLES > round_number * point.least // LEAST_SAMPLES
    if only_promised or point.least == 0 or len(point.samples_s) >= MOST_SAMPLES:
        return False
    timing = summarise(point)
    return timing.confidence < CONFIDENCE or timing.high_s - timing.low_s > NARROW * timing.time_s


def _is_affordable(point: Samples, sweep: Sweep, left_s: float) -> bool:
    """Tell whether a visit leaves time for what every other point was promised; the first samples always go ahead."""
    if len(point.samples_s) < min(point.least, FEWEST_SAMPLES):
        return True
    promised_s = sum(other.outstanding_s for other in sweep.points if other is not point)
    return point.visit_s + promised_s <= left_s


def _visit(point: Samples, caller: Caller, sweep: Sweep) -> None:
    """Take one sample; a model that fails now gives no more of this shape, and keeps what it gave."""
    try:
        times_s = caller.times_s(point.shape, point.calls_per_visit, settle=point.settles)
    except CarpoolError as error:
        point.least = 0
        sweep.drop(point.shape, "memory" if isinstance(error, OutOfMemory) else "error", str(error))
        return
    point.samples_s.append(median(times_s))
    point.estimate_s = median(point.samples_s)
    point.calls_s += times_s
