"""The simplest cost, and what counts as a cost model."""

import pytest

from carpool.core.cost import AffineCost, CostModel, LearningTimeModel
from carpool.cost.online import AffineEstimator


def test_affine_cost_counts_padded_tokens() -> None:
    """Overhead once, and so much for each row times length."""
    assert AffineCost(overhead_s=1.0, token_s=0.5).time_s(4, 3) == pytest.approx(7.0)


def test_time_alone_is_no_memory_model() -> None:
    """What predicts time only is told from what predicts memory, and from what learns."""
    cost = AffineCost(overhead_s=1.0, token_s=0.5)
    assert not isinstance(cost, CostModel)
    assert not isinstance(cost, LearningTimeModel)
    assert isinstance(AffineEstimator(), LearningTimeModel)
