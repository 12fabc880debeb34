"""What the integrations share."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from carpool.errors import ConfigError
from carpool.train.batch_plan import BatchPlan
from carpool.train.integrations.host import equal_micro_batches, norm_of
from tests.train.data.strategies import plans


@given(plans())
def test_equal_micro_batches_make_the_effective_batch(plan: BatchPlan) -> None:
    """To the item, with the largest size that the plan allows; or the ranks' shares are said to be unequal."""
    if plan.effective_batch_size % plan.num_ranks:
        with pytest.raises(ConfigError, match="ranks cannot share equally, as this loop wants it: use"):
            equal_micro_batches(plan)
        return
    size, num_steps = equal_micro_batches(plan)
    assert size * num_steps * plan.num_ranks == plan.effective_batch_size
    mine = plan.effective_batch_size // plan.num_ranks
    assert not [larger for larger in range(size + 1, plan.micro_batch_size + 1) if mine % larger == 0]
    assert size <= plan.micro_batch_size


def test_both_effective_batches_nearby_are_named() -> None:
    """The one below and the one above."""
    with pytest.raises(ConfigError, match=r"effective_batch_size is 10, which 4 ranks cannot share .* use 8 or 12"):
        equal_micro_batches(BatchPlan(effective_batch_size=10, micro_batch_size=2, num_ranks=4))


@given(st.floats(0.1, 10))
def test_gradients_are_multiplied_in_place(factor: float) -> None:
    """And their norm is that of what they are then; a parameter without a gradient has none."""
    used, unused = torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(2))
    used.grad = torch.tensor([3.0, 4.0])
    assert norm_of(torch.optim.SGD([used, unused]), factor) == pytest.approx(5 * factor)
    assert used.grad.tolist() == pytest.approx([3 * factor, 4 * factor])
