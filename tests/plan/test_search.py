"""The search: it agrees with queueing theory, takes no more than it needs, and never passes a limit."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carpool.plan.analytic import solve
from carpool.plan.slo import Verdict
from tests.plan.scenes import MODEL_BYTES, TOKEN_BYTES, Groups, affine, poisson, scene, search

OVERHEAD_S, ITEM_S = 0.004, 0.001


def exact_s(rate: float, size: int) -> float:
    """Return the mean latency by the Markov chain."""
    return solve(rate, [OVERHEAD_S + ITEM_S * b for b in range(1, size + 1)]).mean_latency_s


@pytest.mark.parametrize(("rate", "sizes"), [(150.0, (2, 4, 8, 13, 16)), (300.0, (4, 8, 13, 16)), (450.0, (8, 13, 16))])
def test_the_chosen_size_is_as_good_as_any_by_theory_and_has_room(rate: float, sizes: tuple[int, ...]) -> None:
    """Poisson arrivals and `t = 4 + b` ms: the Markov chain says which sizes are as good, the knee (13) among them."""
    result = search(affine(OVERHEAD_S, ITEM_S), poisson(rate), items=500)
    best_s = min(exact_s(rate, size) for size in sizes)
    clearly_worse = [size for size in sizes if exact_s(rate, size) > 1.04 * best_s]
    policy = result.chosen.policy
    assert exact_s(rate, policy.max_batch_size) <= 1.04 * best_s
    assert policy.max_batch_size in {size for size in sizes if size not in clearly_worse}
    assert policy.max_batch_size == 13
    assert not policy.max_wait_s
    assert result.prediction.mean_s.value == pytest.approx(exact_s(rate, policy.max_batch_size), rel=0.1)


def test_batching_that_buys_nothing_is_not_chosen() -> None:
    """Where a batch takes as long as its items one by one, they only wait for each other in it."""
    result = search(affine(0.0, 0.005), poisson(140.0), "p99=100ms")
    assert result.chosen.policy.max_batch_size == 1
    assert result.verdict is Verdict.MET


def test_a_wait_that_pays_is_chosen() -> None:
    """Pairs 0.2 ms apart, and batches of any size take 10 ms: without a wait the second one waits for the first."""
    result = search(affine(0.010, 0.0001), Groups(rate=125.0, size=2))
    assert result.chosen.policy.max_wait_s > 0
    apart = next(one for one in result.tried if not one.setup.policy.max_wait_s)
    assert result.prediction.mean_s.value < 0.8 * apart.prediction.mean_s.value


def test_a_wait_that_does_not_pay_is_not_chosen() -> None:
    """Nobody comes within 10 ms of another: Poisson arrivals at little load."""
    result = search(affine(0.010, 0.0001), poisson(5.0), items=200)
    assert (result.chosen.policy.max_batch_size, result.chosen.policy.max_wait_s) == (1, 0.0)


def test_no_more_workers_than_it_takes() -> None:
    """One worker carries 800 of 1,000 items a second at most; two keep the objective, so a third is not looked at."""
    result = search(affine(), poisson(1000.0), "p99=40ms", max_workers=4, items=300)
    assert result.chosen.num_workers == 2
    assert result.verdict is Verdict.MET
    assert {one.setup.num_workers for one in result.tried} == {2}


def test_a_second_worker_is_taken_only_where_one_does_not_keep_the_objective() -> None:
    """With a looser promise one is enough."""
    loose = search(affine(), poisson(500.0), "p99=100ms", max_workers=2, items=300)
    strict = search(affine(), poisson(500.0), "p99=13ms", max_workers=2, items=300)
    assert (loose.chosen.num_workers, strict.chosen.num_workers) == (1, 2)


def test_mixed_lengths_are_kept_apart_where_that_pays() -> None:
    """Whatever is chosen for short and long items together is at least as good as the best plain size."""
    model = affine(0.002, 1e-4, lengths=(8, 128))
    result = search(model, poisson(110.0, (8, 8, 8, 128)), lengths=(8, 8, 8, 128), items=150)
    best_s = min(one.prediction.mean_s.value for one in result.tried)
    assert result.tried[0].prediction.mean_s.value <= 1.05 * best_s


def test_what_is_chosen_where_nothing_suffices_has_the_best_goodput() -> None:
    """800 items a second is the most: at 1,500 the largest batches answer most, and no verdict is made up."""
    result = search(affine(), poisson(1500.0), "p99=20ms", max_workers=1)
    assert result.chosen.policy.max_batch_size >= 8
    assert result.verdict is Verdict.MISSED
    assert not result.prediction.stable


def test_the_chosen_comes_first_of_what_was_tried() -> None:
    """Then come its ties, then the rest."""
    result = search(affine(), poisson(300.0), "p99=50ms")
    assert result.tried[0].setup == result.chosen
    assert result.tried[0].verdict is result.verdict
    ties = [one.tie for one in result.tried]
    assert ties == sorted(ties, reverse=True)


def test_the_same_seed_finds_the_same() -> None:
    """Nothing else is drawn."""
    first, second = (search(affine(), poisson(300.0), "p99=50ms", items=200) for _ in range(2))
    assert first == second


@settings(max_examples=5)
@given(
    limit_bytes=st.integers(MODEL_BYTES + 40 * TOKEN_BYTES, MODEL_BYTES + 400 * TOKEN_BYTES),
    most=st.integers(1, 16),
    rate=st.floats(20.0, 400.0),
)
def test_no_batch_of_what_is_chosen_passes_a_limit(limit_bytes: int, most: int, rate: float) -> None:
    """Simulated: every batch of the chosen setup has few enough items, and fits."""
    lengths = (8, 32)
    model = affine(0.002, 1e-4, lengths=lengths, memory=True)
    load = poisson(rate, lengths)
    result = search(
        model, load, "p99=50ms", lengths=lengths, items=80, memory_limit_bytes=limit_bytes, max_batch_size=most
    )
    run = scene(model, load).run(result.chosen, 0)
    assert run.sizes.max(initial=0) <= most
    assert (MODEL_BYTES + TOKEN_BYTES * run.sizes * run.padded_lengths).max(initial=0) <= limit_bytes
