"""The same load served in other ways: which rows there are, what they assume, and that they compare like with like."""

from __future__ import annotations

from dataclasses import replace

import pytest

from carpool.core.policy import Policy
from carpool.plan.changed_cost import ChangedCost
from carpool.plan.predict import predict
from carpool.plan.setup import Setup
from carpool.plan.what_if import Choice, WhatIfRow, choices, coarse_buckets, most_memory_bytes, what_if
from tests.plan.plans import LENGTHS, OBJECTIVE, TOKEN_BYTES, WEIGHTS, subject, workload

GIGABYTE = 1_000_000_000
NAMES = [
    "no batching",
    "dynamic batching",
    "waiting up to 3.5 ms",
    "length buckets",
    "twice the workers",
    "a device twice as fast",
    "half the memory",
    "a model twice as large",
]


def listed(
    chosen: Setup, *, limit_bytes: int | None = GIGABYTE, lengths: tuple[int, ...] = LENGTHS
) -> dict[str, Choice]:
    """The choices by name."""
    return {one.name: one for one in choices(subject(), chosen, lengths, limit_bytes)}


def rows_of(chosen: Setup, *, rate: float = 100.0, price: float | None = None) -> dict[str, WhatIfRow]:
    """The simulated rows by name."""
    model, load = subject(), workload(rate)
    found = predict(model, load, chosen, objectives=(OBJECTIVE,), window_s=5.0, num_runs=3)
    return {
        row.name: row
        for row in what_if(model, load, chosen, found, objectives=(OBJECTIVE,), price_per_hour=price, num_runs=3)
    }


def test_there_is_a_row_for_every_choice_and_the_plan_is_one_of_them() -> None:
    """A plan that is one of the choices is marked rather than repeated."""
    found = listed(Setup(policy=Policy(max_batch_size=8)))
    assert list(found) == NAMES
    assert [name for name, one in found.items() if one.chosen] == ["dynamic batching"]


def test_a_plan_that_is_none_of_the_choices_stands_first() -> None:
    """A plan with a token budget and a wait differs from every row."""
    found = list(choices(subject(), Setup(policy=Policy(max_wait_s=0.01, token_budget=64)), LENGTHS, GIGABYTE))
    assert [one.name for one in found if one.chosen] == [found[0].name] == ["the plan"]
    assert [one.name for one in found[1:4]] == ["no batching", "dynamic batching", "waiting up to 10 ms"]


def test_each_row_changes_one_thing() -> None:
    """Workers, speed and policy change one at a time."""
    chosen = Setup(policy=Policy(max_batch_size=8), num_workers=2)
    found = listed(chosen)
    assert found["no batching"].setup == replace(chosen, policy=Policy(max_batch_size=1))
    assert found["waiting up to 3.5 ms"].setup.policy == Policy(max_batch_size=8, max_wait_s=0.0035)
    assert found["length buckets"].setup.policy == Policy(max_batch_size=8, length_buckets=(8, 16, 32, 64))
    assert found["twice the workers"].setup == replace(chosen, num_workers=4)
    assert found["a device twice as fast"].setup == chosen
    faster = found["a device twice as fast"].cost
    assert faster.time_s(4, 16) == pytest.approx(0.5 * subject().cost.time_s(4, 16))


def test_without_batching_in_the_plan_the_others_batch_up_to_the_knee() -> None:
    """What batching would do is shown even where the plan has none."""
    found = listed(Setup(policy=Policy(max_batch_size=1)))
    assert found["no batching"].chosen
    assert found["dynamic batching"].setup.policy.max_batch_size == subject().cost.knee(30)


def test_items_of_one_length_have_no_row_of_length_buckets() -> None:
    """There is nothing to sort."""
    assert "length buckets" not in listed(Setup(), lengths=(16, 16))


def test_half_the_memory_makes_batches_smaller_where_it_binds_and_says_so() -> None:
    """450 MB hold 400 MB and 41 items of 60 tokens: fewer than 64."""
    found = listed(Setup(policy=Policy(max_batch_size=64)), limit_bytes=900_000_000)["half the memory"]
    assert found.setup.policy.memory_limit_bytes is not None
    assert found.setup.policy.memory_limit_bytes <= 450_000_000
    room = (found.setup.policy.memory_limit_bytes - 400_000_000) // (TOKEN_BYTES * 60)
    assert found.assumes == f"429 MiB leave room for batches of {room} items of 60 tokens"


def test_half_the_memory_that_still_suffices_changes_nothing_and_says_so() -> None:
    """A batch of eight fits into half as well: the plan's own figures are shown again."""
    chosen = Setup(policy=Policy(max_batch_size=8))
    found = listed(chosen)["half the memory"]
    assert (found.setup, found.assumes) == (chosen, "no change: 477 MiB still hold the plan's largest batch")
    rows = rows_of(chosen)
    assert rows["half the memory"].prediction is rows["dynamic batching"].prediction


def test_memory_too_small_for_one_item_is_said_instead_of_simulated() -> None:
    """400 MB are held by the model alone."""
    found = listed(Setup(), limit_bytes=700_000_000)["half the memory"]
    assert found.why_not == "one item of 60 tokens needs 383 MiB, and there would be 334 MiB"


def test_unknown_memory_is_said() -> None:
    """Without a limit nobody knows what half of it is."""
    found = listed(Setup(), limit_bytes=None)
    assert "is not known" in found["half the memory"].why_not
    assert "whether it fits is not known" in found["a model twice as large"].assumes
    without = {one.name: one for one in choices(subject(memory=False), Setup(), LENGTHS, None)}
    assert "is not known" in without["half the memory"].why_not


def test_a_model_twice_as_large_takes_twice_the_time_and_its_weights_again() -> None:
    """Libraries and what an item needs stay."""
    cost = listed(Setup(policy=Policy(max_batch_size=8)))["a model twice as large"].cost
    measured = subject().cost
    assert cost.time_s(8, 16) == pytest.approx(2 * measured.time_s(8, 16))
    assert cost.memory_bytes(8, 16) == pytest.approx(measured.memory_bytes(8, 16) + WEIGHTS)


def test_most_memory_is_that_of_the_largest_batch_of_the_longest_items() -> None:
    """Eight items of 60 tokens, beside 400 MB."""
    model = subject()
    choice = Choice(
        name="", setup=Setup(policy=Policy(max_batch_size=8)), cost=ChangedCost(measured=model.cost.clipped())
    )
    assert most_memory_bytes(model, choice, LENGTHS) == pytest.approx(400_000_000 + 8 * 60 * TOKEN_BYTES, rel=1e-3)


def test_rows_differ_by_what_they_do() -> None:
    """On the same windows, a faster device and more workers are faster, and a larger model is slower."""
    rows = rows_of(Setup(policy=Policy(max_batch_size=8)))
    p99 = {name: row.prediction.p99_s.value for name, row in rows.items() if row.prediction is not None}
    assert p99["a device twice as fast"] < p99["twice the workers"] < p99["dynamic batching"] < p99["no batching"]
    assert p99["a model twice as large"] > p99["dynamic batching"]
    offered = {row.prediction.offered for row in rows.values() if row.prediction is not None}
    assert len(offered) == 1


def test_cost_of_a_million_items_follows_from_price_workers_and_rate() -> None:
    """At 3.60 an hour, a worker costs a thousandth a second."""
    rows = rows_of(Setup(policy=Policy(max_batch_size=8)), price=3.6)
    for name, workers in (("dynamic batching", 1), ("twice the workers", 2)):
        row = rows[name]
        assert row.cost_per_million is not None
        assert row.prediction is not None
        assert row.cost_per_million.value == pytest.approx(1000 * workers / row.prediction.throughput.value)
        assert row.cost_per_million.low <= row.cost_per_million.value <= row.cost_per_million.high


def test_progress_is_told_row_by_row() -> None:
    """The names come in order, before each is simulated."""
    told: list[str] = []
    model, load, chosen = subject(), workload(), Setup(policy=Policy(max_batch_size=8))
    found = predict(model, load, chosen, window_s=1.0, num_runs=1)
    what_if(model, load, chosen, found, num_runs=1, watch=told.append)
    assert told == NAMES


def test_coarse_buckets_are_lengths_that_the_model_pads_to() -> None:
    """A model that pads to multiples of 24 is given those that hold 16, 32, 64 and 128."""
    assert coarse_buckets([10, 100], tuple(range(24, 241, 24))) == (24, 48, 72, 144)
