"""Times of the data's own micro-batches, by a clock that nobody waits for."""

from __future__ import annotations

import itertools

import pytest

from carpool.errors import ConfigError
from carpool.train.planning.timing import LEAST_ROUNDS, WARM_UPS, time_passes
from tests.train.planning.made_up import setup


def test_every_size_is_timed_and_fitted() -> None:
    """From 1 to the largest; each pass over data that the loader gave."""
    asked: list[int] = []
    plain = setup()

    def loader(size: int) -> object:
        asked.append(size)
        return plain.loader(size)

    ticks = itertools.count()
    found = time_passes(setup(loader=loader), 16, budget_s=0.0, clock=lambda: float(next(ticks)))
    assert [timing.size for timing in found.timings] == [1, 2, 4, 8, 16]
    assert set(asked) == {1, 2, 4, 8, 16}
    assert all(timing.pass_s > 1.0 for timing in found.timings)  # a tick for the loader, and the pass itself
    assert found.cost is not None
    assert found.update_s > 0


def test_a_single_item_is_timed_without_a_fit() -> None:
    """There is nothing to fit."""
    found = time_passes(setup(), 1, budget_s=0.0)
    assert found.cost is None
    assert [timing.size for timing in found.timings] == [1]


def test_passes_go_on_when_the_data_are_used_up() -> None:
    """Three items are not enough for all rounds; the short last micro-batch is never timed."""
    found = time_passes(setup(num_items=3), 64, budget_s=0.0)
    assert [timing.size for timing in found.timings] == [1, 3]
    assert WARM_UPS + LEAST_ROUNDS > 3


def test_a_loader_that_gives_less_than_it_says_is_refused() -> None:
    """An epoch would be shorter than predicted."""
    full = setup(num_items=8)
    with pytest.raises(ConfigError, match=r"loader\(1\) gave 2 micro-batches, and 8 items make 8"):
        time_passes(setup(num_items=8, loader=lambda size: itertools.islice(full.loader(size), 2)), 1, budget_s=0.0)
