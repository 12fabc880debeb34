"""What a check amounts to in words."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from carpool.plan.predict import Interval
from carpool.profile.artefact import Trust
from carpool.verify.check_report import rows_of, table
from carpool.verify.reasons import doubts, most_off, reasons, verdict
from tests.verify.checks import check

if TYPE_CHECKING:
    from carpool.verify.check import Check
    from carpool.verify.window import Window


def in_first_window(found: Check, window: Window) -> Check:
    """The same check with another first window."""
    first, *others = found.findings.observed
    return replace(found, findings=replace(found.findings, observed=(replace(first, window=window), *others)))


def test_a_prediction_that_came_true_is_told_with_its_errors() -> None:
    """And needs no reasons."""
    found = check(num_windows=3)
    tone, said = verdict(rows_of(found))
    assert tone == "good"
    assert said.startswith("What was predicted is what was measured: errors of throughput ")
    assert "measured values lie in their 90 % intervals" in said
    assert reasons(found, rows_of(found)) == ()
    assert doubts(found) == ()


def test_a_prediction_that_is_off_is_taken_apart() -> None:
    """Slow batches are named as the cause, with how slow they are, and what used the processor."""
    found = check(pace=1.5, as_profiled=True)
    tone, said = verdict(rows_of(found))
    assert tone == "warning"
    assert "The prediction is off in p50, p99 and mean batch" in said
    told = reasons(found, rows_of(found))
    assert any(
        one.startswith("P99 was ") and "to the pace of batches (1.50 times the profile's times, 1.00 expected)" in one
        for one in told
    )
    assert any(
        one.startswith("Already for a single client batches took 1.50 times")
        and "`carpool verify carpool.toml --profile-again 30s`, then plan anew with `carpool plan`" in one
        for one in told
    )
    assert told[-1].endswith("the server used 0.80, the load generator 0.10 and other programs 0.00.")


def test_a_pace_that_a_single_client_finds_is_predicted_with() -> None:
    """The prediction comes true, and it is told that the profile says otherwise."""
    found = check(pace=1.2, num_windows=3)
    tone, _ = verdict(rows_of(found))
    assert tone == "good"
    (said,) = reasons(found, rows_of(found))
    assert "batches took 1.20 times as long as the profile says, and that was predicted with" in said


def test_after_measuring_again_there_is_no_use_in_doing_so_once_more() -> None:
    """The remedy is another."""
    found = check(pace=1.5, again=True)
    assert not any("measure it again" in one for one in reasons(found, rows_of(found)))


def test_a_long_way_is_told_beside_the_short_one_of_a_single_client() -> None:
    """In the sentence about the figure that it moved."""
    found = check(loaded_s=0.02)
    (p50,) = (one for one in reasons(found, rows_of(found)) if one.startswith("P50"))
    assert "to the way to the server and back (20 ms, 2 ms expected)" in p50
    assert p50.startswith("P50 was 30 instead of 12 ms. Of the difference are due: +18 ms to the way")
    assert not any(nothing in p50 for nothing in ("pace", "arrivals", "none of these"))


def test_what_differs_within_its_intervals_is_chance() -> None:
    """However large the error: every value in its interval is nothing to explain."""
    rows = [
        replace(row, predicted=Interval(value=row.value * 1.3, low=row.value * 0.9, high=row.value * 1.5))
        for row in rows_of(check())
    ]
    tone, said = verdict(rows)
    assert tone == "good"
    assert "is within chance" in said
    assert "A longer window tells more." in said
    assert "off" not in said
    assert reasons(check(), rows) == ()


def test_only_shown_values_are_counted() -> None:
    """Those that are 0 throughout have no row in the table."""
    found = check()
    num = len(table(found, rows_of(found)).rows)
    assert f" of {num} measured values" in verdict(rows_of(found))[1]
    assert num < len(rows_of(found))


@pytest.mark.parametrize("pace", [0.92, 1.09])
def test_a_pace_within_the_profiles_own_error_is_no_fault(pace: float) -> None:
    """In either direction; the rows tell it anyway."""
    found = check(pace=pace, num_windows=3)
    assert not any("single client" in one for one in reasons(found, rows_of(found)))


def test_a_profile_that_is_sure_only_of_halves_lets_a_pace_differ_so_far() -> None:
    """Its own error is the measure."""
    found = check()
    assert found.profile.cost_model is not None
    unsure = replace(found.profile, cost_model=replace(found.profile.cost_model, residual_sd=0.25))
    assert most_off(unsure) == pytest.approx(0.51, abs=0.02)


def test_another_profile_or_one_in_doubt_is_told() -> None:
    """The plan may then not be the best."""
    found = check()
    assert "plan again" in doubts(replace(found, changed=True))[0]
    doubted = replace(
        found.profile, trust=Trust(trusted=False, reasons=("it was measured in a storm", "the fit is bad"), remedy="")
    )
    assert doubts(replace(found, profile=doubted)) == (
        "The profile itself is in doubt: it was measured in a storm; the fit is bad.",
    )


def test_a_profile_of_another_machine_is_told_with_the_differences() -> None:
    """Name by name."""
    (said,) = doubts(replace(check(), differences=("threads: 64 in the profile, 1 here",)))
    assert "measured elsewhere (threads: 64 in the profile, 1 here)" in said


def test_what_was_cut_and_what_failed_is_told() -> None:
    """With the first failure's own words."""
    found = check()
    window = found.findings.observed[0].window
    outcome = window.load.outcome.astype("<U32")
    outcome[:3] = "http 503"
    load = replace(window.load, outcome=outcome, details={"http 503": "the queue is full"})
    told = doubts(replace(in_first_window(found, replace(window, load=load)), cut="Some were cut."))
    assert told == ("Some were cut.", "3 requests failed, the first of them so: http 503, the queue is full")


def test_a_busy_machine_and_a_late_generator_are_told() -> None:
    """Neither is the server's doing."""
    found = check()
    window = found.findings.observed[0].window
    late = replace(window.load, sent_at=window.load.intended_at + np.full(len(window.load.outcome), 0.5))
    busy, limited = doubts(in_first_window(found, replace(window, load=late, other_load_cores=1.5)))
    assert busy.startswith("Other programs used up to 1.5 cores meanwhile: do not trust this")
    assert "The load generator shares the machine with the server" in limited
