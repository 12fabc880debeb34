"""Making a policy of what was given, and fitting it to the model that it serves."""

from dataclasses import replace
from typing import Any

from carpool.core import Policy
from carpool.errors import ConfigError
from carpool.models.model import Model
from carpool.units import parse_duration_s


def make_policy(policy: object, max_batch_size: int | None, max_wait: str | float | None) -> Policy:
    """Return a policy with the two knobs that may be given apart.

    Args:
        policy: a `Policy`, or None for the default.
        max_batch_size: most items in a batch; None leaves it.
        max_wait: the longest wait for company, as in "2ms"; None leaves it.

    Raises:
        ConfigError: it is no policy, or a knob is outside its range.
    """
    if policy is None:
        policy = Policy()
    if not isinstance(policy, Policy):
        raise ConfigError(f"policy is {policy!r}; it must be a carpool.Policy")
    changes: dict[str, Any] = {}
    if max_batch_size is not None:
        changes["max_batch_size"] = max_batch_size
    if max_wait is not None:
        changes["max_wait_s"] = parse_duration_s(max_wait)
    return replace(policy, **changes)


def fit_policy(policy: Policy, model: Model) -> Policy:
    """Return the policy with the model's own length buckets, where the model pads and the policy names none.

    Batches are then chosen by what the model really computes.
    """
    longest = model.info.max_length
    if policy.length_buckets or not model.has_length or longest is None:
        return policy
    buckets, length = [], 1
    while length <= longest:
        padded = max(length, model.padded_length(length))
        buckets.append(padded)
        length = padded + 1
    return replace(policy, length_buckets=tuple(buckets))
