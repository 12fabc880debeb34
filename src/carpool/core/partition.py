"""Cutting waiting items of many lengths into batches that take least time in all.

Padding a short item to the length of a long one is paid for in full, whereas a batch of its own costs the overhead of
one more call. Sorted by length, the cheapest way is a cut into runs of neighbours; dynamic programming over the
distinct padded lengths finds it.
"""

import math
from collections.abc import Sequence

from carpool.core.budget import Budget

_MOST_LENGTHS = 24  # distinct lengths that are told apart; more are taken together, to bound the work


def cut(lengths: Sequence[int], counts: Sequence[int], budget: Budget) -> list[range]:
    """Return the runs of neighbouring lengths that are best run together, in total predicted time.

    Args:
        lengths: distinct padded lengths, ascending.
        counts: how many items have each.
        budget: predicts times, and bounds a batch; a run of more items is several batches.

    >>> from carpool.core import AffineCost, Policy
    >>> budget = Budget(Policy(), AffineCost(overhead_s=10.0, token_s=1.0))
    >>> cut([2, 3, 100], [3, 2, 1], budget)
    [range(0, 2), range(2, 3)]
    """
    edges = _edges(len(lengths))
    best_s, came_from = [0.0] + [math.inf] * (len(edges) - 1), [0] * len(edges)
    for end in range(1, len(edges)):
        padded, num_items = lengths[edges[end] - 1], 0
        for start in range(end - 1, -1, -1):
            num_items += sum(counts[edges[start] : edges[start + 1]])
            total_s = best_s[start] + _clear_s(num_items, padded, budget)
            if total_s <= best_s[end]:  # of equals, the longer run: it is the fuller batch
                best_s[end], came_from[end] = total_s, start
    runs, end = [], len(edges) - 1
    while end:
        runs.append(range(edges[came_from[end]], edges[end]))
        end = came_from[end]
    return runs[::-1]


def _edges(num_lengths: int) -> list[int]:
    """Return where runs may begin and end: between all lengths, or evenly spread where there are too many."""
    step = math.ceil(num_lengths / _MOST_LENGTHS)
    return [*range(0, num_lengths, step), num_lengths]


def _clear_s(num_items: int, padded: int, budget: Budget) -> float:
    """Return the predicted seconds that so many items of one padded length take, in as many batches as they need."""
    most, _ = budget.most_items(padded)
    num_full, rest = divmod(num_items, most)
    full_s = num_full * budget.time_s(most, padded) if num_full else 0.0
    return full_s + (budget.time_s(rest, padded) if rest else 0.0)
