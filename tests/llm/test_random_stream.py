"""Random numbers from a seed and a position."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from carpool.llm.random_stream import RandomStream


@given(st.integers(), st.integers(0, 127), st.integers(0, 10**7))
def test_a_number_depends_on_seed_index_and_position_alone(seed: int, index: int, position: int) -> None:
    """Asked again, in whatever order, a position has the number that it had."""
    stream = RandomStream(seed, index)
    number = stream.uniform(position)
    stream.uniform(position + 1)
    assert number == stream.uniform(position) == RandomStream(seed, index).uniform(position)
    assert 0 <= number < 1


def test_first_numbers_are_those_of_splitmix64() -> None:
    """The hash is the published one: its stream from the state 1234567 begins as other implementations' does."""
    stream = RandomStream(0)
    stream._key = 1234567
    drawn = [int(stream.uniform(position) * 2**53) for position in range(3)]
    assert drawn == [number >> 11 for number in (6457827717110365317, 3203168211198807973, 9817491932198370423)]


def test_positions_seeds_and_indices_each_give_even_and_independent_numbers() -> None:
    """However the numbers are laid out, they fall evenly into cells, alone and in neighbouring pairs."""
    num = 20_000
    by_position = [RandomStream(42).uniform(position) for position in range(num)]
    by_seed = [RandomStream(seed).uniform(0) for seed in range(num)]
    by_index = [RandomStream(7, index).uniform(5) for index in range(num)]
    for numbers in (by_position, by_seed, by_index):
        cells = np.bincount((np.array(numbers) * 64).astype(int), minlength=64)
        assert stats.chisquare(cells).pvalue > 1e-3
        pairs = (np.array(numbers[:-1]) * 16).astype(int) * 16 + (np.array(numbers[1:]) * 16).astype(int)
        assert stats.chisquare(np.bincount(pairs, minlength=256)).pvalue > 1e-3


def test_neighbouring_seeds_and_indices_share_no_number() -> None:
    """The streams of a request's generations, and of requests with seeds in a row, do not overlap where they begin."""
    numbers = {
        RandomStream(seed, index).uniform(position)
        for seed in range(20)
        for index in range(20)
        for position in range(20)
    }
    assert len(numbers) == 20**3
