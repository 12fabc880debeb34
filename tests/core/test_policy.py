"""What a policy may be."""

import dataclasses
import math
import re

import numpy as np
import pytest

from carpool.core import Policy
from carpool.errors import ConfigError

WHOLE = "it must be at least 1, a whole number"
SECONDS = "it must be at least 0, in seconds"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("max_batch_size", 0, f"max_batch_size is 0; {WHOLE}"),
        ("max_batch_size", 2.5, f"max_batch_size is 2.5; {WHOLE}"),
        ("max_batch_size", "8", f"max_batch_size is '8'; {WHOLE}"),
        ("max_batch_size", True, f"max_batch_size is True; {WHOLE}"),
        ("look_ahead", 0, f"look_ahead is 0; {WHOLE}"),
        ("max_queue", -1, f"max_queue is -1; {WHOLE}"),
        ("max_batch_size", 10**30, f"max_batch_size is {10**30}; it must be at most 1048576"),
        ("look_ahead", 1 << 21, "look_ahead is 2097152; it must be at most 1048576: run more servers for more"),
        ("max_queue", (1 << 20) + 1, "max_queue is 1048577; it must be at most 1048576"),
        ("token_budget", 0, f"token_budget is 0; {WHOLE}"),
        ("memory_limit_bytes", 0, f"memory_limit_bytes is 0; {WHOLE}"),
        ("max_wait_s", -0.1, f"max_wait_s is -0.1; {SECONDS}"),
        ("max_wait_s", math.nan, f"max_wait_s is nan; {SECONDS}"),
        ("max_wait_s", "5ms", f"max_wait_s is '5ms'; {SECONDS}"),
        ("patience_s", -1, f"patience_s is -1; {SECONDS}"),
        ("ageing_s", -1, f"ageing_s is -1; {SECONDS}"),
        ("length_buckets", (0, 8), "length_buckets is [0, 8]; it must rise from at least 1, as in [16, 32, 64]"),
        ("length_buckets", (8, 8), "length_buckets is [8, 8]; it must rise from at least 1"),
        ("batch_size_buckets", (8, 4), "batch_size_buckets is [8, 4]; it must rise from at least 1"),
        (
            "batch_size_buckets",
            (1, 16),
            "batch_size_buckets ends at 16, below max_batch_size 32: add 32, or lower max_batch_size",
        ),
        ("tenant_weights", {"a": 0}, "tenant_weights has 0 for 'a'; a weight must be above 0 and finite"),
        ("tenant_weights", {"a": math.inf}, "tenant_weights has inf for 'a'; a weight must be above 0 and finite"),
    ],
)
def test_value_out_of_range_is_refused(name: str, value: object, message: str) -> None:
    """The message has the name, the value and the limit."""
    with pytest.raises(ConfigError, match=re.escape(message)):
        Policy(**{name: value})  # type: ignore[arg-type]


def test_defaults_are_valid_and_never_wait() -> None:
    """Nobody waits unless asked to."""
    assert Policy().max_wait_s == 0.0


def test_numbers_of_numpy_are_numbers() -> None:
    """What a search over arrays finds can be used as it is."""
    policy = Policy(max_batch_size=int(np.int64(8)), max_wait_s=np.float64(0.5), token_budget=np.int64(64))  # type: ignore[arg-type]
    assert (policy.max_wait_s, policy.token_budget) == (0.5, 64)


def test_policy_can_not_be_changed() -> None:
    """It is one value; another policy is another value."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        Policy().max_batch_size = 3  # type: ignore[misc]
