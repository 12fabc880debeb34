"""The figures of a window, on traces whose figures are known by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from carpool.signals.events import BatchFailed, ItemDropped, Passage
from carpool.signals.window import WindowFigures, littles_law, window_figures
from tests.signals.records import batch, closed_loop


def figures_of(records: list[Passage], *, to_at: float, objective_s: float | None = None) -> WindowFigures:
    """Figures from instant 0 for batches of at most 8."""
    return window_figures(records, from_at=0.0, to_at=to_at, max_batch_size=8, objective_s=objective_s)


def test_closed_loop_has_the_figures_of_its_construction() -> None:
    """A worker that is never idle, with half-full batches of equal length."""
    figures = figures_of([*closed_loop(100)], to_at=1.0)
    assert figures.items_per_s == pytest.approx(400)
    assert figures.mean_batch_size == 4
    assert figures.fill_ratio == 0.5
    assert figures.padding_waste == pytest.approx(1 - 10 / 16)
    assert figures.utilisation == pytest.approx(1.0)
    assert figures.queue_delay is not None
    assert figures.queue_delay.p99.value == 0.0
    assert figures.compute is not None
    assert figures.compute.mean == pytest.approx(0.01)
    assert figures.littles_law is not None
    assert figures.littles_law.num_in_system == pytest.approx(4.0)
    assert figures.littles_law.gap == pytest.approx(0.0, abs=1e-9)
    assert figures.littles_law.steady


def test_queue_delay_runs_from_each_items_own_arrival() -> None:
    """Two items that came at different times waited different times."""
    figures = figures_of([batch((0.0, 0.3), start=0.4, end=0.5)], to_at=1.0)
    assert figures.queue_delay is not None
    assert figures.queue_delay.mean == pytest.approx(0.25)
    assert figures.latency is not None
    assert figures.latency.mean == pytest.approx(0.35)


def test_goodput_counts_items_within_the_objective_and_no_failed_one() -> None:
    """Of three items one is late and one failed."""
    records = [batch((0.0, 0.4, 0.4), start=0.4, end=0.5, num_failed=1)]
    figures = figures_of([*records], to_at=2.0, objective_s=0.2)
    assert figures.goodput_per_s == pytest.approx(0.5)
    assert figures.items_per_s == pytest.approx(1.0)


def test_prediction_error_is_signed_by_its_bias() -> None:
    """A model that promises 20 % too little every time."""
    records = [batch((0.0,), start=0.0, end=0.1, predicted_s=0.08) for _ in range(3)]
    prediction = figures_of([*records], to_at=1.0).prediction
    assert prediction is not None
    assert prediction.num_batches == 3
    assert prediction.median_error == pytest.approx(0.2)
    assert prediction.bias == pytest.approx(-0.2)


def test_window_without_a_batch_has_no_durations() -> None:
    """What was not measured is None, what is countable is zero."""
    figures = figures_of([ItemDropped(at=0.5, arrived_at=0.1, cause="deadline")], to_at=1.0)
    assert (figures.num_batches, figures.items_per_s, figures.utilisation) == (0, 0.0, 0.0)
    assert (figures.queue_delay, figures.compute, figures.latency) == (None, None, None)
    assert (figures.prediction, figures.fill_ratio) == (None, None)


def test_failed_runs_use_the_worker_and_answer_nobody() -> None:
    """A run that raised for a fifth of the window counts in the utilisation alone; what began before is cut off."""
    ran = closed_loop(30)
    failed = BatchFailed(at=0.55, started_at=0.35, batch_id=30, num_items=4, error="ValueError: no")
    before = BatchFailed(at=0.0, started_at=-0.5, batch_id=31, num_items=4, error="ValueError: no")
    with_it, without = figures_of([before, *ran, failed], to_at=1.0), figures_of([*ran], to_at=1.0)
    assert with_it.utilisation == pytest.approx(0.3 + 0.2)
    assert replace(with_it, utilisation=without.utilisation) == without


def test_items_that_a_failed_run_answers_leave_the_system_by_it() -> None:
    """A model that raises all the time has no throughput, and obeys Little's law all the same."""
    failed = [
        BatchFailed(at=i + 1.0, started_at=float(i), batch_id=i, num_items=2, error="no", arrived_at=(i - 0.5,) * 2)
        for i in range(40)
    ]
    figures = figures_of([*failed], to_at=40.0, objective_s=10.0)
    assert (figures.num_items, figures.items_per_s, figures.goodput_per_s) == (0, 0.0, 0.0)
    assert figures.littles_law is not None
    assert figures.littles_law.num_in_system == pytest.approx(2 * 1.5, rel=0.02)
    assert figures.littles_law.steady


def test_growing_backlog_breaks_littles_law() -> None:
    """Items come twice as fast as they are served: the unserved ones show in the queue depth alone."""
    records = [
        batch((i * 0.005,), start=i * 0.01, end=(i + 1) * 0.01, batch_id=i, queue_depth=i) for i in range(1, 101)
    ]
    law = littles_law([*records], from_at=0.0, to_at=1.01)
    assert law is not None
    assert law.gap > 0.3
    assert not law.steady


def test_littles_law_holds_for_a_steady_random_queue() -> None:
    """A simulated M/D/1 queue at utilisation 0.7, as a simulation that knows nothing of the law runs it."""
    generator = np.random.default_rng(11)
    arrivals = np.cumsum(generator.exponential(1 / 70, size=7000)).tolist()
    records: list[Passage] = []
    free_at = 0.0
    for number, arrived_at in enumerate(arrivals):
        start = max(free_at, arrived_at)
        free_at = start + 0.01
        depth = sum(1 for other in arrivals[number + 1 : number + 60] if other <= free_at)
        records.append(batch((arrived_at,), start=start, end=free_at, batch_id=number, queue_depth=depth))
    law = littles_law(records, from_at=0.0, to_at=free_at)
    assert law is not None
    assert law.steady
    # Pollaczek-Khinchine: L = rho + rho^2 / (2 (1 - rho)), within what 100 s of it can tell.
    assert law.num_in_system == pytest.approx(0.7 + 0.49 / 0.6, rel=0.1)


def test_lost_item_breaks_littles_law() -> None:
    """A queue that always holds one item which never leaves."""
    records = [batch((i * 0.1,), start=i * 0.1, end=i * 0.1 + 0.05, queue_depth=1) for i in range(100)]
    law = littles_law([*records], from_at=0.0, to_at=10.0)
    assert law is not None
    assert law.gap > 0.5


def test_dropped_items_count_as_departures() -> None:
    """An item that waited and left uncomputed was in the system while it waited."""
    law = littles_law([ItemDropped(at=1.0, arrived_at=0.0, cause="cancelled")], from_at=0.0, to_at=1.0)
    assert law is not None
    assert law.num_in_system == pytest.approx(1.0)
    assert math.isclose(law.gap, 0.0, abs_tol=1e-12)


def test_window_of_no_length_has_no_law() -> None:
    """Nothing can be averaged over no time."""
    assert littles_law([*closed_loop(1)], from_at=0.01, to_at=0.01) is None
    assert littles_law([], from_at=0.0, to_at=1.0) is None
