"""What batches would cost on another device, or of another model."""

from __future__ import annotations

from dataclasses import dataclass

from carpool.core.cost import CostModel


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedCost:
    """A measured cost, with all times and the fixed part of memory changed.

    Args:
        measured: What batches cost as measured.
        time_factor: Every batch takes so many times as long.
        more_bytes: So much more is held, whatever the batch.

    >>> from carpool.cost.model import Measurement, fit_cost_model
    >>> points = [Measurement(batch_size=b, time_s=0.1 * b, low_s=0.1 * b, high_s=0.1 * b) for b in (1, 2, 4)]
    >>> measured = fit_cost_model(points, measured_on={}).clipped()
    >>> round(ChangedCost(measured=measured, time_factor=0.5).time_s(2, 1), 3)
    0.1
    """

    measured: CostModel
    time_factor: float = 1.0
    more_bytes: float = 0.0

    def time_s(self, batch_size: int, length: int) -> float:
        """Return the predicted seconds of a batch."""
        return self.time_factor * self.measured.time_s(batch_size, length)

    def memory_bytes(self, batch_size: int, length: int) -> float:
        """Return the predicted peak memory of a batch, in bytes."""
        return self.measured.memory_bytes(batch_size, length) + self.more_bytes
