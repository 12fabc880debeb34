"""Micro-batches never pass their budget of tokens, and there are as few of them as can be."""

from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carpool.errors import ConfigError
from carpool.train.batch_plan import BatchPlan
from carpool.train.data.lengths import round_up
from carpool.train.data.token_budget import TokenBudgetSampler, cuts, even_cuts
from tests.train.data.strategies import lengths, plans

PLAN = BatchPlan(effective_batch_size=8, micro_batch_size=8)
USUAL: dict[str, Any] = {"lengths": [3], "plan": PLAN, "token_budget": 20}
BUDGETS = st.integers(37, 120)
Pass = list[list[list[int]]]


def passes(texts: list[int], plan: BatchPlan, **more: Any) -> list[Pass]:
    """One pass on each rank: the indices of each micro-batch of each window."""
    samplers = [TokenBudgetSampler(texts, plan, rank=rank, **more) for rank in range(plan.num_ranks)]
    return [list(sampler.windows(sampler)) for sampler in samplers]


@given(lengths, plans(), BUDGETS, st.integers(1, 8), st.integers(1, 3))
def test_budget_is_never_passed(
    texts: list[int], plan: BatchPlan, token_budget: int, multiple_of: int, pool_windows: int
) -> None:
    """Rows times the longest, rounded up, stay within it; and so do the items within the plan's micro-batch."""
    ranks = passes(texts, plan, token_budget=token_budget, multiple_of=multiple_of, pool_windows=pool_windows)
    for batch in chain.from_iterable(chain.from_iterable(ranks)):
        assert len(batch) * round_up(max(texts[item] for item in batch), multiple_of) <= token_budget
        assert 0 < len(batch) <= plan.micro_batch_size


@given(lengths, plans(), BUDGETS, st.booleans())
def test_each_item_comes_once_in_windows_of_the_effective_batch(
    texts: list[int], plan: BatchPlan, token_budget: int, shuffle: bool
) -> None:
    """The effective batch is held, however many micro-batches it takes."""
    ranks = passes(texts, plan, token_budget=token_budget, shuffle=shuffle)
    windows = [list(chain.from_iterable(chain.from_iterable(window))) for window in zip(*ranks, strict=True)]
    assert sorted(chain.from_iterable(windows)) == list(range(len(texts)))
    assert all(len(window) == plan.effective_batch_size for window in windows[:-1])


@given(lengths, plans(), BUDGETS)
def test_ranks_have_as_many_micro_batches(texts: list[int], plan: BatchPlan, token_budget: int) -> None:
    """But for one that is left without an item in the last of them, where each item has one of its own."""
    for window in zip(*passes(texts, plan, token_budget=token_budget), strict=True):
        numbers = [len(mine) for mine in window]
        assert max(numbers) - min(numbers) <= 1
        assert min(numbers) == max(numbers) or all(len(batch) == 1 for batch in chain.from_iterable(window))


@given(lengths, plans(), BUDGETS)
def test_length_and_padding_are_those_of_the_epoch(texts: list[int], plan: BatchPlan, token_budget: int) -> None:
    """They are told before the pass, for the pass that comes next."""
    sampler = TokenBudgetSampler(texts, plan, token_budget=token_budget, multiple_of=2)
    ranks = passes(texts, plan, token_budget=token_budget, multiple_of=2)
    assert len(sampler) == len(list(chain.from_iterable(ranks[0])))
    padded = [
        len(batch) * round_up(max(texts[item] for item in batch), 2)
        for batch in chain.from_iterable(chain.from_iterable(ranks))
    ]
    assert (sampler.padding().num_tokens, sampler.padding().num_padded_tokens) == (sum(texts), sum(padded))


def partitions(items: list[int]) -> Iterator[list[list[int]]]:
    """Every way to put items into batches."""
    if not items:
        yield []
        return
    for others in partitions(items[1:]):
        yield [[items[0]], *others]
        for index, batch in enumerate(others):
            yield [*others[:index], [items[0], *batch], *others[index + 1 :]]


@given(st.lists(st.integers(1, 12), min_size=1, max_size=6), st.integers(12, 30), st.integers(1, 4))
def test_no_way_at_all_takes_fewer_batches(texts: list[int], token_budget: int, most_items: int) -> None:
    """Cutting in order of length is as good as the best of all ways."""
    fewest = min(
        len(batches)
        for batches in partitions(texts)
        if all(len(batch) * max(batch) <= token_budget and len(batch) <= most_items for batch in batches)
    )
    assert len(cuts(np.array(sorted(texts, reverse=True)), token_budget, most_items)) == fewest


@given(lengths, BUDGETS, st.integers(1, 10), st.integers(1, 4))
def test_evening_out_keeps_the_number_and_lowers_the_largest(
    texts: list[int], token_budget: int, most_items: int, multiple_of: int
) -> None:
    """No batch takes more tokens than the largest did, and there are a multiple of them, or one an item."""
    ordered = np.array(sorted(texts, reverse=True))
    plain, even = cuts(ordered, token_budget, most_items), even_cuts(ordered, token_budget, most_items, multiple_of)

    def largest(starts: list[int]) -> int:
        pieces = np.split(ordered, starts[1:])
        assert all(0 < len(piece) <= most_items for piece in pieces)
        return max(len(piece) * int(piece[0]) for piece in pieces)

    assert len(even) == min(round_up(len(plain), multiple_of), len(texts))
    assert largest(even) <= largest(plain)


def test_last_micro_batch_is_not_a_remainder() -> None:
    """Five short items that need two micro-batches are three and two, not four and one."""
    plan = BatchPlan(effective_batch_size=5, micro_batch_size=4)
    (window,) = passes([1] * 5, plan, token_budget=100)[0]
    assert [len(batch) for batch in window] == [3, 2]


def test_short_items_share_a_micro_batch_and_long_ones_do_not() -> None:
    """The number of micro-batches differs from window to window."""
    texts = [1] * 8 + [10] * 8
    windows = passes(texts, PLAN, token_budget=20, shuffle=False)[0]
    assert [[len(batch) for batch in window] for window in windows] == [[8], [2, 2, 2, 2]]


def test_a_pass_goes_on_with_another_budget() -> None:
    """A smaller one after running out of memory changes no window."""
    texts = [3, 9, 4, 1, 7, 7, 2, 5, 6, 8] * 4
    first = TokenBudgetSampler(texts, PLAN, token_budget=64)
    windows = [sorted(chain.from_iterable(window)) for window in first.windows(first)]
    second = TokenBudgetSampler(texts, PLAN, token_budget=18)
    second.load_state_dict(first.state_dict(2))
    assert [sorted(chain.from_iterable(window)) for window in second.windows(second)] == windows[2:]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"token_budget": 0}, "token_budget is 0; it must be at least 1"),
        ({"multiple_of": 0}, "multiple_of is 0; it must be at least 1"),
        ({"lengths": [3, 21]}, "item 1 has 21 tokens, padded to 21, more than token_budget 20: shorten the item or"),
        ({"lengths": [3, 17], "multiple_of": 8}, "item 1 has 17 tokens, padded to 24, more than token_budget 20"),
    ],
)
def test_what_cannot_be_is_refused(arguments: dict[str, Any], message: str) -> None:
    """The message names the number and what it may be."""
    with pytest.raises(ConfigError, match=message):
        TokenBudgetSampler(**USUAL | arguments)
