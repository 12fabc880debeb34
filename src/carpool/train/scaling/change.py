"""One hyper-parameter that is set anew, and the warm-up that goes with it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One hyper-parameter that is set anew.

    Args:
        name: of it: `lr`, `beta1`, `beta2`, `alpha`, `eps`, `weight_decay` or `ema_decay`.
        group: index of the optimiser's parameter group; None for what belongs to no group.
        before: its value until now.
        after: its value from now on.
        why: the formula, and what stays as it is by it.
        source: the paper that it comes from.
        holds_for: the range in which it was derived or tried.
    """

    name: str
    group: int | None
    before: float
    after: float
    why: str
    source: str
    holds_for: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmUp:
    """A learning rate that rises in a straight line at the start of training.

    Args:
        start_factor: share of the new learning rate that the first step has.
        num_epochs: passes over the data until the whole rate is reached; None where they do not follow.
        num_steps: steps of the optimiser until then, at the new batch size; None where they do not follow.
        why: what it is for.
        source: the paper that it comes from.
    """

    start_factor: float
    num_epochs: float | None
    num_steps: int | None
    why: str
    source: str
