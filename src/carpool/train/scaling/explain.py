"""A report of scaled hyper-parameters in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from carpool.train.scaling.report import Change, ScalingReport, WarmUp


def explain(report: ScalingReport) -> str:
    """Say what changes, why, by whom, and how far it holds.

    Args:
        report: to put in words.
    """
    tense = "" if report.applied else ", not applied"
    lines = [f"{_number(report.factor)} times the effective batch, rule {report.rule!r}{tense}:"]
    lines += _changes(report.changes) or ["  nothing changes"]
    if report.warm_up is not None:
        lines.append(f"  {_warm_up(report.warm_up)}")
    lines += [f"  note: {note}" for note in report.notes]
    return "\n".join(lines)


def _changes(changes: tuple[Change, ...]) -> list[str]:
    alike: dict[tuple[str, float, float, str], list[Change]] = {}
    for change in changes:
        alike.setdefault((change.name, change.before, change.after, change.why), []).append(change)
    num_groups = len({change.group for change in changes if change.group is not None})
    return [line for same in alike.values() for line in _lines(same, num_groups)]


def _lines(same: list[Change], num_groups: int) -> list[str]:
    first = same[0]
    groups = [str(change.group) for change in same if change.group is not None]
    where = f" (group {', '.join(groups)})" if 0 < len(groups) < num_groups else ""
    return [
        f"  {first.name}{where}: {_number(first.before)} -> {_number(first.after)}, {first.why}",
        f"      {first.source}; holds for {first.holds_for}",
    ]


def _warm_up(warm_up: WarmUp) -> str:
    spans = []
    if warm_up.num_epochs is not None:
        spans.append(f"{_number(warm_up.num_epochs)} epochs")
    if warm_up.num_steps is not None:
        spans.append(f"{warm_up.num_steps} steps")
    return (
        f"warm-up: {' = '.join(spans)} in a straight line from {_number(warm_up.start_factor)} of the learning rate, "
        f"{warm_up.why} ({warm_up.source})"
    )


def _number(value: float) -> str:
    return f"{value:.6g}"
