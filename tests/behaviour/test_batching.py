"""When batches leave and what is in them: what servers with delayed batching are tested for, as it is here.

In virtual time, over the object that forms the batches of a live server.
"""

from __future__ import annotations

import pytest

from carpool.core import AffineCost, Item, Policy, Reason
from tests.core.simulation import Outcome, Simulation

COST = AffineCost(overhead_s=0.01, token_s=0.001)
WAIT_S = 10.0


def run(policy: Policy, items: list[Item], *, num_workers: int = 1) -> Outcome:
    """Let items arrive and everything run."""
    simulation = Simulation(policy, COST, num_workers=num_workers)
    simulation.arrive_all(items)
    return simulation.run()


def rows(num_rows: int, *, at: float = 0.0, length: int = 1, tenant: str = "", priority: int = 0) -> list[Item]:
    """Return the rows of one request."""
    return [Item(arrived_at=at, length=length, tenant=tenant, priority=priority) for _ in range(num_rows)]


def contents(outcome: Outcome) -> list[tuple[int, int, str]]:
    """Return items, rows that run, and reason of each batch."""
    return [(len(batch.items), batch.size, batch.reason.value) for batch in outcome.batches]


@pytest.mark.parametrize("num_rows", [1, 2, 3, 6, 7])
def test_a_lone_request_of_any_size_leaves_at_once(num_rows: int) -> None:
    """However long the wait that is allowed: nobody is known to come, so there is nobody to wait for."""
    outcome = run(Policy(max_batch_size=8, max_wait_s=WAIT_S), rows(num_rows))
    assert (outcome.sizes, outcome.batches[0].dispatched_at) == ([num_rows], 0.0)


def test_a_full_batch_leaves_without_waiting() -> None:
    """It could hold nobody else."""
    assert contents(run(Policy(max_batch_size=8, max_wait_s=WAIT_S), rows(8))) == [(8, 8, "full")]


def test_sizes_that_a_model_prefers_are_padded_up_to() -> None:
    """Three rows run as four: a size that the model knows, at once, rather than waiting for a fourth."""
    policy = Policy(max_batch_size=8, batch_size_buckets=(2, 4, 8))
    assert [(items, size) for items, size, _ in contents(run(policy, rows(3)))] == [(3, 4)]


def test_a_preferred_size_is_taken_where_the_rest_would_be_mostly_padding() -> None:
    """Of nine rows, eight leave and the ninth follows alone: sixteen rows for nine would take longer."""
    policy = Policy(max_batch_size=16, batch_size_buckets=(1, 8, 16))
    cost = AffineCost(overhead_s=0.0, token_s=0.001)
    simulation = Simulation(policy, cost)
    simulation.arrive_all(rows(9))
    assert simulation.run().sizes == [8, 1]


def test_requests_that_wait_together_run_together() -> None:
    """Their sizes are added up, up to the limit."""
    outcome = run(Policy(max_batch_size=8), [*rows(1), *rows(1, at=0.001), *rows(3, at=0.002)])
    assert outcome.sizes == [1, 4]


def test_a_request_that_does_not_fit_is_split_over_two_batches() -> None:
    """Rows are items: what has room goes with those before, and the rest in the next batch."""
    outcome = run(Policy(max_batch_size=8), [*rows(1), *rows(6, at=0.001), *rows(4, at=0.002)])
    assert outcome.sizes == [1, 8, 2]


def test_a_request_larger_than_a_batch_runs_in_several() -> None:
    """It need not be refused."""
    assert run(Policy(max_batch_size=8), rows(20)).sizes == [8, 8, 4]


def test_a_queue_delay_is_not_waited_out_at_low_load() -> None:
    """One request a second with ten allowed: each is answered in the time of a batch of one."""
    outcome = run(Policy(max_batch_size=8, max_wait_s=WAIT_S), [row for at in range(20) for row in rows(1, at=at)])
    assert max(outcome.latencies_s) == pytest.approx(COST.time_s(1, 1))


def test_a_wait_never_passes_its_limit() -> None:
    """Clients that come back together make it worth waiting; when they stop, the last ones leave in time."""
    policy = Policy(max_batch_size=64, max_wait_s=0.005)
    simulation = Simulation(policy, COST)
    simulation.closed_loop(8, think_s=0.001, stagger_s=0.0001)
    outcome = simulation.run(until=1.0)
    waits = [batch.dispatched_at - min(item.arrived_at for item in batch.items) for batch in outcome.batches[2:]]
    assert max(waits) <= 0.005 + 1e-9
    assert outcome.sizes[-1] == 8


def test_different_shapes_wait_side_by_side() -> None:
    """An odd one among others closes no batch: those of one length leave together, and then the other."""
    policy = Policy(max_batch_size=4, length_buckets=(8, 512))
    odd = rows(1, at=0.002, length=512)
    outcome = run(policy, [*rows(1), *rows(2, at=0.001, length=8), *odd, *rows(2, at=0.003, length=8)])
    assert [[item.length for item in batch.items] for batch in outcome.batches] == [[1], [8, 8, 8, 8], [512]]


def test_different_shapes_run_together_where_padding_costs_less_than_a_call() -> None:
    """A row of 8 and one of 16 take less time together than one after the other."""
    outcome = run(Policy(max_batch_size=8), [*rows(1), *rows(1, at=0.001, length=16), *rows(1, at=0.002, length=12)])
    assert outcome.sizes == [1, 2]


def test_ragged_rows_of_any_length_run_together() -> None:
    """A model that takes them without padding is given them as they come."""
    policy = Policy(max_batch_size=8, ragged=True)
    mixed = [*rows(1), *rows(1, at=0.001, length=16), *rows(1, at=0.001, length=300), *rows(1, at=0.001, length=2)]
    assert run(policy, mixed).sizes == [1, 3]


def test_two_instances_take_two_batches() -> None:
    """What comes while both are busy gathers for the first that is free."""
    outcome = run(Policy(max_batch_size=8), [*rows(1), *rows(1, at=0.001), *rows(5, at=0.002)], num_workers=2)
    assert outcome.sizes == [1, 1, 5]


def test_requests_are_answered_in_order() -> None:
    """Those of one length and priority leave as they came."""
    simulation = Simulation(Policy(max_batch_size=3), COST)
    items = [Item(payload=number, arrived_at=0.0001 * number) for number in range(30)]
    simulation.arrive_all(items)
    assert [item.payload for item in simulation.run().answered] == list(range(30))


def test_batching_off_runs_one_by_one() -> None:
    """A limit of one."""
    assert run(Policy(max_batch_size=1), rows(4)).sizes == [1, 1, 1, 1]


def test_draining_waits_for_nobody() -> None:
    """What is there when the server stops leaves at once."""
    simulation = Simulation(Policy(max_batch_size=64, max_wait_s=WAIT_S), COST)
    simulation.closed_loop(8, think_s=0.001)
    simulation.run(until=0.2)
    simulation.former.drain()
    simulation.former.add(Item(arrived_at=0.2), 0.2)
    reasons = {batch.reason for batch in simulation.run(until=0.3).batches if batch.dispatched_at >= 0.2}
    assert Reason.TIMER not in reasons
