"""Single tokens and the blocks that they look at."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carpool.llm.attention.pairs import pair_up

_BLOCK_SIZE = 4


@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.none() | st.integers(1, 20))
def test_each_token_sees_exactly_its_window(contexts: list[int], window: int | None) -> None:
    """Over the blocks of its pairs, in order, what is not hidden is the positions up to it, as far back as it looks."""
    tables = np.arange(len(contexts) * 10).reshape(-1, 10)
    pairs = pair_up(tables, np.array(contexts), _BLOCK_SIZE, window)
    for token, context in enumerate(contexts):
        blocks = pairs.blocks[pairs.places[token, : pairs.counts[token]]]
        positions = ((blocks - token * 10)[:, None] * _BLOCK_SIZE + np.arange(_BLOCK_SIZE)).ravel()
        seen = positions[~pairs.hidden[token, : len(positions)]]
        assert seen.tolist() == list(range(0 if window is None else max(0, context - window), context))
        assert pairs.hidden[token, len(positions) :].all()


@pytest.mark.parametrize("num_heads", [1, 3])
def test_scores_spread_by_token_find_their_way_back(num_heads: int) -> None:
    """Rows of scores, laid side by side for each token and head and taken back, are where they were."""
    pairs = pair_up(np.arange(30).reshape(3, 10), np.array([3, 17, 9]), _BLOCK_SIZE)
    rows = np.arange(len(pairs.blocks) * num_heads)
    spread = rows[pairs.spread(num_heads)]
    assert spread[pairs.gather(num_heads)].tolist() == rows.tolist()


def test_sums_add_up_each_tokens_pairs_and_no_others() -> None:
    """One run of rows for each token and head: that head's rows of the token's pairs."""
    pairs = pair_up(np.arange(20).reshape(2, 10), np.array([9, 4]), _BLOCK_SIZE)
    rows, starts = pairs.sums(2)
    runs = [run.tolist() for run in np.split(rows, starts[1:])]
    assert runs == [[0, 2, 4], [1, 3, 5], [6], [7]]


def test_pairs_of_the_first_blocks_come_first_in_their_order() -> None:
    """Then the products read the cache where it lies; a block that two tokens share has one pair there."""
    tables = np.array([[1, 0], [1, 2]])
    pairs, num_in_place = pair_up(tables, np.array([8, 8]), _BLOCK_SIZE).in_place(3)
    assert num_in_place == 3
    assert pairs.blocks.tolist() == [0, 1, 2, 1]
    assert [pairs.blocks[row].tolist() for row in pairs.places] == tables.tolist()
    assert pairs.tokens[pairs.places].tolist() == [[0, 0], [1, 1]]


def test_pairs_that_leave_out_one_of_the_first_blocks_are_not_in_place() -> None:
    """As in a layer with a window."""
    pairs = pair_up(np.array([[0, 1, 2]]), np.array([12]), _BLOCK_SIZE, window=4)
    assert pairs.in_place(3) == (pairs, 0)
