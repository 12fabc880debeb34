"""What a change of the effective batch does to the hyper-parameters, and why: for a person, and for a program."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


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


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingReport:
    """The hyper-parameters that go with another effective batch.

    Args:
        factor: new effective batch over the old one.
        rule: the one that was used: `auto` never stands here.
        changes: what is set anew, group by group; nothing where all stays.
        warm_up: that the rule asks for; None if it asks for none.
        notes: what the numbers do not say: where the range ends, what is left for the user to do.
        applied: whether the optimiser has the new values.
    """

    factor: float
    rule: str
    changes: tuple[Change, ...]
    warm_up: WarmUp | None
    notes: tuple[str, ...]
    applied: bool

    @property
    def warm_up_steps(self) -> int | None:
        """Steps of the optimiser until the whole learning rate is reached; None where they do not follow."""
        return self.warm_up.num_steps if self.warm_up is not None else 0

    @property
    def text(self) -> str:
        """The report in words, a hyper-parameter a line, groups that change alike together."""
        from carpool.train.scaling.explain import explain

        return explain(self)

    def after(self, name: str, group: int | None = 0) -> float | None:
        """The new value of a hyper-parameter; None where it stays.

        Args:
            name: as in `Change`.
            group: index of the parameter group; None for what belongs to no group.
        """
        return next((change.after for change in self.changes if (change.name, change.group) == (name, group)), None)

    def as_dict(self) -> dict[str, Any]:
        """The report as plain values, for JSON."""
        return {**asdict(self), "warm_up_steps": self.warm_up_steps, "text": self.text}
