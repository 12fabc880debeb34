"""What a run amounts to."""

from __future__ import annotations

import csv
import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from carpool.loadgen.files import FIELDS, write_requests
from carpool.loadgen.records import OK, OPEN, OVERFLOW, TIMEOUT, Journal, LoadResult, Reply
from carpool.loadgen.stats import summarise
from carpool.signals.objective import Objective

if TYPE_CHECKING:
    from pathlib import Path

OBJECTIVE = Objective(0.9, 0.05)


def result(
    requests: list[tuple[float, float, str]], *, lag_s: float = 0.0, cpu_share: float = 0.1, window_s: float = 1.0
) -> LoadResult:
    """A run of requests given as intended time, latency and outcome."""
    journal = Journal()
    for intended_at, latency_s, outcome in requests:
        sent_at = math.nan if outcome == OVERFLOW else intended_at + lag_s
        journal.note(
            intended_at, sent_at, intended_at + latency_s, Reply(outcome, 0, 7, f"{outcome} at {intended_at:g}")
        )
    return journal.close(window_s=window_s, interrupted=False, cpu_share=cpu_share)


def even(num: int, latency_s: float, outcome: str = OK) -> list[tuple[float, float, str]]:
    """Requests spread over a second."""
    return [(index / num, latency_s, outcome) for index in range(num)]


def test_rates_count_successes_within_the_window() -> None:
    """An answer after the end of the window is a success, and no part of the sustained rate."""
    summary = summarise(result([*even(8, 0.1), (0.95, 0.2, OK), (0.99, 0.0, "http 503")]))
    assert (summary.num_requests, summary.num_ok, summary.num_failed) == (10, 9, 1)
    assert summary.offered_rate == 10
    assert summary.sustained_rate == 8
    assert summary.bytes_received == 70


def test_percentiles_hold_unanswered_requests_and_no_quick_refusals() -> None:
    """A timeout counts at its limit; a refusal that took 1 ms does not make the server look fast."""
    summary = summarise(
        result([*even(98, 0.010), (0.5, 9.0, TIMEOUT), (0.6, 7.0, OPEN), *even(100, 0.001, "http 503")])
    )
    assert summary.latency_s["p50"].value == pytest.approx(0.010)
    assert summary.latency_s["p99"].value > 1.0
    assert summary.max_s == pytest.approx(9.0)
    assert summary.num_censored == 2


def test_percentiles_have_intervals_that_hold_them() -> None:
    """Each is given with bounds; a small sample can't bound its tail from above."""
    latencies = np.random.default_rng(0).exponential(0.02, 1000)
    summary = summarise(result([(0.0, float(latency), OK) for latency in latencies]))
    p50 = summary.latency_s["p50"]
    assert p50.low is not None
    assert p50.high is not None
    assert p50.low <= p50.value <= p50.high
    assert summarise(result(even(20, 0.1))).latency_s["p99"].high is None


def test_failures_are_counted_by_kind_and_explained() -> None:
    """The most frequent comes first, with a meaning and the first one's own words."""
    summary = summarise(result([*even(2, 0.1), *even(3, 0.1, "http 418"), *even(5, 0.0, OVERFLOW)]))
    first, second = summary.failures
    assert (first.kind, first.count) == (OVERFLOW, 5)
    assert "too many were unanswered" in first.meaning
    assert (second.kind, second.meaning) == ("http 418", "an answer other than success")
    assert second.example == "http 418 at 0"


@pytest.mark.parametrize(("num_slow", "met"), [(10, True), (11, False)])
def test_an_objective_counts_failures_against_the_server(num_slow: int, met: bool) -> None:
    """A p90 objective is met while at most a tenth of all requests are late or fail."""
    fast = [*even(89, 0.05 - 1e-9), *even(11 - num_slow, 0.01)]
    summary = summarise(result([*fast, *even(num_slow - 5, 0.06), *even(5, 0.001, "http 503")]), OBJECTIVE)
    assert summary.attainment is not None
    assert summary.attainment.met is met
    assert summary.attainment.share_within == pytest.approx(1 - num_slow / 100)
    assert summary.attainment.goodput == pytest.approx(100 - num_slow)


def test_the_generator_says_when_it_is_late() -> None:
    """Send lag over a tenth of the objective, or of the p99 latency, speaks against the figures."""
    (said,) = summarise(result(even(100, 0.05), lag_s=0.006), OBJECTIVE).evidence
    assert said.startswith("1% of its requests left more than 6 ms after their time (limit 5 ms, 10% of the objective)")
    late = summarise(result(even(100, 0.05), lag_s=0.006))
    assert late.generator_limited
    assert "(limit 5 ms, 10% of the p99 latency)" in late.evidence[0]
    assert not summarise(result(even(100, 0.05), lag_s=0.004), OBJECTIVE).generator_limited
    quick = summarise(result(even(100, 0.001), lag_s=0.0009))
    assert not quick.generator_limited
    assert (quick.lag_limit_s, quick.lag_limit_basis) == (0.001, "allowed in any case")


def test_the_generator_says_when_its_core_is_full() -> None:
    """One loop can use one core."""
    (said,) = summarise(result(even(10, 0.1), cpu_share=0.97)).evidence
    assert said.startswith("it used 97% of one core (limit 90%)")


def test_a_run_without_any_answer_has_no_percentiles() -> None:
    """Nothing is made up where nothing came back."""
    for outcomes in ([], even(3, 0.0, OVERFLOW)):
        summary = summarise(result(outcomes), OBJECTIVE)
        assert summary.latency_s == {}
        assert math.isnan(summary.mean_s)
        assert summary.attainment is not None
        assert summary.attainment.goodput == 0
        assert not summary.attainment.met
        assert not summary.generator_limited


def test_every_request_is_a_line_of_the_csv(tmp_path: Path) -> None:
    """Times in seconds; a request that was never sent has no sending time and no lag."""
    path = tmp_path / "requests.csv"
    write_requests(path, result([(0.25, 0.5, OK), (0.5, 0.0, OVERFLOW)], lag_s=0.001))
    with path.open(encoding="utf-8", newline="") as file:
        first, second = csv.DictReader(file)
    assert tuple(first) == FIELDS
    assert (first["intended_at_s"], first["sent_at_s"], first["latency_s"]) == ("0.250000", "0.251000", "0.500000")
    assert (first["lag_s"], first["outcome"], first["num_bytes"]) == ("0.001000", "ok", "7")
    assert (second["sent_at_s"], second["lag_s"], second["outcome"]) == ("", "", "overflow")
