"""Memory shared between model and batch, against arithmetic by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carpool.plan.memory_trade import memory_trade, weights_bytes
from tests.plan.plans import LENGTHS, LIBRARIES, TOKEN_BYTES, WEIGHTS, subject


def test_the_largest_batch_is_what_the_model_leaves_room_for() -> None:
    """In 1 GB, libraries of 300 MB and weights of 100 MB leave 600 MB: 500 items of 1.2 MB."""
    trade = memory_trade(subject(), LENGTHS)
    assert trade is not None
    assert trade.lengths == (30, 60)
    assert trade.item_bytes == pytest.approx((600_000, 1_200_000), rel=1e-3)
    by_scale = {one.scale: one.largest_batches for one in trade.model_sizes}
    assert by_scale[1.0] == pytest.approx((1000, 500), rel=2e-3)
    assert by_scale[4.0] == pytest.approx((500, 250), rel=2e-3)
    assert by_scale[8.0] == (0, 0)


def test_the_largest_model_is_what_the_batch_leaves_room_for() -> None:
    """A batch of 512 items of 30 tokens takes 307 MB, and leaves 393 MB for weights."""
    trade = memory_trade(subject(), LENGTHS)
    assert trade is not None
    by_size = {one.batch_size: one.largest_scales for one in trade.batch_sizes}
    assert by_size[512] == pytest.approx((3.93, 0.856), rel=5e-3)
    assert by_size[2048] == (0.0, 0.0)
    assert max(by_size) == 2048


@given(scale=st.floats(0.1, 6.0), index=st.integers(0, 1))
def test_both_directions_agree(scale: float, index: int) -> None:
    """The largest batch beside a model fits, and one more does not."""
    trade = memory_trade(subject(), LENGTHS)
    assert trade is not None
    room = trade.usable_bytes - trade.other_bytes - scale * trade.weights_bytes
    batch = int(room / trade.item_bytes[index])
    assert trade.memory_bytes(scale, batch, index) <= trade.usable_bytes
    assert trade.memory_bytes(scale, batch + 1, index) > trade.usable_bytes


def test_another_limit_may_be_asked_for() -> None:
    """Half of the memory leaves 100 MB for batches."""
    trade = memory_trade(subject(), (60,), memory_limit_bytes=500_000_000)
    assert trade is not None
    assert trade.lengths == (60,)
    assert next(one for one in trade.model_sizes if one.scale == 1).largest_batches[0] == pytest.approx(83, abs=1)


def test_a_limit_below_the_model_leaves_nothing() -> None:
    """Not even half a model fits: the tables say so in their only rows."""
    trade = memory_trade(subject(), (60,), memory_limit_bytes=200_000_000)
    assert trade is not None
    assert [one.largest_batches for one in trade.model_sizes] == [(0,)]
    assert [one.largest_scales for one in trade.batch_sizes] == [(0.0,)]


def test_without_memory_or_limit_there_is_no_trade() -> None:
    """Nothing is said of what was not measured."""
    assert memory_trade(subject(memory=False), LENGTHS) is None
    assert memory_trade(subject(limit_bytes=None), LENGTHS) is None


def test_weights_that_were_not_counted_are_taken_to_be_all_that_is_held() -> None:
    """The model is then thought larger than it is, and never smaller."""
    model = subject()
    assert weights_bytes(model) == WEIGHTS
    assert weights_bytes(replace(model, weights_bytes=None)) == pytest.approx(LIBRARIES + WEIGHTS, rel=1e-3)
    assert weights_bytes(replace(model, weights_bytes=10**12)) == pytest.approx(LIBRARIES + WEIGHTS, rel=1e-3)
    trade = memory_trade(replace(model, weights_bytes=None), (60,))
    assert trade is not None
    assert trade.other_bytes == pytest.approx(0.0)


def test_what_was_really_probed_is_told() -> None:
    """At 60 tokens, probes of up to 2,048 tokens held 32 items."""
    trade = memory_trade(subject(), (16, 60))
    assert trade is not None
    assert trade.probed_batch_sizes == (32,) * len(trade.lengths)
    assert trade.item_bytes[-1] == pytest.approx(60 * TOKEN_BYTES, rel=1e-3)
