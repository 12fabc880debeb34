"""Cutting waiting items of many lengths into batches that take least time in all.

Padding a short item to the length of a long one is paid for in full, whereas a batch of its own costs the overhead of
one more call. Sorted by length, the cheapest way is a cut into runs of neighbours; dynamic programming over the
distinct padded lengths finds it.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

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
    held = [sum(counts[start:end]) for start, end in pairwise(edges)]
    best_s, came_from = [0.0] + [math.inf] * (len(edges) - 1), [0] * len(edges)
    for end in range(1, len(edges)):
        padded, num_items = lengths[edges[end] - 1], 0
        most, _ = budget.most_items(padded)
        full_s = budget.time_s(most, padded)
        for start in range(end - 1, -1, -1):
            num_items += held[start]
            num_full, rest = divmod(num_items, most)
            total_s = best_s[start] + num_full * full_s + (budget.time_s(rest, padded) if rest else 0.0)
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
