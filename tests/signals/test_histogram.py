"""Histograms count every value once, in the bucket that its definition says."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from carpool.signals.histogram import BATCH_SIZE_BOUNDS, DURATION_BOUNDS_S, SHARE_BOUNDS, Tally


@given(st.lists(st.floats(0, 100)))
def test_cumulative_counts_are_the_values_not_above_each_bound(values: list[float]) -> None:
    """The definition that Prometheus' `le` has."""
    tally = Tally(DURATION_BOUNDS_S)
    tally.add(values)
    histogram = tally.freeze()
    expected = [sum(value <= bound for value in values) for bound in DURATION_BOUNDS_S]
    assert list(histogram.cumulative()) == [*expected, len(values)]
    assert histogram.num_values == len(values)


@given(st.lists(st.floats(0, 1)))
def test_adding_one_by_one_equals_adding_at_once(values: list[float]) -> None:
    """Both ways of counting agree."""
    at_once, one_by_one = Tally(SHARE_BOUNDS), Tally(SHARE_BOUNDS)
    at_once.add(values)
    for value in values:
        one_by_one.add_one(value)
    assert at_once.freeze().counts == one_by_one.freeze().counts


def test_frozen_histogram_does_not_change_afterwards() -> None:
    """A reader's copy is its own."""
    tally = Tally(SHARE_BOUNDS)
    tally.add([0.5])
    before = tally.freeze()
    tally.add([0.5])
    assert before.num_values == 1
    assert before.mean == 0.5


def test_bounds_are_the_promised_ones() -> None:
    """Powers of two to 4096; 0.1 ms to 10 s, three to a decade."""
    assert (BATCH_SIZE_BOUNDS[0], BATCH_SIZE_BOUNDS[-1], len(BATCH_SIZE_BOUNDS)) == (1, 4096, 13)
    assert (DURATION_BOUNDS_S[0], DURATION_BOUNDS_S[-1], len(DURATION_BOUNDS_S)) == (1e-4, 10.0, 16)
    assert list(DURATION_BOUNDS_S) == sorted(DURATION_BOUNDS_S)
