"""A measured step's cost that follows the pace of the day."""

from __future__ import annotations

import numpy as np
import pytest

from carpool.core.cost import LearningStepTimeModel
from carpool.cost.online import AdaptiveStepCost
from carpool.cost.step_cost import decode_work
from tests.cost.test_step_cost import WORKS, fitted, truth_s


def test_a_profile_is_believed_at_first_and_its_pace_is_learned() -> None:
    """The shape stays the profile's; a time that no clock can tell changes nothing."""
    adaptive, work = AdaptiveStepCost(fitted().clipped()), decode_work(16, 256)
    assert isinstance(adaptive, LearningStepTimeModel)
    assert adaptive.time_s(work) == pytest.approx(truth_s(work))
    for place in np.random.default_rng(0).integers(0, len(WORKS), 300).tolist():
        adaptive.observe(WORKS[place], 1.5 * truth_s(WORKS[place]))
    assert adaptive.drift == pytest.approx(1.5, rel=0.02)
    assert adaptive.time_s(work) == pytest.approx(1.5 * truth_s(work), rel=0.05)
    adaptive.observe(work, 0.0)
    assert adaptive.drift == pytest.approx(1.5, rel=0.02)
