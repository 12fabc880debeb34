"""Whole plans: the same seed makes the same one, it can be written and read, and it says what it has to."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest

from carpool.config import document
from carpool.errors import ConfigError
from carpool.plan.plan import Plan, PlanOptions, make_plan, windows
from carpool.plan.predict import replicate
from carpool.plan.slo import Verdict, read_objectives
from carpool.plan.workload import Daily, OnOff, Poisson, Workload
from tests.plan.scenes import MODEL_BYTES, TOKEN_BYTES, affine, poisson

LENGTHS = (8, 32)
MODEL = replace(
    affine(0.004, 1e-4, lengths=LENGTHS, memory=True, limit_bytes=10**9, sizes=(1, 2, 4)),
    call_spread=(0.9, 1.0, 1.2),
    max_length=32,
)
QUICK = PlanOptions(window_s=0.3, num_runs=3)


@cache
def plan(
    rate: float = 150.0, objective: str = "p99=60ms", *, lengths: tuple[int, ...] = LENGTHS, price: float | None = None
) -> Plan:
    """Make a plan from little simulation."""
    options = replace(QUICK, price_per_hour=price)
    return make_plan(MODEL, poisson(rate, lengths), read_objectives([objective]), options)


def test_a_plan_says_what_to_serve_with_and_what_that_will_do() -> None:
    """First of all."""
    made = plan()
    assert made.verdict is Verdict.MET
    assert made.chosen == made.tried[0].setup
    assert made.prediction.stable
    assert made.sentences[0].startswith("Serve with batches of up to ")
    assert made.nearest is None
    assert [row.chosen for row in made.what_if].count(True) == 1
    at_load = [point for point in made.frontier if point.label == "the plan" and point.rate == made.rate]
    assert [(point.setup, point.prediction) for point in at_load] == [(made.chosen, made.prediction)]


def test_what_is_simulated_holds_its_batches_to_the_objective() -> None:
    """As what is served does, but for what is late: 50 a second of up to 7.2 ms each, batches of 5.2 ms at first."""
    made = plan(50.0, "p99=10ms", lengths=(32,))
    assert {one.setup.policy.objectives_s["p99"] for one in made.tried} == {0.01}
    assert {row.setup.policy.objectives_s["p99"] for row in made.what_if} == {0.01}
    capped = replace(made.chosen, policy=replace(made.chosen.policy, max_batch_size=4, max_wait_s=0.0))
    free = replace(capped, policy=replace(capped.policy, objectives_s={}))
    held, not_held = (
        (replicate(MODEL, poisson(50.0, (32,)), one, window_s=20.0, seed=0, number=0).sizes > 1).mean()
        for one in (capped, free)
    )
    assert held < 0.02
    assert not_held > 0.05


def test_a_plan_agrees_with_its_table() -> None:
    """What is said of no batching and of coarser padding are the rows' own figures, and so are points of curves."""
    made = plan()
    rows = {row.name: row.prediction for row in made.what_if}
    now, single = rows["dynamic batching"], rows["no batching"]
    assert now is not None
    assert single is not None
    assert (
        f"workers would be busy {single.utilisation.value:.0%} of the time rather than {now.utilisation.value:.0%}"
        in (made.belongs.why)
    )
    at_load = [one for one in made.frontier if one.label == "no batching" and one.rate == made.rate]
    assert [one.prediction for one in at_load] == [single]


def test_what_binds_is_said_of_two_limits_at_most_the_second_as_such() -> None:
    """A missed objective first, then what the time goes into."""
    said = [one for one in plan(150.0, "p99=2ms", lengths=(8,)).sentences if "What binds" in one or "After that" in one]
    assert said[0].startswith("What binds now is the objective. ")
    assert [one.startswith("After that it is ") for one in said[1:]] == [True]


def test_goodput_is_given_where_it_is_what_was_chosen_by() -> None:
    """Beside what is answered at all, of what arrives."""
    made = plan(150.0, "p99=2ms", lengths=(8,))
    said = next(one for one in made.sentences if one.startswith("The best goodput comes from "))
    assert ": 0 (0 to 0) items/s in time; " in said
    assert f"of {made.prediction.offered.value:.3g} items/s that arrive" in said


def test_the_same_seed_makes_the_same_plan() -> None:
    """Nothing else is drawn."""
    again = make_plan(MODEL, poisson(150.0, (8,)), read_objectives(["p99=60ms"]), QUICK)
    assert again == plan(lengths=(8,))


def test_a_plan_is_held_against_theory_where_that_holds() -> None:
    """With one length it does; with two it says why not."""
    assert any(sentence.startswith("Queueing theory has an exact answer") for sentence in plan(lengths=(8,)).sentences)
    assert "padded to 2 lengths from 8 to 32" in plan().theory.broken[0]


def test_a_plan_can_be_written_and_read() -> None:
    """As any other document, without loss."""
    assert document.decode(document.encode(plan()), Plan, "plan.json") == plan()


def test_a_plan_for_what_is_impossible_says_so_first() -> None:
    """With what is nearest, and what would have to change."""
    made = plan(150.0, "p99=2ms", lengths=(8,))
    assert made.verdict is Verdict.MISSED
    assert made.nearest is not None
    assert made.sentences[0] == "No setup with 1 worker keeps p99 within 2 ms at 150/s."
    assert made.sentences[len(made.nearest.sentences)].startswith("The best goodput comes from ")
    assert made.binding[0].limit == "objective"


def test_lengths_beyond_the_models_are_cut_and_said_so() -> None:
    """A doubt names how many."""
    made = plan(100.0, lengths=(8, 64))
    assert any(
        doubt.startswith("The model takes at most 32 tokens: 1 of the workload's 2 lengths") for doubt in made.doubts
    )
    assert made.workload.startswith("Poisson arrivals at 100/s; lengths of 8 to 32 tokens")


def test_a_price_gives_a_cost() -> None:
    """Of a million items."""
    assert not any("A million answered items cost" in sentence for sentence in plan().sentences)
    assert any("A million answered items cost" in sentence for sentence in plan(lengths=(8,), price=2.0).sentences)


def test_what_was_not_measured_is_doubted() -> None:
    """No scatter, a drift, a poor fit, sizes that were asked for but not measured, workers side by side."""
    doubtful = replace(
        MODEL, call_spread=(), drift=0.08, cost=replace(MODEL.cost, error_pct=14.0), memory_limit_bytes=None
    )
    options = replace(QUICK, max_workers=2, max_batch_size=64)
    made = make_plan(doubtful, poisson(900.0, (8,)), (), options)
    said = " ".join(made.doubts)
    assert "How single calls scatter is not in the profile" in said
    assert "The machine became 8% slower" in said
    assert "The cost model is off by 14 %" in said
    assert "Batches of up to 64 were allowed, but none above 4 was measured" in said
    assert "The 2 workers are taken to be as fast together as one alone" in said


def test_batches_beyond_what_was_measured_are_doubted() -> None:
    """Items of 64 tokens were not."""
    longer = replace(MODEL, max_length=64)
    made = make_plan(longer, poisson(60.0, (8, 64)), (), QUICK)
    assert any("of the simulated batches are larger or longer than any that was measured" in one for one in made.doubts)


def test_batches_as_large_as_any_that_was_measured_raise_the_question_of_larger_ones() -> None:
    """Under a load that fills them."""
    made = make_plan(MODEL, poisson(700.0, (8,)), (), QUICK)
    assert made.chosen.policy.max_batch_size == 4
    (doubt,) = (one for one in made.doubts if one.startswith("Batches are often as large as any that was measured"))
    assert "at 8 tokens (4), and larger ones might do better: profile again with a longer --budget" in doubt


def test_a_load_of_which_nothing_would_be_answered_is_refused() -> None:
    """A deadline of 1 ms, where an item takes 5."""
    hopeless = Workload(arrivals=Poisson(rate=50.0), lengths=(8,), deadline_s=0.001)
    with pytest.raises(ConfigError, match=r"of 50 items/s hardly any would be answered with a deadline of 1 ms"):
        make_plan(MODEL, hopeless, (), QUICK)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("max_workers", 0, "max_workers is 0; it must be at least 1"),
        ("max_batch_size", 0, "max_batch_size is 0; it must be at least 1"),
        ("memory_limit_bytes", 0, "memory_limit_bytes is 0; it must be at least 1"),
        ("num_runs", 0, "num_runs is 0; it must be at least 1"),
        ("seed", -1, "seed is -1; it must be at least 0"),
        ("price_per_hour", -1.0, "price_per_hour is -1.0; it must be at least 0 and finite"),
        ("window_s", 0.0, "window_s is 0.0; it must be above 0 and finite"),
        ("window_s", float("inf"), "window_s is inf; it must be above 0 and finite"),
    ],
)
def test_options_that_cannot_be_are_refused(name: str, value: float, message: str) -> None:
    """With the value and the limit."""
    with pytest.raises(ConfigError, match="^" + message):
        PlanOptions(**{name: value})  # type: ignore[arg-type]


def test_windows_hold_enough_items_and_not_too_many() -> None:
    """Longer where little arrives, shorter where much does; of bursts and curves fewer, and as long."""
    options = PlanOptions(window_s=60.0, num_runs=20)
    assert windows(poisson(100.0), options) == (60.0, 20.0, 20)
    assert windows(poisson(0.5), options) == (200.0, 200.0, 20)
    assert windows(poisson(4000.0), options) == (2.5, 0.5, 20)
    assert windows(Workload(arrivals=OnOff(rate=4000.0, on_s=0.5, off_s=0.5)), options) == (10.0, 10.0, 5)
    assert windows(Workload(arrivals=OnOff(rate=100.0, on_s=5, off_s=5)), options) == (60.0, 60.0, 20)
    assert windows(Workload(arrivals=Daily(rate=400.0)), options) == (60.0, 25.0, 8)


def test_what_a_plan_says_is_doubted_where_windows_are_not_as_asked() -> None:
    """A window of 300 ms holds too few items at 20/s."""
    made = plan(20.0, lengths=(8,))
    assert made.prediction.window_s == 5.0
    assert any(doubt.startswith("3 windows of 5 s were simulated instead of 3 of 300 ms") for doubt in made.doubts)


def test_a_plan_keeps_the_limit_of_memory() -> None:
    """In every batch of a simulated window."""
    limit = MODEL_BYTES + 70 * TOKEN_BYTES
    made = make_plan(MODEL, poisson(250.0, LENGTHS), (), replace(QUICK, memory_limit_bytes=limit))
    run = replicate(MODEL, poisson(250.0, LENGTHS), made.chosen, window_s=2.0, seed=1, number=0)
    assert (MODEL_BYTES + TOKEN_BYTES * run.sizes * run.padded_lengths).max() <= limit
    assert made.binding[0].limit == "memory"


@pytest.mark.parametrize(
    ("rate", "words"),
    [(900.0, "1 worker could carry about 542 items/s at most"), (500.0, "On 1 worker p99 would be ")],
)
def test_a_second_worker_is_accounted_for(rate: float, words: str) -> None:
    """By what one alone could carry, or what latency it would have."""
    made = make_plan(MODEL, poisson(rate, (8,)), read_objectives(["p99=14ms"]), replace(QUICK, max_workers=2))
    assert made.chosen.num_workers == 2
    assert any(sentence.startswith(words) for sentence in made.sentences)


def test_a_limit_of_memory_holds_for_lengths_that_seldom_come() -> None:
    """One item in a thousand has 32 tokens; four of them would not fit, four of the others do."""
    limit = MODEL_BYTES + 100 * TOKEN_BYTES
    load = poisson(350.0, (8,) * 999 + (32,))
    made = make_plan(MODEL, load, (), replace(QUICK, memory_limit_bytes=limit))
    assert made.chosen.policy.max_batch_size == 4
    assert made.chosen.policy.memory_limit_bytes == pytest.approx(limit, rel=0.001)


def test_what_is_being_looked_at_is_told() -> None:
    """For a bar of progress."""
    heard: list[str] = []
    make_plan(MODEL, poisson(150.0, (8,)), read_objectives(["p99=2ms"]), QUICK, watch=heard.append)
    assert heard[0] == "batch sizes on 1 worker"
    assert "no batching" in heard
    assert "how many workers would keep the objectives" in heard
