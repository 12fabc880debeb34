"""Calls after pauses: what a pause adds is found, beside noise and drift, within a budget."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from carpool.profile.idle import PAUSES_S, IdleTimer
from tests.profile.virtual import VirtualTime

if TYPE_CHECKING:
    from carpool.profile.shape import Shape


class CoolingModel:
    """A model in virtual time whose calls take longer after a pause, up to 4 ms; the machine becomes ever slower."""

    def __init__(self, extra_s: float = 4e-3, noise: float = 0.0) -> None:
        self.time = VirtualTime()
        self.idle_s = 0.0
        self.extra_s = extra_s
        self.noise = noise
        self.rng = np.random.default_rng(0)

    def pause(self, seconds: float) -> None:
        """Let time pass."""
        self.time.now += seconds
        self.idle_s = seconds

    def time_s(self, shape: Shape) -> float:
        """Run one call."""
        seconds = 1e-2 * shape.length * (1 + 0.01 * self.time.now) * float(self.rng.lognormal(0.0, self.noise))
        seconds += self.extra_s * min(1.0, self.idle_s / 0.02)
        self.idle_s = 0.0
        self.time.now += seconds
        return seconds

    def measure(self, budget_s: float = 1e9) -> list[float]:
        """Return what each pause was found to add."""
        timer = IdleTimer(time_s=self.time_s, pause=self.pause, clock=self.time)
        found = timer.measure([1, 2], until=budget_s)
        assert [one.idle_s for one in found] == list(PAUSES_S)[: len(found)]
        return [one.extra_s for one in found]


def test_what_pauses_add_is_found() -> None:
    """0.6, 2 and 4 ms, though the machine drifts and calls scatter by 5 %."""
    assert CoolingModel().measure() == pytest.approx([0.6e-3, 2e-3, 4e-3], abs=0.1e-3)
    assert CoolingModel(noise=0.05).measure() == pytest.approx([0.6e-3, 2e-3, 4e-3], abs=0.6e-3)


def test_a_model_that_does_not_cool_costs_nothing_more() -> None:
    """Noise is not taken for a gain, nor does a longer pause add less than a shorter one."""
    found = CoolingModel(extra_s=0.0, noise=0.02).measure()
    assert 0.0 <= found[0] <= found[1] <= found[2] < 0.5e-3


def test_without_time_for_three_rounds_nothing_is_said() -> None:
    """One round takes a third of a second; with more time there are more rounds, but no more than are of use."""
    model = CoolingModel()
    assert model.measure(budget_s=0.2) == []
    assert model.time.now < 0.5
    patient = CoolingModel()
    patient.measure(budget_s=1.5)
    assert patient.time.now < 1.5
