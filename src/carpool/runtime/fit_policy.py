"""Making a policy of what was given, and fitting it to the model that it serves."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from carpool.core import Policy
from carpool.errors import ConfigError
from carpool.models.model import Model
from carpool.units import parse_duration_s

_MOST_TOKENS = 8192  # of a ragged batch, up to which its rounding is known; beyond, its sum counts


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
    """Return the policy with what the model says of its batches: whether it pads, and to what.

    Batches are then chosen by what the model really computes. Length buckets and a token budget that the policy names
    stay as they are.

    Args:
        policy: as given.
        model: loaded.
    """
    longest = model.info.max_length
    if model.ragged:
        return replace(
            policy,
            ragged=True,
            token_budget=policy.token_budget or model.preferred_tokens,
            token_buckets=_steps(model.rounded_total, _MOST_TOKENS),
        )
    if policy.length_buckets or not model.has_length or longest is None:
        return policy
    return replace(policy, length_buckets=_steps(model.padded_length, longest))


def _steps(rounded: Callable[[int], int], most: int) -> tuple[int, ...]:
    """Return what the numbers from 1 to `most` are rounded up to, rising; nothing where they all stay as they are."""
    steps, number = [], 1
    while number <= most:
        steps.append(max(number, rounded(number)))
        number = steps[-1] + 1
    return tuple(steps) if len(steps) < most else ()
