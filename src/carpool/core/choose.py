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

_NEARLY = 0.9  # a batch that answers so much of what another does a second is as good
_ATTEMPTS = 3  # to find a batch whose members are all in time
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
    return _choose_alike(candidates, budget, now) or choose_unlike(candidates, budget, now)


def _choose_alike(candidates: list[Item], budget: Budget, now: float) -> Choice | None:
    """Choose the head of the queue, where nothing tells the candidates apart; None where something may.

    Items of one padded length, none of them background work and all with time enough, are most of what there is to
    choose from, and `choose_unlike` would choose the same with several times the work.
    """
    if budget.policy.ragged or min([item.priority for item in candidates]) < 0:
        return None
    lengths = {item.length for item in candidates}
    if len(lengths) > 1 and len(set(map(budget.padded_length, lengths))) > 1:
        return None
    padded = budget.padded_length(lengths.pop())
    most = budget.most_items(padded)
    count = _cheapest_count(min(most[0], len(candidates)), padded, budget)
    choice = Choice(candidates[:count], padded, _bound(count, len(candidates), most))
    return None if _makes_late(choice, budget, now) else choice


def choose_unlike(candidates: list[Item], budget: Budget, now: float) -> Choice:
    """Choose among candidates that differ in length, in urgency, or in whether they are background work."""
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
    if budget.policy.ragged:
        return _choose_in_order(candidates, budget)
    anchor = candidates[0]
    members = _part_with(anchor, _longest_first(candidates, budget), budget)
    padded = budget.padded(members)
    count = _cheapest_count(len(members), padded, budget)
    others = islice((item for item in members if item is not anchor), count - 1)
    return Choice([anchor, *others], padded, _bound(count, len(candidates), budget.most_items(padded)))


def _choose_in_order(candidates: list[Item], budget: Budget) -> Choice:
    """Choose as many as may run together, as they come: without padding it does not matter who runs with whom."""
    count, reason = budget.most_of(candidates)
    is_bound = count < len(candidates) or count >= budget.policy.max_batch_size
    return Choice(candidates[:count], budget.padded(candidates[:count]), reason if is_bound else None)


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
    if not budget.policy.batch_size_buckets:
        return most
    below = max((bucket for bucket in budget.policy.batch_size_buckets if bucket <= most), default=most)
    if below == most or most / budget.time_s(most, padded) >= below / budget.time_s(below, padded):
        return most
    return below


def _bound(count: int, num_candidates: int, limit: tuple[int, Reason]) -> Reason | None:
    most, reason = limit
    if count >= most:
        return reason
    return Reason.BUDGET if count < num_candidates else None


def _keep_deadlines(choice: Choice, candidates: list[Item], budget: Budget, now: float) -> Choice:
    """Let no batch make its members late: leave out who is late anyway, and shorten it, or run others, for the rest.

    Under overload somebody's deadline always is near: batches cut short for it would be so small that hardly any item
    met its deadline. So the members that are in time only in a smaller batch are passed over where that pays.
    """
    if not _makes_late(choice, budget, now):
        return choice
    timely = [item for item in candidates if _can_be_met(item, budget, now)]
    if not timely:
        return choice
    if len(choice.items) < len(candidates):  # others want the place of who is late anyway
        choice = _choose_by_length(timely, budget)
    limit_s = min((item.deadline_at for item in choice.items if _can_be_met(item, budget, now)), default=math.inf) - now
    if budget.time_s(len(choice.items), choice.length) <= limit_s:
        return choice
    short = _shorten(choice, timely[0], limit_s, budget)
    full = _choose_patient(choice, timely, budget, now)
    if full is None or _is_worth_it(short, full, timely, budget, now):
        return short
    full.bound = full.bound or Reason.BUDGET
    return full


def _makes_late(choice: Choice, budget: Budget, now: float) -> bool:
    finished_at = now + budget.time_s(len(choice.items), choice.length)
    return min([item.deadline_at for item in choice.items]) < finished_at


def _shorten(choice: Choice, anchor: Item, limit_s: float, budget: Budget) -> Choice:
    most = budget.most_within(limit_s, choice.length, len(choice.items))
    by_urgency = sorted(choice.items, key=lambda item: (item is not anchor, item.due_at, item.sequence))
    kept = by_urgency[:most]
    return Choice(kept, budget.padded(kept), Reason.BUDGET)


def _choose_patient(choice: Choice, timely: list[Item], budget: Budget, now: float) -> Choice | None:
    """Return a batch of items that are all in time in it, or None where none was found."""
    full = choice
    for _ in range(_ATTEMPTS):
        enough_at = now + budget.time_s(len(full.items), full.length)
        patient = [item for item in timely if item.deadline_at >= enough_at]
        if not patient:
            return None
        full = _choose_by_length(patient, budget)
        if not _makes_late(full, budget, now):
            return full
    return None


def _is_worth_it(short: Choice, full: Choice, timely: list[Item], budget: Budget, now: float) -> bool:
    """Return whether a batch cut short answers nearly as many items a second as another, or makes nobody late.

    What it holds is rescued then. Otherwise the time that it loses is the time of more items than that, of those that
    wait or of those that are refused for it.
    """
    short_s = budget.time_s(len(short.items), short.length)
    full_s = budget.time_s(len(full.items), full.length)
    if len(short.items) * full_s >= _NEARLY * len(full.items) * short_s:
        return True
    members = set(map(id, short.items))
    behind = (item for item in timely if id(item) not in members)
    ready_at = now + short_s
    return all(
        item.deadline_at >= ready_at + full_s * (position // len(full.items) + 1)
        for position, item in enumerate(behind)
    )


def _can_be_met(item: Item, budget: Budget, now: float) -> bool:
    return now + budget.time_s(1, budget.padded_length(item.length)) <= item.deadline_at


def _fill(choice: Choice, background: list[Item], budget: Budget, now: float) -> None:
    """Add background items where the padding would otherwise have been wasted: the batch takes no longer for them."""
    if budget.policy.ragged:
        _fill_row(choice, background, budget)
        return
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


def _fill_row(choice: Choice, background: list[Item], budget: Budget) -> None:
    """Add background items to a ragged batch, as far as its total is rounded up anyway."""
    room = budget.num_tokens(choice.items, choice.length) - sum(item.length for item in choice.items)
    for item in background:
        if item.length <= room and budget.most_of([*choice.items, item])[0] > len(choice.items):
            choice.items.append(item)
            room -= item.length
    choice.length = budget.padded(choice.items)
