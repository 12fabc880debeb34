"""Which of the waiting items form the next batch.

The waiting items are cut by length into batches that take least predicted time in all; the first in the order of
service is always a member of the one that leaves, so nobody starves. Padding is thus paid only where it costs less than
another call.
"""

import math
from dataclasses import dataclass
from itertools import islice

from carpool.core.batch import Reason
from carpool.core.budget import Budget
from carpool.core.item import Item
from carpool.core.partition import cut

_FREE = 1.01  # a batch that takes at most 1 % longer counts as taking no longer


@dataclass(slots=True)
class Choice:
    """The members of the next batch, and what they are padded to; `bound` names the limit that it reached, if any."""

    items: list[Item]
    length: int
    bound: Reason | None

    def slack_s(self, now: float) -> float:
        """Return the seconds that are left to the tightest deadline."""
        return min(item.deadline_at for item in self.items) - now


def choose(candidates: list[Item], budget: Budget, now: float) -> Choice:
    """Choose a batch among candidates in the order of service (at least one).

    The first that is not background work is a member; the first of all, where all are background work.
    """
    foreground = [item for item in candidates if not _is_background(item, budget.policy.ageing_s, now)]
    choice = _choose_by_length(foreground or candidates, budget)
    choice = _keep_deadlines(choice, foreground or candidates, budget, now)
    if foreground and len(foreground) < len(candidates) and choice.bound is None:
        taken = set(map(id, choice.items))
        _fill(choice, [item for item in candidates if id(item) not in taken], budget, now)
    return choice


def _is_background(item: Item, ageing_s: float, now: float) -> bool:
    return item.priority < 0 and now - item.arrived_at < -item.priority * ageing_s


def _choose_by_length(candidates: list[Item], budget: Budget) -> Choice:
    """Choose the batch that holds the first candidate, of those that clear all candidates soonest."""
    anchor = candidates[0]
    members = _part_with(anchor, _longest_first(candidates, budget), budget)
    padded = budget.padded(members)
    count = _cheapest_count(len(members), padded, budget)
    others = islice((item for item in members if item is not anchor), count - 1)
    return Choice([anchor, *others], padded, _bound(count, len(candidates), padded, budget))


def _longest_first(candidates: list[Item], budget: Budget) -> list[Item]:
    """Return the run of candidates of neighbouring lengths that the first one is best run with, the longest first."""
    groups = _by_padded_length(candidates, budget)
    if len(groups) == 1:
        return candidates
    lengths = sorted(groups)
    position = lengths.index(budget.padded_length(candidates[0].length))
    run = next(run for run in cut(lengths, [len(groups[length]) for length in lengths], budget) if position in run)
    return [item for index in reversed(run) for item in groups[lengths[index]]]


def _part_with(anchor: Item, longest_first: list[Item], budget: Budget) -> list[Item]:
    """Return the part of a run that holds the anchor, where the run is too large for one batch."""
    start = 0
    while True:
        most, _ = budget.most_items(budget.padded_length(longest_first[start].length))
        part = longest_first[start : start + most]
        if any(item is anchor for item in part):
            return part
        start += most


def _by_padded_length(candidates: list[Item], budget: Budget) -> dict[int, list[Item]]:
    """Return the candidates by what they are padded to, each list in the order of service."""
    groups: dict[int, list[Item]] = {}
    for item in candidates:
        groups.setdefault(budget.padded_length(item.length), []).append(item)
    return groups


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


def _keep_deadlines(choice: Choice, candidates: list[Item], budget: Budget, now: float) -> Choice:
    """Make the batch short enough for its tightest deadline that can be met, unless that would make more others late.

    Under overload somebody's deadline always is near: batches cut short for it would be so small that hardly any item
    met its deadline. The members that are in time only in a smaller batch are then passed over.
    """
    taken_s = budget.time_s(len(choice.items), choice.length)
    limit_s = min((item.deadline_at - now for item in choice.items if _can_be_met(item, budget, now)), default=math.inf)
    if taken_s <= limit_s:
        return choice
    short = _shorten(choice, candidates[0], limit_s, budget)
    patient = [
        item
        for item in candidates
        if item.deadline_at - now >= taken_s and budget.padded_length(item.length) <= choice.length
    ]
    return _which_makes_fewer_late(short, patient, taken_s, budget, now) if patient else short


def _shorten(choice: Choice, anchor: Item, limit_s: float, budget: Budget) -> Choice:
    most = budget.most_within(limit_s, choice.length, len(choice.items))
    by_urgency = sorted(choice.items, key=lambda item: (item is not anchor, item.due_at, item.sequence))
    kept = by_urgency[:most]
    return Choice(kept, budget.padded(kept), Reason.BUDGET)


def _which_makes_fewer_late(short: Choice, patient: list[Item], taken_s: float, budget: Budget, now: float) -> Choice:
    """Return `short`, or a batch of patient items if more of them would be late behind `short` than it rescues."""
    full = _choose_by_length(patient, budget)
    full_s = budget.time_s(len(full.items), full.length)
    if full_s > taken_s:
        return short
    rescued = sum(item.deadline_at - now < taken_s for item in short.items)
    behind_s = budget.time_s(len(short.items), short.length) + full_s
    late = sum(item.deadline_at - now < behind_s for item in full.items)
    if late <= rescued:
        return short
    full.bound = full.bound or Reason.BUDGET
    return full


def _can_be_met(item: Item, budget: Budget, now: float) -> bool:
    if item.deadline_at == math.inf:
        return False
    return now + budget.time_s(1, budget.padded_length(item.length)) <= item.deadline_at


def _fill(choice: Choice, background: list[Item], budget: Budget, now: float) -> None:
    """Add background items where the padding would otherwise have been wasted: the batch takes no longer for them."""
    most, reason = budget.most_items(choice.length)
    taken_s = budget.time_s(len(choice.items), choice.length)
    free_s = min(taken_s * _FREE, max(taken_s, choice.slack_s(now)))
    for item in background:
        if budget.padded_length(item.length) <= choice.length and (
            budget.time_s(len(choice.items) + 1, choice.length) <= free_s
        ):
            choice.items.append(item)
            if len(choice.items) >= most:
                choice.bound = reason
                return
