"""The walk of long queues: its first fall, where it lands, and how rare it is far up."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from carpool.plan.ladder import Step, descent


def step(batch_size: int, load: float, *, spread: bool = False) -> Step:
    """Return a step in which so large a share of a batch arrives on average; where asked, after times that scatter."""
    factors, weights = (np.array([0.5, 1.0, 3.0]), np.array([0.4, 0.5, 0.1])) if spread else (np.ones(1), np.ones(1))
    return Step(batch_size=batch_size, means=load * batch_size / (weights @ factors) * factors, weights=weights)


def test_a_batch_of_one_falls_by_one() -> None:
    """It cannot fall further."""
    assert step(1, 0.7).survivals() == pytest.approx([1.0], abs=1e-15)


@pytest.mark.parametrize("load", [1e-6, 0.1, 0.5, 0.9, 0.999999])
def test_a_pair_falls_by_two_as_often_as_its_root_says(load: float) -> None:
    """`1 - h1 / z - h2 / z^2` is `(1 - 1 / z) (1 - r / z)`, with r the other root of `z^2 = exp(-2 load (1 - z))`."""
    root = optimize.brentq(lambda z: z + np.exp(-load * (1 - z)), -1.0, 0.0, xtol=1e-16)
    assert step(2, load).survivals() == pytest.approx([1.0, -root], rel=1e-13)


@pytest.mark.parametrize("batch_size", [3, 24, 256])
@pytest.mark.parametrize("load", [0.1, 0.6, 0.99, 1 - 1e-9])
def test_falls_are_those_of_the_roots(batch_size: int, load: float) -> None:
    """All roots of `z^B = exp(-load B (1 - z))` in the unit circle, multiplied out."""
    turns = np.exp(2j * np.pi * np.arange(batch_size) / batch_size)
    roots = np.zeros(batch_size, dtype=complex)
    for _ in range(200):
        powers = turns * np.exp(-load * (1 - roots))
        roots -= (roots - powers) / (1 - load * powers)
    product = np.ones(1, dtype=complex)
    for root in roots[1:]:
        product = np.convolve(product, [1, -root])
    if batch_size > 24:  # multiplied out one by one, so many roots lose their digits: their sum is what is left
        assert step(batch_size, load).survivals().sum() == pytest.approx(np.prod(1 - roots[1:]).real, rel=1e-10)
    else:
        assert step(batch_size, load).survivals() == pytest.approx(product.real, abs=1e-11)


@settings(max_examples=40)
@given(batch_size=st.integers(1, 40), load=st.floats(0.01, 0.999), reach=st.integers(1, 60), spread=st.booleans())
def test_every_fall_lands_somewhere(batch_size: int, load: float, reach: int, spread: bool) -> None:
    """From each start the landings are probabilities that sum to 1, whatever the reach."""
    down = descent(step(batch_size, load, spread=spread), reach)
    landings = down.visits @ down.landings
    assert landings.min() >= 0.0
    assert landings.sum(axis=1) == pytest.approx(np.ones(reach), abs=1e-12)
    assert down.num_tops >= 1.0 - 1e-12


@pytest.mark.parametrize("spread", [False, True])
def test_falls_are_those_of_walks_that_were_walked(spread: bool) -> None:
    """20,000 of them, within four standard errors."""
    one, rng = step(5, 0.8, spread=spread), np.random.default_rng(1)
    heights = np.zeros(20_000, dtype=np.int64)
    falling = np.arange(len(heights))
    while len(falling):
        means = rng.choice(one.means, len(falling), p=one.weights)
        heights[falling] += rng.poisson(means) - one.batch_size
        falling = falling[heights[falling] >= 0]
    seen = np.array([(-heights > n).mean() for n in range(5)])
    exact = one.survivals()
    assert (np.abs(seen - exact) <= 4 * np.sqrt(exact * (1 - exact) / len(heights)) + 1e-12).all()


@settings(max_examples=40)
@given(batch_size=st.integers(1, 200), load=st.floats(0.001, 0.99999), spread=st.booleans())
def test_the_decay_is_where_growth_turns(batch_size: int, load: float, spread: bool) -> None:
    """At it, the mean of `exp(decay * step)` is 1."""
    one = step(batch_size, load, spread=spread)
    decay = one.decay()
    assert decay > 0
    assert one.log_growth(decay * (1 - 1e-6)) <= 0 <= one.log_growth(decay * (1 + 1e-6))
