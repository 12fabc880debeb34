"""What comes nearest where nothing suffices: held against what must be, by arithmetic."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from carpool.plan.nearest import Nearest, nearest
from carpool.plan.search import Search
from carpool.plan.slo import Verdict
from tests.plan.scenes import affine, candidates, poisson, scene, search

if TYPE_CHECKING:
    from carpool.plan.subject import Subject


def look(subject: Subject, rate: float, *objectives: str, max_workers: int = 1) -> Nearest:
    """Search in vain, and look for what is nearest."""
    load = poisson(rate)
    result = search(subject, load, *objectives, max_workers=max_workers, items=200)
    assert result.verdict is Verdict.MISSED
    seen = scene(subject, load, *objectives, items=200)
    return nearest(seen, candidates(subject), result, max_workers=max_workers)


def test_a_promise_below_the_time_of_a_single_item_is_kept_at_no_rate() -> None:
    """An item takes 5 ms: neither less load nor more workers bring it to 4, only a device 1.25 times as fast does."""
    found = look(affine(), 50.0, "p99=4ms")
    assert found.rate is None
    assert found.rate_setup is None
    assert found.num_workers is None
    assert found.speed is not None
    assert 1.25 <= found.speed <= 4.0
    assert found.sentences[0] == "No setup with 1 worker keeps p99 within 4 ms at 50/s."
    assert found.sentences[2] == (
        "It is kept at no rate that was tried: without any wait p99 of single items is already 5 ms."
    )
    assert "more workers alone would not do" in found.sentences[3]


def test_where_the_longest_items_alone_take_too_long_they_are_named() -> None:
    """One item in two has 30 tokens, and takes 34 ms alone; a typical one would be in time."""
    model, load = affine(lengths=(1, 30)), poisson(10.0, (1, 1, 1, 30, 30))
    seen = scene(model, load, "p99=20ms", items=200)
    tried = candidates(model, (1, 1, 1, 30, 30))
    result = Search(scene=seen, full=seen, candidates=tried, num_runs=3).run()
    assert nearest(seen, tried, result, max_workers=1).sentences[2] == (
        "It is kept at no rate that was tried: without any wait p99 of single items is already 34 ms (one of 30 tokens "
        "takes 34 ms, a typical one 5 ms)."
    )


def test_a_load_beyond_every_batch_size_is_carried_by_more_workers_or_a_faster_device() -> None:
    """Batches of 16 carry 800 a second; 1,500 need two workers, or one that is at least 1.875 times as fast."""
    found = look(affine(), 1500.0)
    assert found.num_workers == 2
    assert found.speed is not None
    assert 1.875 <= found.speed <= 2.5
    assert found.rate is not None
    assert 650 <= found.rate <= 820
    assert found.sentences[0].startswith("No setup with 1 worker carries 1,500/s; ")
    assert found.sentences[-1].startswith(
        "At the whole rate it would take about 2 workers rather than 1 or a device about "
    )


def test_the_nearest_latency_is_that_of_what_was_found() -> None:
    """With its interval, and the setup that has it."""
    found = look(affine(), 700.0, "p99=10ms", max_workers=1)
    assert found.latencies_s[0].value > 0.01
    assert found.sentences[1].startswith("The nearest at that rate is batches of up to ")
    assert found.rate is not None
    assert found.rate < 700
    assert found.rate_setup is not None


def test_the_rate_that_is_named_keeps_the_objective() -> None:
    """In windows of its own, and half as much again does not."""
    found = look(affine(), 700.0, "p99=15ms")
    assert found.rate is not None
    assert found.rate_setup is not None
    at_rate = scene(affine(), poisson(found.rate), "p99=15ms", items=1000).predict(found.rate_setup, 4)
    beyond = scene(affine(), poisson(1.5 * found.rate), "p99=15ms", items=1000).predict(found.rate_setup, 4)
    assert at_rate.at_objectives_s[0].value == pytest.approx(0.015, rel=0.25)
    assert beyond.at_objectives_s[0].value > 0.015
