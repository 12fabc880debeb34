"""Scaled hyper-parameters in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from carpool.train.scaling.change import Change, WarmUp


def explain_changes(changes: tuple[Change, ...]) -> list[str]:
    """Say what changes, why, by whom, and how far it holds; groups that change alike stand together.

    Args:
        changes: of all groups.
    """
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
        f"{first.name}{where}: {_number(first.before)} -> {_number(first.after)}, {first.why}",
        f"    {first.source}; holds for {first.holds_for}",
    ]


def explain_warm_up(warm_up: WarmUp) -> str:
    """Say how the learning rate rises at first, and why.

    Args:
        warm_up: to put in words.
    """
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
