"""How much memory holds: a fall at once, and attempts to rise that become rarer."""

import math
from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from carpool.core.ceiling import Ceiling

PATIENCE = 4
limits = st.integers(1, 4096)


def run_at(ceiling: Ceiling, limit: float, length: int) -> int | None:
    """Run the largest batch of a length that the ceiling allows; return its tokens if memory did not hold them."""
    tokens = max(1, int(ceiling.tokens // length)) * length
    if tokens > limit and tokens > length:
        ceiling.ran_out(tokens)
        return tokens
    ceiling.held()
    return None


def waits(ceiling: Ceiling, limits_and_lengths: Iterable[tuple[int, int]]) -> list[int]:
    """Run batches one after another; return how many ran before each fall that followed a rise."""
    found, num_ran = [], 0
    for limit, length in limits_and_lengths:
        refuted = ceiling.num_refuted
        if run_at(ceiling, limit, length) is None:
            num_ran += 1
        elif ceiling.num_refuted > refuted:
            found.append(num_ran)
            num_ran = 0
    return found


@given(st.lists(st.tuples(limits, st.integers(1, 64)), max_size=600))
def test_every_refuted_rise_was_waited_for_twice_as_long_as_the_last(trace: list[tuple[int, int]]) -> None:
    """Whatever memory does and whatever lengths come: before the n-th such failure, patience x 2^n batches ran."""
    ceiling = Ceiling(patience=PATIENCE)
    ceiling.ran_out(8192)
    for number, num_ran in enumerate(waits(ceiling, trace)):
        assert num_ran >= PATIENCE * 2**number


@given(limits, st.integers(1, 64))
def test_under_a_constant_limit_failures_grow_with_the_logarithm_of_the_batches(limit: int, length: int) -> None:
    """Five thousand batches fail a dozen times at most after the first halvings."""
    ceiling = Ceiling(patience=PATIENCE)
    ceiling.ran_out(8192)
    assert len(waits(ceiling, [(limit, length)] * 5000)) <= math.log2(5000 / PATIENCE)


@given(limits, st.integers(1, 64))
def test_under_a_constant_limit_it_comes_close_to_what_fits(limit: int, length: int) -> None:
    """Half of what failed is not the last word: in the end, no more than a quarter, or a row, is left unused."""
    ceiling = Ceiling(patience=PATIENCE)
    ceiling.ran_out(8192)
    waits(ceiling, [(limit, length)] * 5000)
    num_rows = max(1, limit // length)
    assert (ceiling.tokens // length + 1) * 1.25 >= num_rows


@given(st.integers(2, 1 << 20), limits)
def test_what_failed_is_not_allowed_at_once_and_late_news_changes_nothing(tokens: int, others: int) -> None:
    """It falls below what failed; a larger batch that was under way meanwhile tells nothing new."""
    ceiling = Ceiling()
    ceiling.ran_out(tokens)
    fallen = ceiling.tokens
    assert 1 <= fallen < tokens
    ceiling.ran_out(int(fallen) + others)
    assert ceiling.tokens == fallen


def test_fall_after_a_rise_goes_back_to_what_ran() -> None:
    """And below that, if that no longer fits either."""
    ceiling = Ceiling(patience=1)
    ceiling.ran_out(1000)
    ceiling.held()
    ceiling.ran_out(620)
    assert (ceiling.tokens, ceiling.num_refuted) == (500, 1)
    ceiling.ran_out(500)
    assert (ceiling.tokens, ceiling.num_refuted) == (250, 1)


@given(st.integers(2, 8192), st.integers(0, 6))
def test_memory_that_comes_back_is_used_again(tokens: int, num_refuted: int) -> None:
    """One long wait at most, and then a quarter more each time: not a long wait for each step."""
    ceiling = Ceiling(patience=PATIENCE, num_refuted=num_refuted)
    ceiling.ran_out(tokens)
    num_rises = math.ceil(math.log(tokens / ceiling.tokens, 1.25))
    for _ in range((PATIENCE << num_refuted) + PATIENCE * num_rises):
        ceiling.held()
    assert ceiling.tokens >= tokens
