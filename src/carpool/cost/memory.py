"""Memory over batch size and length: a fixed part, a part for each item and a part for each token, from real probes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from carpool.cost.least_squares import nonnegative
from carpool.errors import ConfigError, OutOfRange

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carpool.cost.points import MemoryPoint


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryFit:
    """Peak bytes of a batch: `m0 + m1 b + m2 b len`, no term negative.

    Args:
        m0_bytes: What the model itself holds.
        m1_bytes: What each item adds, whatever its length.
        m2_bytes: What each padded token adds; 0 where only one length was probed.
        largest_batch_size: Largest batch that was probed and fitted.
        largest_length: Longest length that was probed.
        most_tokens: Most padded tokens (items times length) in one probe.
        error_pct: Median size of the errors made on probes that the fit had not seen, in per cent.
        worst_low: The largest factor by which a probe exceeded the fit (1 where it never did).

    >>> fit = MemoryFit(
    ...     m0_bytes=1000.0,
    ...     m1_bytes=10.0,
    ...     m2_bytes=1.0,
    ...     largest_batch_size=64,
    ...     largest_length=32,
    ...     most_tokens=2048,
    ...     error_pct=0.0,
    ...     worst_low=1.0,
    ... )
    >>> fit.memory_bytes(8, 32), fit.largest_batch(2000.0, 32)
    (1336.0, 23)
    """

    m0_bytes: float
    m1_bytes: float
    m2_bytes: float
    largest_batch_size: int
    largest_length: int
    most_tokens: int
    error_pct: float
    worst_low: float

    def memory_bytes(self, batch_size: int, length: int) -> float:
        """Return the predicted peak of memory, in bytes (no check of any range)."""
        return self.m0_bytes + batch_size * (self.m1_bytes + self.m2_bytes * length)

    def check(self, batch_size: int, length: int) -> None:
        """Refuse a shape larger than any that was probed.

        Raises:
            OutOfRange: Names the shape, the limits and the remedy.
        """
        within = batch_size <= self.largest_batch_size and length <= self.largest_length
        if batch_size < 1 or length < 1 or not within or batch_size * length > self.most_tokens:
            message = (
                f"memory of batch size {batch_size} at length {length} was not measured: probes went up to batch size "
                f"{self.largest_batch_size}, length {self.largest_length} and {self.most_tokens} tokens in a batch; "
                f"profile again with --batch-sizes up to {batch_size} and --lengths up to {length}"
            )
            raise OutOfRange(message)

    def largest_batch(self, limit_bytes: float, length: int) -> int | None:
        """Return the largest probed batch size that stays within a limit, or None where not even one item does.

        Args:
            limit_bytes: Most bytes that a batch may need. The fit's worst under-estimate is held back from it.
            length: Padded length of each item.
        """
        self.check(1, length)
        spare = limit_bytes / self.worst_low - self.m0_bytes
        per_item = self.m1_bytes + self.m2_bytes * length
        probed = min(self.largest_batch_size, self.most_tokens // length)
        if spare < per_item:
            return None
        return probed if per_item <= 0.0 else min(probed, int(spare / per_item))


def fit_memory(points: Sequence[MemoryPoint]) -> MemoryFit:
    """Fit `m0 + m1 b + m2 b len` by non-negative least squares on relative error.

    Args:
        points: Peaks of the shapes that fitted in memory; at least two different ones.

    Raises:
        ConfigError: Fewer than two shapes, or a peak that is not positive.
    """
    _check(points)
    batch_sizes = np.array([float(point.batch_size) for point in points])
    lengths = np.array([float(point.length) for point in points])
    peaks = np.array([float(point.peak_bytes) for point in points])
    columns = [np.ones_like(peaks), batch_sizes]
    if np.unique(lengths).size > 1:
        columns.append(batch_sizes * lengths)
    design = np.stack(columns, axis=1) / peaks[:, None]
    target = np.ones_like(peaks)
    terms = nonnegative(design, target)
    m0, m1, m2 = [*terms.tolist(), 0.0][:3]
    ratios = design @ terms
    rest = ~np.eye(len(points), dtype=bool)
    held_out = np.array([design[i] @ nonnegative(design[rest[i]], target[rest[i]]) for i in range(len(points))])
    return MemoryFit(
        m0_bytes=m0,
        m1_bytes=m1,
        m2_bytes=m2,
        largest_batch_size=int(batch_sizes.max()),
        largest_length=int(lengths.max()),
        most_tokens=int((batch_sizes * lengths).max()),
        error_pct=float(100.0 * np.median(np.abs(held_out - 1.0))),
        worst_low=float(max(1.0, (1.0 / ratios).max())),
    )


def _check(points: Sequence[MemoryPoint]) -> None:
    if len({(point.batch_size, point.length) for point in points}) < 2:  # noqa: PLR2004 - a line needs two points
        message = f"cannot fit a memory model to {len(points)} probe(s): it needs two shapes; probe two batch sizes"
        raise ConfigError(message)
    for point in points:
        if point.batch_size < 1 or point.length < 1 or point.peak_bytes <= 0:
            message = (
                f"cannot fit a memory model to {point.peak_bytes} bytes at batch size {point.batch_size}, "
                f"length {point.length}: all three must be at least 1; drop the probe"
            )
            raise ConfigError(message)
