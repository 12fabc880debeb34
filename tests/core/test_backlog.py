"""What is learned of a queue's pace."""

import math

import numpy as np
import pytest

from carpool.core import AffineCost, Item, Policy
from carpool.core.backlog import Backlog
from carpool.core.budget import Budget

BUDGET = Budget(Policy(max_batch_size=8), AffineCost(overhead_s=1.0, token_s=1.0))


def test_full_batches_of_one_length_change_nothing() -> None:
    """What is predicted is what leaves, to the last bit."""
    backlog = Backlog(1)
    for _ in range(100):
        backlog.left_behind(BUDGET, 3, 8, BUDGET.time_s(8, 3))
    assert backlog.batch(BUDGET, 3) == (8.0, 25.0)


def test_smaller_batches_are_learned_and_scale_with_the_model() -> None:
    """Half the items in 0.6 of the time, of whatever a full batch holds and takes by now."""
    backlog = Backlog(1)
    for _ in range(100):
        backlog.left_behind(BUDGET, 3, 4, 15.0)
    assert backlog.batch(BUDGET, 3) == pytest.approx((4.0, 15.0), rel=0.01)
    twice = Budget(BUDGET.policy, AffineCost(overhead_s=2.0, token_s=2.0))
    assert backlog.batch(twice, 3) == pytest.approx((4.0, 30.0), rel=0.01)


def test_a_wait_is_so_many_batches_on_so_many_workers() -> None:
    """Behind 9 others of 4 a batch, two batches leave first: one on each worker, and the third waits for the first."""
    assert Backlog(1).wait_s(9, [0.5], (4.0, 10.0)) == 20.5
    assert Backlog(2).wait_s(9, [0.5, 3.0], (4.0, 10.0)) == 10.5
    assert Backlog(2).wait_s(4, [0.5, 3.0], (4.0, 10.0)) == 3.0


def test_the_margin_holds_all_but_one_promise_in_twenty() -> None:
    """Whatever way waits are spread."""
    backlog, rng = Backlog(1), np.random.default_rng(0)
    late_s = [float(late_s) for late_s in rng.gamma(2.0, 0.5, 8000)]
    num_beyond = 0
    for number, excess_s in enumerate(late_s):
        item = Item()
        backlog.promise(item, 10.0)
        num_beyond += number >= 4000 and excess_s > backlog.margin_s
        backlog.kept([item], 10.0 + excess_s, 0.5)
    assert num_beyond / 4000 == pytest.approx(0.05, abs=0.015)
    assert backlog.margin_s == pytest.approx(np.quantile(late_s, 0.95), rel=0.25)


def test_promises_that_are_never_kept_widen_the_margin() -> None:
    """And those that are kept narrow it, down to nothing."""
    backlog, item = Backlog(1), Item()
    backlog.promise(item, 1.0)
    backlog.kept([item], math.inf, 1.0)
    assert backlog.margin_s > 0.0
    for _ in range(100):
        backlog.kept([item], 1.0, 1.0)
    assert backlog.margin_s == 0.0


def test_items_without_a_promise_move_nothing() -> None:
    """They have no deadline."""
    backlog = Backlog(1)
    backlog.promise(Item(), 1.0)
    backlog.kept([Item()], math.inf, 1.0)
    assert backlog.margin_s == 0.0
