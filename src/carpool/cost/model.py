"""The cost model: predicted seconds and bytes of a batch, the range they hold for, and how wrong they may be."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import exp, sqrt
from typing import TYPE_CHECKING

import numpy as np

from carpool.cost.memory import MemoryFit, fit_memory
from carpool.cost.points import Z_95, Measurement, MemoryPoint, check_measurement, merged
from carpool.cost.surface import Candidate, Surface, candidates, choose
from carpool.errors import ConfigError, OutOfRange

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from carpool.cost.curve import Split

__all__ = ["ClippedCostModel", "CostModel", "Measurement", "MemoryPoint", "fit_cost_model"]

KNEE_SHARE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class CostModel:
    """What a batch costs on the machine where it was measured.

    Args:
        kind: Form of the fit: `linear`, `hinge`, `step`, `isotonic`, `encoder`, or `rows of` the first four.
        surface: The fitted function itself.
        batch_sizes: Batch sizes that were measured, ascending.
        lengths: Lengths that were measured, ascending; `(1,)` where lengths mean nothing.
        largest_batch_sizes: For each length, the largest batch size measured at it.
        error_pct: Median size of the errors made on points that the fit had not seen, in per cent.
        worst_error_pct: The largest of them.
        worst_error_at: Batch size and length of the point where it was made.
        residual_sd: Standard deviation of the fit's error, relative to the time.
        measurement_sd: Median standard error of the measurements, relative to the time.
        scores_pct: Mean held-out error of every form that was tried, in per cent.
        memory: The fit to the peaks of memory, where any were measured.
        measured_on: Device, dtype, threads, versions: what the numbers hold for.
    """

    kind: str
    surface: Surface
    batch_sizes: tuple[int, ...]
    lengths: tuple[int, ...]
    largest_batch_sizes: tuple[int, ...]
    error_pct: float
    worst_error_pct: float
    worst_error_at: tuple[int, int]
    residual_sd: float
    measurement_sd: float
    scores_pct: dict[str, float] = field(default_factory=dict)
    memory: MemoryFit | None = None
    measured_on: dict[str, str] = field(default_factory=dict)

    def time_s(self, batch_size: int, length: int | None = None) -> float:
        """Return the predicted seconds of a batch.

        Args:
            batch_size: Items in the batch.
            length: Padded length of each; may be left out where one length was measured.

        Raises:
            OutOfRange: The shape lies outside what was measured.
            ConfigError: No length was given, and several were measured.
        """
        length = self.known_length(length)
        self.check(batch_size, length)
        return self.surface.time_s(batch_size, length)

    def time_interval_s(self, batch_size: int, length: int | None = None) -> tuple[float, float]:
        """Return the seconds that 95 % of such medians should lie between: error of fit and of measurement together.

        Raises:
            OutOfRange: The shape lies outside what was measured.
        """
        time_s = self.time_s(batch_size, length)
        factor = exp(Z_95 * sqrt(self.residual_sd**2 + self.measurement_sd**2))
        return time_s / factor, time_s * factor

    def throughput(self, batch_size: int, length: int | None = None) -> float:
        """Return items a second when such batches follow one another."""
        return batch_size / self.time_s(batch_size, length)

    def speedup(self, batch_size: int, length: int | None = None) -> float:
        """Return the throughput beside that of single items, `b t(1) / t(b)`."""
        return batch_size * self.time_s(1, length) / self.time_s(batch_size, length)

    def speedup_limit(self, length: int | None = None) -> float:
        """Return what the speed-up tends to as batches grow, `t(1) / c`: `1 + a/c` where the fit is linear."""
        per_item_s = self._split(length).per_item_s
        return self.time_s(1, length) / per_item_s if per_item_s > 0.0 else float("inf")

    def overhead_share(self, batch_size: int, length: int | None = None) -> float:
        """Return the share of a batch's time that its items share, `1 - c b / t(b)`: `a / (a + c b)` where linear."""
        time_s = self.time_s(batch_size, length)
        return max(0.0, 1.0 - self._split(length).per_item_s * batch_size / time_s)

    def batch_for_fraction(self, fraction: float, length: int | None = None) -> float:
        """Return the batch size that reaches a fraction of the limit of throughput: `f / (1 - f) a / c` where linear.

        Args:
            fraction: Share of the limit, from 0 to below 1.
            length: Padded length of each item.

        Returns:
            A batch size, not rounded; it may lie beyond the measured range, and is infinite where items cost nothing.

        Raises:
            ConfigError: The fraction is not in [0, 1).
        """
        if not 0.0 <= fraction < 1.0:
            message = f"fraction {fraction} of the peak cannot be reached: give one from 0 to below 1, such as 0.9"
            raise ConfigError(message)
        return self._split(length).batch_for_fraction(fraction)

    def knee(self, length: int | None = None, *, share: float = KNEE_SHARE) -> int:
        """Return the smallest batch size within the range whose throughput is at least `share` of the best there.

        The fits never fall as batches grow, so the throughput compared is already smoothed. For a fit through knots
        (isotonic) the straight lines between them are read at whole batch sizes.
        """
        length = self.known_length(length)
        sizes = range(self.batch_sizes[0], self.largest_batch_at(length) + 1)
        throughputs = np.array([size / self.surface.time_s(size, length) for size in sizes])
        return sizes[int(np.argmax(throughputs >= share * throughputs.max()))]

    def memory_bytes(self, batch_size: int, length: int | None = None) -> float:
        """Return the predicted peak of memory of a batch, in bytes.

        Raises:
            OutOfRange: Memory was not measured, or not for shapes so large.
        """
        length, memory = self.known_length(length), self._known_memory()
        memory.check(batch_size, length)
        return memory.memory_bytes(batch_size, length)

    def largest_batch(self, limit_bytes: float, length: int | None = None) -> int | None:
        """Return the largest probed batch size within a limit of memory, or None where not even one item fits.

        Args:
            limit_bytes: Most bytes that a batch may need.
            length: Padded length of each item.

        Raises:
            OutOfRange: Memory was not measured, or not at this length.
        """
        return self._known_memory().largest_batch(limit_bytes, self.known_length(length))

    def clipped(self) -> ClippedCostModel:
        """Return the same model for a scheduler: it answers for every shape, by straight lines outside the range."""
        return ClippedCostModel(model=self)

    def largest_batch_at(self, length: int) -> int:
        """Return the largest batch size covered at a length: between two measured lengths, the smaller of theirs."""
        pairs = list(zip(self.lengths, self.largest_batch_sizes, strict=True))
        below = [size for measured, size in pairs if measured <= length]
        above = [size for measured, size in pairs if measured >= length]
        if not below or not above:
            message = (
                f"length {length} is outside the measured range {self.lengths[0]} to {self.lengths[-1]}: "
                f"profile again with --lengths {'up to' if above == [] else 'from'} {length}"
            )
            raise OutOfRange(message)
        return min(below[-1], above[0])

    def check(self, batch_size: int, length: int) -> None:
        """Refuse a shape outside what was measured.

        Raises:
            OutOfRange: Names the value, the range and the remedy.
        """
        largest, smallest = self.largest_batch_at(length), self.batch_sizes[0]
        if not smallest <= batch_size <= largest:
            message = (
                f"batch size {batch_size} is outside the measured range {smallest} to {largest} at length {length}: "
                f"profile again with --batch-sizes {'up to' if batch_size > largest else 'from'} {max(1, batch_size)}"
            )
            raise OutOfRange(message)

    def known_length(self, length: int | None) -> int:
        """Return the length meant: the one given, or else the only one measured.

        Raises:
            ConfigError: None was given, and several were measured.
        """
        if length is not None:
            return length
        if len(self.lengths) > 1:
            raise ConfigError(
                f"a length is needed: the model was measured at lengths {self.lengths}; give one of that range"
            )
        return self.lengths[0]

    def _known_memory(self) -> MemoryFit:
        if self.memory is None:
            message = "memory was not measured, so it cannot be predicted: profile again with memory probes"
            raise OutOfRange(message)
        return self.memory

    def _split(self, length: int | None) -> Split:
        length = self.known_length(length)
        self.largest_batch_at(length)
        return self.surface.split(length)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClippedCostModel:
    """A cost model that answers for every shape and never raises: what a scheduler needs of one.

    Inside the measured range it says what the model says. A smaller batch or shorter length counts as the smallest
    measured one (never too fast a promise); beyond the largest, time goes on along the line through the largest and
    half of it. Memory that was not measured counts as 0: it limits nothing.
    """

    model: CostModel
    _known_s: dict[tuple[int, int], float] = field(default_factory=dict, init=False, repr=False, compare=False)

    def time_s(self, batch_size: int, length: int) -> float:
        """Return the predicted seconds of a batch of any shape; a scheduler asks for the same few again and again."""
        known_s = self._known_s.get((batch_size, length))
        if known_s is None:
            known_s = self._known_s[batch_size, length] = self._predict_s(batch_size, length)
        return known_s

    def _predict_s(self, batch_size: int, length: int) -> float:
        lengths = self.model.lengths
        longest = lengths[-1]
        if length <= longest:
            return self._at_length(batch_size, max(length, lengths[0]))
        half = max(longest // 2, lengths[0])
        whole_s = self._at_length(batch_size, longest)
        if half == longest:
            return whole_s * length / longest
        slope = max(0.0, whole_s - self._at_length(batch_size, half)) / (longest - half)
        return whole_s + slope * (length - longest)

    def _at_length(self, batch_size: int, length: int) -> float:
        surface, smallest = self.model.surface, self.model.batch_sizes[0]
        largest = self.model.largest_batch_at(length)
        if batch_size <= largest:
            return surface.time_s(max(batch_size, smallest), length)
        half = max(largest // 2, smallest)
        whole_s = surface.time_s(largest, length)
        if half == largest:
            return whole_s * batch_size / largest
        slope = max(0.0, whole_s - surface.time_s(half, length)) / (largest - half)
        return whole_s + slope * (batch_size - largest)

    def memory_bytes(self, batch_size: int, length: int) -> float:
        """Return the predicted peak of memory in bytes, 0 where none was measured."""
        memory = self.model.memory
        return 0.0 if memory is None else memory.memory_bytes(batch_size, length)


def fit_cost_model(
    points: Sequence[Measurement],
    memory_points: Sequence[MemoryPoint] = (),
    *,
    measured_on: Mapping[str, str],
) -> CostModel:
    """Fit every form to the measurements and keep the one that best predicts points it has not seen.

    Args:
        points: Times of several batch sizes, in any order; at least one length needs two.
        memory_points: Peaks of memory, of at least two shapes; none leaves memory unknown.
        measured_on: What the numbers hold for: device, dtype, threads, versions.

    Raises:
        ConfigError: Too few points, or a point that cannot be true.

    >>> points = [
    ...     Measurement(batch_size=b, time_s=2e-3 + 1e-3 * b, low_s=2e-3 + 1e-3 * b, high_s=2e-3 + 1e-3 * b)
    ...     for b in (1, 2, 4, 8, 16)
    ... ]
    >>> model = fit_cost_model(points, measured_on={"device": "cpu"})
    >>> model.kind, round(model.time_s(10), 6), round(model.speedup_limit(), 3), model.knee()
    ('linear', 0.012, 3.0, 11)
    """
    for point in points:
        check_measurement(point)
    ordered = merged(points)
    _check_enough(ordered)
    tried = candidates(ordered)
    chosen = choose(tried)
    sizes = np.abs(np.expm1(chosen.held_out))
    lengths = tuple(sorted({point.length for point in ordered}))
    return CostModel(
        kind=chosen.name,
        surface=chosen.surface,
        batch_sizes=tuple(sorted({point.batch_size for point in ordered})),
        lengths=lengths,
        largest_batch_sizes=tuple(max(p.batch_size for p in ordered if p.length == length) for length in lengths),
        error_pct=float(100.0 * np.median(sizes)),
        worst_error_pct=float(100.0 * sizes.max()),
        worst_error_at=chosen.worst,
        residual_sd=_residual_sd(chosen, ordered),
        measurement_sd=float(np.median([point.relative_sd for point in ordered])),
        scores_pct={candidate.name: 100.0 * candidate.score for candidate in tried},
        memory=fit_memory(memory_points) if memory_points else None,
        measured_on=dict(measured_on),
    )


def _check_enough(points: Sequence[Measurement]) -> None:
    """Refuse measurements that nowhere say what one more item costs."""
    if len(points) == len({point.length for point in points}):
        shapes = ", ".join(f"{point.batch_size} x {point.length}" for point in points) or "nothing"
        raise ConfigError(
            f"cannot fit a cost model to {shapes} (batch size x length): at least one length needs two batch sizes; "
            "profile with --batch-sizes 1,2,4,8 or more"
        )


def _residual_sd(chosen: Candidate, points: Sequence[Measurement]) -> float:
    """Return the relative standard deviation of the fit: the larger of what fitted points and unseen ones say.

    The first counts degrees of freedom, and is near 0 for a form that passes through its points; the second is not.
    """
    predicted = np.array([chosen.surface.time_s(point.batch_size, point.length) for point in points])
    residuals = np.log(predicted / np.array([point.time_s for point in points]))
    freedom = max(1, len(points) - chosen.num_params)
    fitted_sd = sqrt(float((residuals**2).sum()) / freedom)
    return max(fitted_sd, sqrt(float(np.mean(chosen.held_out**2))))
