"""Rows are full, hold what fits, and are nearly as few as the best."""

from itertools import chain
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carpool.errors import ConfigError
from carpool.train.data.first_fit import first_fit
from tests.train.data.strategies import lengths


@given(lengths, st.integers(30, 80), st.integers(1, 70))
def test_each_sequence_is_in_one_row_that_holds_it(texts: list[int], row_length: int, look_ahead: int) -> None:
    """None is lost or repeated, no row is too full or empty, and rows mix no more than what is looked at together."""
    rows = first_fit(texts, row_length, look_ahead=look_ahead)
    assert sorted(chain.from_iterable(rows)) == list(range(len(texts)))
    for row in rows:
        assert 0 < sum(texts[index] for index in row) <= row_length
        assert len({index // look_ahead for index in row}) == 1


def fewest_rows(texts: list[int], row_length: int) -> int:
    """By trying everything: each text into each row with room, or a new one."""

    def tried(rest: list[int], room: list[int]) -> int:
        if not rest:
            return len(room)
        fitting = {space: index for index, space in enumerate(room) if space >= rest[0]}
        ways = [[*room[:index], room[index] - rest[0], *room[index + 1 :]] for index in fitting.values()]
        return min(tried(rest[1:], way) for way in [*ways, [*room, row_length - rest[0]]])

    return tried(texts, [])


@given(st.lists(st.integers(1, 10), min_size=1, max_size=7), st.integers(10, 20))
def test_rows_are_nearly_as_few_as_can_be(texts: list[int], row_length: int) -> None:
    """The bound that was proved for first fit decreasing holds."""
    assert len(first_fit(texts, row_length)) <= 11 / 9 * fewest_rows(texts, row_length) + 6 / 9


def test_little_is_left_over() -> None:
    """Texts of ordinary lengths fill their rows; in order of arrival, a row each wastes most of it."""
    texts = np.minimum(np.random.default_rng(0).lognormal(4, 1, 2000).astype(int) + 1, 512)
    assert texts.sum() / (512 * len(first_fit(texts, 512))) > 0.98


def test_looking_further_ahead_leaves_less_over() -> None:
    """And mixes the order further."""
    texts = np.random.default_rng(0).integers(1, 100, 600)
    rows = [len(first_fit(texts, 128, look_ahead=num)) for num in (1, 4, 16, 600)]
    assert rows == sorted(rows, reverse=True)
    assert rows[0] == 600


@pytest.mark.parametrize(
    ("texts", "more", "message"),
    [
        ([3, 9], {}, "sequence 1 has 9 tokens, more than a row of 8: cut it, or make the rows longer"),
        ([3], {"row_length": 0}, "row_length is 0; it must be at least 1"),
        ([3], {"look_ahead": 0}, "look_ahead is 0; it must be at least 1"),
        ([], {}, r"lengths have shape \(0,\)"),
    ],
)
def test_what_cannot_be_is_refused(texts: list[int], more: dict[str, Any], message: str) -> None:
    """The message names the number and what it may be."""
    with pytest.raises(ConfigError, match=message):
        first_fit(texts, **{"row_length": 8} | more)
