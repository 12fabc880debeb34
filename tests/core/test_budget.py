"""How many items may run together, and what an item may be."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carpool.core import AffineCost, Item, Policy, Reason
from carpool.core.budget import Budget
from carpool.errors import ConfigError, InvalidItem

COST = AffineCost(overhead_s=0.01, token_s=0.001)


@dataclass(frozen=True, slots=True)
class SquareMemory:
    """Attention: memory grows with the square of the length."""

    def time_s(self, batch_size: int, length: int) -> float:
        """Return a second an item."""
        return float(batch_size)

    def memory_bytes(self, batch_size: int, length: int) -> float:
        """Return batch x length^2 bytes."""
        return float(batch_size * length * length)


@dataclass(frozen=True, slots=True)
class BytePerToken:
    """What runs without padding: ten bytes, and one for each token."""

    def time_s(self, batch_size: int, length: int) -> float:
        """Return a second an item."""
        return float(batch_size)

    def memory_bytes(self, batch_size: int, length: int) -> float:
        """Return 10 + batch x length bytes."""
        return 10.0 + batch_size * length


def test_count_is_the_limit_where_nothing_else_is() -> None:
    """Without further budgets a batch is full."""
    assert Budget(Policy(max_batch_size=8), COST).most_items(512) == (8, Reason.FULL)


def test_padded_tokens_limit_the_items() -> None:
    """Items times the padded length stay within the token budget."""
    budget = Budget(Policy(max_batch_size=8, token_budget=100), COST)
    assert budget.most_items(10) == (8, Reason.FULL)
    assert budget.most_items(30) == (3, Reason.BUDGET)


def test_token_budget_counts_the_rows_that_run() -> None:
    """Three would be padded up to four rows, which do not fit: two is the most."""
    budget = Budget(Policy(max_batch_size=8, token_budget=100, batch_size_buckets=(1, 2, 4, 8)), COST)
    assert budget.most_items(30) == (2, Reason.BUDGET)


def test_predicted_memory_limits_the_items() -> None:
    """The most items are those whose predicted memory is within the limit."""
    budget = Budget(Policy(max_batch_size=64, memory_limit_bytes=1000), SquareMemory())
    assert budget.most_items(10) == (10, Reason.BUDGET)
    assert budget.most_items(1) == (64, Reason.FULL)


def test_memory_limit_needs_a_model_that_predicts_memory() -> None:
    """A limit that nobody can check is refused at once."""
    with pytest.raises(ConfigError, match="memory_limit_bytes is 5, but the cost model does not predict memory: give"):
        Budget(Policy(memory_limit_bytes=5), COST)


@pytest.mark.parametrize(
    ("policy", "length", "message"),
    [
        (Policy(token_budget=64), 65, r"65 tokens \(padded to 1 x 65\) can never fit token_budget 64: shorten"),
        (
            Policy(max_batch_size=4, token_budget=64, length_buckets=(32,), batch_size_buckets=(4,)),
            20,
            r"20 tokens \(padded to 4 x 32\) can never fit token_budget 64",
        ),
        (Policy(memory_limit_bytes=99), 10, "10 tokens needs 100 bytes, more than memory_limit_bytes 99: shorten"),
        (Policy(), 0, "length is 0; it must be at least 1"),
    ],
)
def test_item_that_can_never_run_is_refused(policy: Policy, length: int, message: str) -> None:
    """The message has the value, the limit and the remedy."""
    with pytest.raises(InvalidItem, match=message):
        Budget(policy, SquareMemory()).check(length)


def test_out_of_memory_halves_and_remembers() -> None:
    """What ran out of memory is not tried again at once, at any length."""
    budget = Budget(Policy(max_batch_size=64), COST)
    budget.ran_out_of_memory(64, 10)
    assert budget.most_items(10) == (32, Reason.BUDGET)
    assert budget.most_items(20) == (16, Reason.BUDGET)
    budget.ran_out_of_memory(32, 10)
    assert budget.most_items(10) == (16, Reason.BUDGET)


def test_smaller_failure_seen_later_does_not_raise_the_ceiling() -> None:
    """A batch that was under way when the ceiling fell tells nothing new."""
    budget = Budget(Policy(max_batch_size=64), COST)
    budget.ran_out_of_memory(8, 10)
    budget.ran_out_of_memory(64, 10)
    assert budget.most_items(10) == (4, Reason.BUDGET)


def test_only_batches_that_the_ceiling_held_back_let_it_rise() -> None:
    """Smaller ones, and those that another limit holds back just as much, say nothing of what else would fit."""
    budget = Budget(Policy(max_batch_size=64, token_budget=100), COST)
    budget.ran_out_of_memory(16, 10)
    for _ in range(budget.ceiling.patience):
        budget.ran(7, 10)  # 8 may
        budget.ran(1, 60)  # one row, as under the token budget alone
        assert budget.ceiling.tokens == 80
    for _ in range(budget.ceiling.patience):
        budget.ran(8, 10)
    assert budget.most_items(10) == (10, Reason.BUDGET)


def test_allowed_batch_sizes_do_not_keep_the_ceiling_down() -> None:
    """Between 4 and 16 rows there is nothing to try: it rises until 16 are allowed again."""
    budget = Budget(Policy(max_batch_size=16, batch_size_buckets=(4, 16)), COST)
    budget.ran_out_of_memory(16, 10)
    assert budget.most_items(10) == (4, Reason.BUDGET)
    for _ in range(4 * budget.ceiling.patience):
        budget.ran(4, 10)
    assert budget.most_items(10) == (16, Reason.FULL)


def test_single_item_too_large_for_memory_does_not_shrink_the_batches_of_others() -> None:
    """One giant that does not fit alone says nothing of many short ones."""
    budget = Budget(Policy(max_batch_size=64), COST)
    budget.ran_out_of_memory(1, 1000)
    assert budget.most_items(100) == (64, Reason.FULL)


@given(
    st.integers(1, 64),
    st.sampled_from([(), (8, 64), (16, 32, 64)]),
    st.sampled_from([(), (1, 2, 4, 8, 16), (4, 16)]),
    st.none() | st.integers(64, 2000),
    st.floats(0.0, 2.0),
)
def test_most_within_agrees_with_trying_every_count(
    length: int, lengths: tuple[int, ...], sizes: tuple[int, ...], tokens: int | None, slack_s: float
) -> None:
    """The largest count within the slack is found, and one where none is; the token budget holds for padded rows."""
    policy = Policy(max_batch_size=16, length_buckets=lengths, batch_size_buckets=sizes, token_budget=tokens)
    budget = Budget(policy, COST)
    padded = budget.padded_length(length)
    most, _ = budget.most_items(padded)
    in_time = [count for count in range(1, most + 1) if budget.time_s(count, padded) <= slack_s]
    assert budget.most_within(slack_s, padded, most) == max(in_time, default=1)
    fitting = [n for n in range(1, 17) if tokens is None or budget.size(n) * padded <= tokens]
    assert most == max(fitting, default=1)


def test_ragged_batch_is_held_for_one_of_the_mean_length() -> None:
    """Three items of 26 tokens in all; rows of padding and length buckets mean nothing there."""
    policy = Policy(ragged=True, length_buckets=(16, 32), batch_size_buckets=(8, 32), token_buckets=(16, 32, 64))
    budget = Budget(policy, COST)
    items = [Item(length=length) for length in (3, 3, 20)]
    padded = budget.padded(items)
    assert (padded, budget.size(3), budget.num_tokens(items, padded)) == (9, 3, 32)


def test_memory_limits_a_ragged_batch_by_its_tokens() -> None:
    """A byte a token and ten a batch: 35 tokens are held for three times 12, which fit; the fourth item does not."""
    budget = Budget(Policy(max_batch_size=8, ragged=True, memory_limit_bytes=46), BytePerToken())
    assert budget.most_of([Item(length=length) for length in (5, 20, 10, 3)]) == (3, Reason.BUDGET)
