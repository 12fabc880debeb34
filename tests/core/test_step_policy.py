"""The knobs of continuous batching."""

import re
from typing import Any

import pytest

from carpool.core.step_policy import StepPolicy
from carpool.errors import ConfigError


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"num_slots": 0}, "num_slots is 0; it must be at least 1, a whole number"),
        ({"block_size": 1.5}, "block_size is 1.5; it must be at least 1, a whole number"),
        ({"max_waiting": 1 << 21}, "max_waiting is 2097152; it must be at most 1048576"),
        ({"ageing_s": -1.0}, "ageing_s is -1.0; it must be at least 0, in seconds"),
        ({"tenant_weights": {"a": 0.0}}, "tenant_weights has 0.0 for 'a'"),
        ({"token_budget": 32}, "token_budget is 32, below num_slots 64"),
    ],
)
def test_a_knob_outside_its_range_is_refused(knobs: dict[str, Any], message: str) -> None:
    """The message names the knob, its value and what it may be."""
    with pytest.raises(ConfigError, match=re.escape(message)):
        StepPolicy(**knobs)


def test_a_budget_of_a_token_a_slot_is_enough() -> None:
    """Then every sequence can go on in every step."""
    assert StepPolicy(num_slots=4, token_budget=4).token_budget == 4
