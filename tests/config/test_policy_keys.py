"""Policies as keys of a file, and changed key by key."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given

from carpool.config.policy_keys import change_policy, policy_table
from carpool.core.policy import Policy
from carpool.errors import ConfigError
from tests.core.strategies import policies


@given(policy=policies())
def test_a_policy_that_is_written_reads_back_as_it_was(policy: Policy) -> None:
    """Key by key, durations and tenants included; what only the model can say is not among them."""
    policy = replace(policy, ragged=False, token_buckets=())
    table = {key: list(value) if isinstance(value, tuple) else value for key, value in _whole(policy).items()}
    assert change_policy(Policy(), table) == policy


def _whole(policy: Policy) -> dict[str, Any]:
    return dict(policy_table(policy, whole=True))


def test_only_what_is_named_changes() -> None:
    """With units."""
    policy = Policy(max_batch_size=8, max_queue=100)
    assert change_policy(policy, {"max_wait": "2ms", "memory_limit": "1KiB"}) == Policy(
        max_batch_size=8, max_queue=100, max_wait_s=0.002, memory_limit_bytes=1024
    )
    assert change_policy(policy, {"tenants": {"paid": 4}}).tenant_weights == {"paid": 4.0}
    assert change_policy(policy, {"length_buckets": "16,32"}, strict=False).length_buckets == (16, 32)
    assert change_policy(policy, {"max_batch_size": "16"}, strict=False).max_batch_size == 16


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_batchsize": 3}, "unknown key 'max_batchsize': did you mean 'max_batch_size'?"),
        ({"max_batch_size": 0}, "max_batch_size is 0; it must be a whole number from 1 to 1048576 (most items"),
        ({"max_batch_size": "16"}, "max_batch_size is '16'; it must be a whole number"),
        ({"max_wait": "soon"}, "max_wait: 'soon' is not a duration"),
        ({"tenants": {"a": 0.0}}, "tenants: the share of 'a' is 0.0; it must be above 0 and finite"),
        ({"batch_size_buckets": [1, 2]}, "batch_size_buckets ends at 2, below max_batch_size 32"),
    ],
)
def test_a_change_that_can_not_be_is_refused(changes: dict[str, Any], message: str) -> None:
    """With the key, the value and what it must be."""
    with pytest.raises(ConfigError) as caught:
        change_policy(Policy(), changes)
    assert str(caught.value).startswith(message)
