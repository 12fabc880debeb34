"""What a search may try: sizes within what was measured, allowed and fits, and the knobs beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carpool.core.budget import Budget
from carpool.errors import ConfigError
from carpool.plan.analytic import largest_rate
from carpool.plan.candidates import Candidates
from carpool.plan.predict import fitted
from carpool.signals.objective import Objective
from tests.plan.scenes import MODEL_BYTES, TOKEN_BYTES, affine, candidates

if TYPE_CHECKING:
    from carpool.plan.setup import Setup

LENGTHS = (8, 16, 32, 64)
MIXED = affine(lengths=LENGTHS, token_s=1e-4, memory=True, limit_bytes=10**9)


def test_sizes_are_one_its_doublings_the_knee_and_the_largest_measured() -> None:
    """With `t = 4 + b` ms the knee, 95 % of what 16 give, is 13."""
    assert candidates(affine()).sizes() == (1, 2, 4, 8, 13, 16)


def test_sizes_stay_within_what_is_allowed() -> None:
    """A size that the user excludes is not tried, not even as the knee."""
    found = candidates(affine(), max_batch_size=6)
    assert found.sizes() == (1, 2, 4, 6)
    assert found.largest(1) == (6, "asked")


def test_sizes_stay_within_memory() -> None:
    """1 MB and 1 kB a token: 1.1 MB hold 6 items of 16 tokens."""
    found = candidates(MIXED, (16,), memory_limit_bytes=1_100_000)
    assert found.largest(16) == (6, "memory")
    assert found.sizes() == (1, 2, 4, 6)


def test_the_users_limit_of_memory_replaces_the_profiles() -> None:
    """Whether it is the smaller or not."""
    small = affine(lengths=LENGTHS, memory=True, limit_bytes=1_100_000)
    assert candidates(small, (16,)).largest(16) == (6, "memory")
    assert candidates(small, (16,), memory_limit_bytes=10**9).largest(16) == (16, "measured")


def test_a_policy_names_the_limit_of_memory_only_where_it_can_be_passed() -> None:
    """Batches that fit at any length need no limit."""
    found = candidates(MIXED, LENGTHS, memory_limit_bytes=1_300_000)
    assert found.of_size(4, 1).policy.memory_limit_bytes is None
    assert found.of_size(8, 1).policy.memory_limit_bytes == pytest.approx(1_300_000, rel=0.01)


def test_memory_that_was_not_measured_cannot_be_limited() -> None:
    """The limit would be a promise that nothing keeps."""
    with pytest.raises(ConfigError, match=r"memory is limited to 1.91 MiB, but what a batch needs was not measured"):
        candidates(affine(), memory_limit_bytes=2_000_000)


def test_a_model_that_does_not_fit_is_refused() -> None:
    """With what one item needs."""
    with pytest.raises(ConfigError, match=r"not even one item of 64 tokens fits into 1.01 MiB: it needs 1.01 MiB"):
        candidates(MIXED, LENGTHS, memory_limit_bytes=MODEL_BYTES + 60 * TOKEN_BYTES)


def test_waits_are_those_that_could_keep_the_objective() -> None:
    """A single item takes 5 ms: a fifth of it and all of it are tried."""
    free, tight = candidates(affine()), Candidates(subject=affine(), lengths=[1], objectives=[Objective(0.99, 0.002)])
    assert [one.policy.max_wait_s for one in free.variants(free.of_size(8, 1))] == [0.001, 0.005]
    assert [one.policy.max_wait_s for one in tight.variants(tight.of_size(8, 1))] == [0.001]


def test_every_setup_has_the_objectives_in_its_policy() -> None:
    """As a server has them, whose batches they hold to a time."""
    found = Candidates(subject=MIXED, lengths=LENGTHS, objectives=[Objective(0.5, 0.1), Objective(0.99, 0.3)])
    setups = [*found.plain(2), *found.variants(found.of_size(4, 1))]
    assert len(setups) > 6
    assert all(one.policy.objectives_s == {"p50": 0.1, "p99": 0.3} for one in setups)
    assert candidates(MIXED, LENGTHS).of_size(4, 1).policy.objectives_s == {}


def test_token_budgets_and_padding_are_for_mixed_lengths() -> None:
    """Items of one length have neither; mixed ones get budgets that hold the longest item."""
    found = candidates(MIXED, LENGTHS)
    turned = [one.policy for one in found.variants(found.of_size(4, 1))]
    assert {one.token_budget for one in turned} == {None, 4 * 32}
    assert {one.max_batch_size for one in turned if one.token_budget} == {4, 16}
    assert {one.length_buckets for one in turned} == {(), LENGTHS}


def test_single_items_have_no_other_knob() -> None:
    """Waiting for company, budgets and padding mean nothing where nothing is batched."""
    found = candidates(MIXED, LENGTHS)
    assert found.variants(found.of_size(1, 1)) == []


def test_a_knob_that_is_turned_is_not_turned_again() -> None:
    """Variants of a variant turn another knob."""
    found = candidates(MIXED, LENGTHS)
    waiting = next(one for one in found.variants(found.of_size(4, 1)) if one.policy.max_wait_s)
    further = found.variants(waiting)
    assert {one.policy.max_wait_s for one in further} == {waiting.policy.max_wait_s}
    assert all(one.policy.token_budget or one.policy.length_buckets for one in further)


@pytest.mark.parametrize("size", [1, 4, 16])
def test_capacity_is_the_largest_sustainable_rate(size: int) -> None:
    """Held against queueing theory: `B / t(B)`, for each worker."""
    found = candidates(affine())
    exact = largest_rate([0.004 + 0.001 * b for b in range(1, size + 1)])
    assert found.capacity(found.of_size(size, 3)) == pytest.approx(3 * exact)


def test_capacity_counts_how_calls_scatter() -> None:
    """Calls that take 1.5 times their median on average carry so much less."""
    from dataclasses import replace

    found = candidates(replace(affine(), call_spread=(1.0, 2.0)))
    assert found.capacity(found.of_size(1, 1)) == pytest.approx(200 / 1.5)


@settings(max_examples=40)
@given(
    limit_bytes=st.integers(MODEL_BYTES + 64 * TOKEN_BYTES + 2000, 2_500_000),
    most=st.none() | st.integers(1, 40),
    lengths=st.lists(st.integers(1, 64), min_size=1, max_size=8),
)
def test_nothing_that_is_tried_passes_a_limit(limit_bytes: int, most: int | None, lengths: list[int]) -> None:
    """Neither of memory, at any length that arrives, nor of size, nor of what was measured."""
    found = Candidates(subject=MIXED, lengths=sorted(lengths), max_batch_size=most, memory_limit_bytes=limit_bytes)
    plain = found.plain(1)
    for setup in [*plain, *(variant for one in plain for variant in found.variants(one))]:
        assert setup.policy.max_batch_size <= (most or 16)
        for length in lengths:
            assert _most_bytes(setup, length) <= limit_bytes


def _most_bytes(setup: Setup, length: int) -> float:
    """Return what the largest batch of a length needs."""
    budget = Budget(fitted(setup.policy, MIXED), MIXED.cost.clipped())
    padded = budget.padded_length(length)
    return MODEL_BYTES + TOKEN_BYTES * budget.most_items(padded)[0] * padded
