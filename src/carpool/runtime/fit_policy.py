"""Fitting a policy to the model that it serves."""

from dataclasses import replace

from carpool.core import Policy
from carpool.models.model import Model


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
