"""Which size to probe next: pure decisions about the largest micro-batch that fits, from the probes made so far.

Peaks of memory grow in a straight line with the micro-batch as a rule, once activations outgrow what the optimiser's
step needs. So the search

1. begins with 1 and 2, and then grows the size by at most a factor of 8, and not beyond 0.9 of what is predicted to
   fit by a line drawn *steeper* than was measured, by the noise of the measure;
2. jumps to 0.9 of the prediction as soon as three points lie on a line (the residual check);
3. probes just below what the line through that point predicts;
4. shows that 5 % more does not fit, or goes on from there. Where a probe fails that should have fitted, it goes on
   between what fits and what does not: where a parabola meets the limit, or in the middle where that does not help.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carpool.train.autosize.result import Probe

TOLERANCE = 0.05
MOST_PROBES = 12
GROWTH = 8
"""Most that a size grows by while the peaks before it do not lie on a line."""
JUMP = 0.9
WORTH_IT = 1.05
"""A jump by less than this factor is none: what is aimed at is next."""
AIM = 0.98
"""Share of the second prediction that is probed: the largest that fits is then within the tolerance either way."""
NOISE_SHARE, NOISE_BYTES = 0.005, 1 << 20
"""What two measurements of one peak may differ by: this share of it, and this much."""
LEVER = 0.6
"""The points that a line is drawn through lie apart by this factor at least, lest noise make its slope."""
STRAIGHT = 0.25
"""Two slopes that differ by less than this share, noise included, are one line."""
ENDLESS = 2.0**62
INNER = 0.1
"""A prediction within a bracket stays this share of it away from both ends."""
STUCK = 2
"""After so many probes on one side of a bracket, its middle is next."""


class _Slopes(NamedTuple):
    """How peaks rise over the three points at the upper end, in bytes an item, and how far apart those are."""

    upper: float
    bend_bytes: float
    noise: float
    upper_span: int
    span: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the probes made so far say.

    Args:
        fits: sizes that fit and their peaks in bytes, ascending.
        too_large: the smallest size that does not fit; None where all did.
        limit_bytes: the most that is allowed.
    """

    fits: tuple[tuple[int, int], ...]
    too_large: int | None
    limit_bytes: int

    @classmethod
    def of(cls, probes: Sequence[Probe], limit_bytes: int) -> Known:
        """Sort what probes found.

        Args:
            probes: in any order.
            limit_bytes: the most that is allowed.
        """
        too_large = min((probe.size for probe in probes if probe.is_too_large), default=None)
        fits = sorted(
            (probe.size, probe.peak_bytes)
            for probe in probes
            if probe.fits and probe.peak_bytes is not None and probe.size < (too_large or math.inf)
        )
        return cls(fits=tuple(fits), too_large=too_large, limit_bytes=limit_bytes)

    @property
    def largest(self) -> int:
        """The largest size that fits; 0 where none does."""
        return self.fits[-1][0] if self.fits else 0

    def predicted(self, *, careful: bool) -> float:
        """Return the size whose peak is the limit, by a line through the largest size and one well below it.

        Args:
            careful: draw the line steeper than was measured, by what the measurement's noise may have hidden.
        """
        size, peak = self.fits[-1]
        lever = self._below(size)
        if lever is None:
            return math.inf
        slope = (peak - lever[1] + careful * _noise(peak)) / (size - lever[0])
        spare = max(0, self.limit_bytes - peak)
        return size + spare / slope if slope > 0.0 else math.inf

    def curved(self) -> float:
        """Return the size whose peak is the limit, by the parabola through three points where it bends upwards."""
        slopes = self._slopes()
        if slopes is None or slopes.bend_bytes <= slopes.noise:
            return self.predicted(careful=False)
        # With x items more than the largest: bend x^2 + slope x = spare.
        size, peak = self.fits[-1]
        bend = slopes.bend_bytes / slopes.span
        slope = slopes.upper + bend * slopes.upper_span
        spare = max(0, self.limit_bytes - peak)
        return size + 2.0 * spare / (slope + math.sqrt(slope * slope + 4.0 * bend * spare))

    def is_straight(self) -> bool:
        """Whether the three points at the upper end lie on a line, as far as can be told through the noise."""
        slopes = self._slopes()
        return slopes is not None and abs(slopes.bend_bytes) + slopes.noise <= STRAIGHT * slopes.upper

    def _slopes(self) -> _Slopes | None:
        size, peak = self.fits[-1]
        lever = self._below(size)
        third = self._below(lever[0]) if lever else None
        if lever is None or third is None:
            return None
        upper_span, lower_span = size - lever[0], lever[0] - third[0]
        upper, lower = (peak - lever[1]) / upper_span, (lever[1] - third[1]) / lower_span
        return _Slopes(upper, upper - lower, _noise(peak) / lower_span, upper_span, size - third[0])

    def _below(self, size: int) -> tuple[int, int] | None:
        return next((point for point in reversed(self.fits) if point[0] <= LEVER * size), None)


def next_size(
    probes: Sequence[Probe],
    *,
    limit_bytes: int,
    most: int,
    tolerance: float = TOLERANCE,
    most_probes: int = MOST_PROBES,
) -> int | None:
    """Return the size to probe next, or None when the search is over.

    Args:
        probes: made so far, in order.
        limit_bytes: the most memory that is allowed.
        most: largest size that is of interest.
        tolerance: share by which a larger size may yet fit when the search ends.
        most_probes: after so many the search ends in any case.

    >>> from carpool.train.autosize.result import Probe
    >>> probes = []
    >>> while (size := next_size(probes, limit_bytes=1000 << 20, most=4096)) is not None:
    ...     peak = (100 + 2 * size) << 20  # 450 fit
    ...     probes.append(Probe(size=size, outcome="fits" if size <= 450 else "does not fit", peak_bytes=peak))
    >>> [probe.size for probe in probes]
    [1, 2, 16, 128, 405, 441, 465]
    """
    if len(probes) >= most_probes:
        return None
    known = Known.of(probes, limit_bytes)
    if not known.fits:
        # A layer that wants two items, such as a batch norm of vectors, fails with one.
        return _first(probes, most)
    if is_over(known, most, tolerance):
        return None
    if known.too_large is not None:
        return _within(known, known.too_large, probes, tolerance)
    return min(most, _larger(known, tolerance))


def _first(probes: Sequence[Probe], most: int) -> int | None:
    if not probes:
        return 1
    return 2 if len(probes) == 1 and probes[0].outcome == "failed" and most > 1 else None


def is_over(known: Known, most: int, tolerance: float = TOLERANCE) -> bool:
    """Whether no larger size of interest can be more than the tolerance above the largest that fits.

    Args:
        known: what is known.
        most: largest size that is of interest.
        tolerance: as a share.
    """
    if known.too_large is None:
        return known.largest >= most
    return known.largest >= (1.0 - tolerance) * (known.too_large - 1)


def _larger(known: Known, tolerance: float) -> int:
    """Return a larger size than all that fit, none having failed."""
    largest = known.largest
    jump = JUMP * known.predicted(careful=False)
    if not known.is_straight():
        factor = GROWTH if len(known.fits) > 1 else 2
        jump = min(factor * largest, max(JUMP * known.predicted(careful=True), min(jump, 2 * largest)))
    if jump >= WORTH_IT * largest:
        return max(largest + 1, int(min(jump, ENDLESS)))
    return _aimed(known, known.predicted(careful=False), tolerance)


def _aimed(known: Known, predicted: float, tolerance: float) -> int:
    """Return the size just below the one predicted; where that was probed, the first one whose failure ends it all."""
    closing = int(known.largest / (1.0 - tolerance)) + 1
    aim = AIM * predicted
    return int(aim) if closing < aim < ENDLESS else closing


def _within(known: Known, too_large: int, probes: Sequence[Probe], tolerance: float) -> int:
    """Return a size between what fits and what does not."""
    low, high = known.largest, too_large
    middle = max(low + 1, min(high - 1, round(math.sqrt(low * high))))
    sides = [probe.outcome for probe in probes[-STUCK:]]
    inner = INNER * (high - low)
    predicted = known.curved()
    aimed = _aimed(known, predicted, tolerance)
    is_stuck = len(set(sides)) == 1 and len(sides) == STUCK
    # A prediction beyond what is known not to fit foretells nothing.
    if is_stuck or AIM * predicted > high or not low + inner <= aimed <= high - inner:
        return middle
    return aimed


def _noise(peak_bytes: float) -> float:
    return NOISE_BYTES + NOISE_SHARE * peak_bytes
