"""Where a plan takes its noise scale from; that it is made as a whole is tried from the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carpool.train.planning.assemble import TrainPlanOptions
from carpool.train.planning.make import noise_of
from carpool.train.planning.trade_off import Noise
from tests.train.planning import made_up

if TYPE_CHECKING:
    from carpool.train.setup import TrainSetup


def hopeless() -> TrainSetup:
    """Nothing is learnt: there is no gradient to tell from its noise."""
    return made_up.setup(num_items=64, loss=lambda model, batch: (model(batch[0]) * 0.0).sum())


def test_a_noise_scale_that_is_given_is_taken_and_none_is_none() -> None:
    """Nothing is trained for either."""
    given = TrainPlanOptions(effective_batch_size=8, noise=400.0)
    assert noise_of("nothing.py:here", given, 8, (1, 8)) == (Noise.known(400.0), ())
    assert noise_of("nothing.py:here", TrainPlanOptions(effective_batch_size=8), 8, (1, 8)) == (None, ())


def test_a_noise_scale_that_cannot_be_told_is_doubted() -> None:
    """There is no plan for a time to a target then."""
    measured = TrainPlanOptions(effective_batch_size=8, noise="measure", noise_budget_s=0.0)
    noise, (doubt,) = noise_of(hopeless, measured, 8, (1, 8))
    assert noise is None
    assert "noise scale not identified" in doubt
    assert "measure longer, or give the scale" in doubt


def test_a_noise_scale_that_cannot_be_measured_costs_no_plan() -> None:
    """What was wrong is told, and the rest stands."""
    measured = TrainPlanOptions(effective_batch_size=8, noise="measure", noise_budget_s=0.0)
    noise, (doubt,) = noise_of(made_up.setup, measured, 8, (8, 8))
    assert noise is None
    assert doubt.startswith("The noise scale could not be measured: a batch of 8 is one micro-batch")
