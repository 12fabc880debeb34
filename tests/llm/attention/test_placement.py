"""Which page each block lies in, and what has to be copied for it."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from carpool.llm.attention.placement import Placement

_NUM_BLOCKS = 12
_BLOCKS = st.sets(st.integers(0, _NUM_BLOCKS - 1))
_STEPS = st.lists(st.tuples(_BLOCKS, _BLOCKS, _BLOCKS), max_size=8)


def _array(blocks: set[int]) -> np.ndarray:
    return np.array(sorted(blocks), np.int64)


@given(_STEPS)
@settings(max_examples=100)
def test_needed_blocks_come_first_and_no_block_loses_what_it_holds(
    steps: list[tuple[set[int], set[int], set[int]]],
) -> None:
    """Against a cache that really copies: every block reads what was last written to it, wherever it lies."""
    placement, cache = Placement(_NUM_BLOCKS), np.zeros(_NUM_BLOCKS, np.int64)
    held: dict[int, int] = {}
    for number, (needed, begun, more) in enumerate(steps, start=1):
        written = begun | more
        moves = placement.arrange(_array(needed), begun=_array(begun), written=_array(written))
        cache[moves.targets] = cache[moves.sources]
        cache[moves.cleared] = 0
        assert sorted(placement.pages(_array(needed)).tolist()) == list(range(len(needed)))
        assert sorted(placement.pages(np.arange(_NUM_BLOCKS)).tolist()) == list(range(_NUM_BLOCKS))
        for block in begun:
            assert cache[placement.pages(np.array([block]))[0]] == 0
        cache[placement.pages(_array(written))] = number
        held |= dict.fromkeys(written, number)
        for block, value in held.items():
            assert cache[placement.pages(np.array([block]))[0]] == value


def test_what_goes_on_as_it_was_is_not_moved() -> None:
    """A step with the blocks of the step before copies nothing."""
    placement = Placement(8)
    everything = np.arange(8)
    placement.arrange(np.array([6, 7]), begun=everything, written=everything)
    moves = placement.arrange(np.array([7, 6]), begun=np.array([], np.int64), written=np.array([7]))
    assert [len(each) for each in moves] == [0, 0, 0]


def test_nothing_is_copied_of_blocks_that_hold_nothing() -> None:
    """A block that begins in this step comes to the front for free, past another that nobody has written to."""
    placement = Placement(8)
    moves = placement.arrange(np.array([5]), begun=np.array([5]), written=np.array([5]))
    assert [len(each) for each in moves] == [0, 0, 0]
    assert placement.pages(np.array([5, 0])).tolist() == [0, 5]
