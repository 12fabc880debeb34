"""What a change of the effective batch does to the hyper-parameters, and why: for a person, and for a program."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from carpool.train.scaling.change import Change, WarmUp
from carpool.train.scaling.explain import explain_changes, explain_warm_up


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
        tense = "" if self.applied else ", not applied"
        lines = [f"{self.factor:.6g} times the effective batch, rule {self.rule!r}{tense}:"]
        lines += explain_changes(self.changes) or ["nothing changes"]
        if self.warm_up is not None:
            lines.append(explain_warm_up(self.warm_up))
        lines += [f"note: {note}" for note in self.notes]
        return "\n  ".join(lines)

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
