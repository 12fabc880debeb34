"""Which of the waiting items form the next batch.

The first in the order of service is always a member, so nobody starves. The others are those near it in length for
which the batch does most items per predicted second: padding is then paid for only where it brings more than it costs.
"""

import math
from dataclasses import dataclass

from carpool.core.batch import Reason
from carpool.core.budget import Budget
from carpool.core.item import Item

_FREE = 1.01  # a batch that takes at most 1 % longer counts as taking no longer


@dataclass(slots=True)
class Choice:
    """The members of the next batch, shortest first; `bound` names the limit that it reached, if any."""

    items: list[Item]
    length: int
    bound: Reason | None

    def slack_s(self, now: float) -> float:
        """Return the seconds that are left to the tightest deadline."""
        return min(item.deadline_at for item in self.items) - now


def choose(candidates: list[Item], budget: Budget, now: float) -> Choice:
    """Choose a batch among candidates (at least one), the first of which must be in it."""
    foreground = [item for item in candidates if not _is_background(item, budget.policy.ageing_s, now)]
    choice = _choose_by_length(foreground or candidates, budget)
    choice = _keep_deadlines(choice, (foreground or candidates)[0], budget, now)
    if foreground and len(foreground) < len(candidates) and choice.bound is None:
        taken = set(map(id, choice.items))
        _fill(choice, [item for item in candidates if id(item) not in taken], budget)
    return choice


def _is_background(item: Item, ageing_s: float, now: float) -> bool:
    return item.priority < 0 and now - item.arrived_at < -item.priority * ageing_s


def _choose_by_length(candidates: list[Item], budget: Budget) -> Choice:
    anchor = candidates[0]
    shortest, longest = _extremes(candidates)
    padded = budget.padded_length(longest)
    if padded == budget.padded_length(shortest):
        return _first_of_one_length(candidates, padded, budget)
    ordered = sorted(candidates, key=lambda item: item.length)  # stable: first come first among equals
    position = next(index for index, item in enumerate(ordered) if item is anchor)
    best, best_rate = None, -math.inf
    for start, stop, padded in _windows(ordered, position, budget):
        rate = (stop - start) / max(budget.time_s(stop - start, padded), 1e-12)
        if rate > best_rate:
            best, best_rate = (start, stop, padded), rate
    assert best is not None
    start, stop, padded = best
    return Choice(ordered[start:stop], padded, _bound(stop - start, len(candidates), padded, budget))


def _extremes(candidates: list[Item]) -> tuple[int, int]:
    lengths = {item.length for item in candidates}
    return min(lengths), max(lengths)


def _first_of_one_length(candidates: list[Item], padded: int, budget: Budget) -> Choice:
    most, _ = budget.most_items(padded)
    count = _cheapest_count(min(most, len(candidates)), padded, budget)
    return Choice(candidates[:count], padded, _bound(count, len(candidates), padded, budget))


def _windows(ordered: list[Item], position: int, budget: Budget) -> list[tuple[int, int, int]]:
    """Return the fullest (start, stop, padded) around the anchor, for each padded length from the anchor's up."""
    windows = []
    stop = position
    while stop < len(ordered):
        padded = budget.padded_length(ordered[stop].length)
        end_of_group = stop + 1
        while end_of_group < len(ordered) and budget.padded_length(ordered[end_of_group].length) == padded:
            end_of_group += 1
        most, _ = budget.most_items(padded)
        first_of_group, stop = stop, min(end_of_group, position + most)
        if stop > first_of_group:
            count = _cheapest_count(min(most, stop), padded, budget)
            start = min(max(0, stop - count), position)
            windows.append((start, min(stop, start + count), padded))
        stop = end_of_group
    return windows


def _cheapest_count(most: int, padded: int, budget: Budget) -> int:
    """Return `most`, or the largest allowed batch size below it where running fewer rows does more items a second."""
    below = max((bucket for bucket in budget.policy.batch_size_buckets if bucket <= most), default=most)
    if below == most or most / budget.time_s(most, padded) >= below / budget.time_s(below, padded):
        return most
    return below


def _bound(count: int, num_candidates: int, padded: int, budget: Budget) -> Reason | None:
    most, reason = budget.most_items(padded)
    if count >= most:
        return reason
    return Reason.BUDGET if count < num_candidates else None


def _keep_deadlines(choice: Choice, anchor: Item, budget: Budget, now: float) -> Choice:
    """Leave out members so that the tightest deadline that can still be met is met."""
    limit_s = min((item.deadline_at - now for item in choice.items if _can_be_met(item, budget, now)), default=math.inf)
    if limit_s == math.inf or budget.time_s(len(choice.items), choice.length) <= limit_s:
        return choice
    most = budget.most_within(limit_s, choice.length, len(choice.items))
    by_urgency = sorted(choice.items, key=lambda item: (item is not anchor, item.due_at, item.sequence))
    kept = sorted(by_urgency[:most], key=lambda item: item.length)
    return Choice(kept, budget.padded_length(kept[-1].length), Reason.BUDGET)


def _can_be_met(item: Item, budget: Budget, now: float) -> bool:
    if item.deadline_at == math.inf:
        return False
    return now + budget.time_s(1, budget.padded_length(item.length)) <= item.deadline_at


def _fill(choice: Choice, background: list[Item], budget: Budget) -> None:
    """Add background items where the padding would otherwise have been wasted: the batch takes no longer for them."""
    most, reason = budget.most_items(choice.length)
    free_s = budget.time_s(len(choice.items), choice.length) * _FREE
    for item in background:
        if len(choice.items) >= most:
            choice.bound = reason
            return
        if budget.padded_length(item.length) <= choice.length and (
            budget.time_s(len(choice.items) + 1, choice.length) <= free_s
        ):
            choice.items.append(item)
