"""What people read about a run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from carpool.loadgen.records import OK, TIMEOUT, Journal, LoadResult, Reply
from carpool.loadgen.report import failure_table, picture, sentences_about, summary_table
from carpool.loadgen.stats import summarise
from carpool.signals.objective import Objective


@pytest.fixture
def result() -> LoadResult:
    """A run of 100 requests in a second, the last of which had no answer."""
    journal = Journal()
    for index in range(100):
        at, latency_s = index / 100, 0.01 if index < 99 else 5.0
        reply = Reply(OK, 200, 10) if index < 99 else Reply(TIMEOUT, detail="no answer within 5 s")
        journal.note(at, at, at + latency_s, reply)
    return journal.close(window_s=2.0, interrupted=False, cpu_share=0.2)


def test_the_table_shows_percentiles_with_their_confidence(result: LoadResult) -> None:
    """In milliseconds, and a dash where the sample can't bound a percentile."""
    lines = summary_table(summarise(result)).to_text().splitlines()
    assert lines[0] == "Latency of 100 requests in 2 s: open loop, 50/s offered"
    assert [line.split()[0] for line in lines[3:8]] == ["p50", "p95", "p99", "mean", "max"]
    assert lines[3].split() == ["p50", "10.0", "10.0", "10.0"]
    assert not lines[5].split()[-1][0].isdigit()


def test_failures_are_shown_in_their_own_words(result: LoadResult) -> None:
    """Kind, count, meaning, example."""
    assert "no answer within 5 s" in failure_table(summarise(result)).to_text()


def test_sentences_say_what_was_sustained_and_how_far_to_believe_it(result: LoadResult) -> None:
    """A clean run of an open loop is told in a few sentences."""
    said = list(sentences_about(summarise(result, Objective(0.95, 0.02))))
    assert said == [
        "Sustained 49.5 requests/s of 50/s offered; 99.0% were answered with success.",
        "Objective p95 within 20 ms: met, 99.00% of all requests were answered within it; goodput 49.5 requests/s.",
        "Without an answer in time: 1. Such a latency is a lower bound, and so is a percentile that reaches it.",
        (
            "The generator kept up: 99% of its requests left at most 0 us after their time "
            "(limit 2 ms, 10% of the objective), and it used 20% of one core (limit 90%)."
        ),
    ]


def test_the_rate_asked_for_is_shown_where_chance_made_it_another(result: LoadResult) -> None:
    """Random arrivals keep to a rate on average: both are told, in the table and in the sentence, and not else."""
    summary = summarise(result, asked_rate=55)
    assert summary_table(summary).title == "Latency of 100 requests in 2 s: open loop, 50/s offered (55/s asked)"
    assert "Sustained 49.5 requests/s of 50/s offered (55/s asked); " in next(sentences_about(summary))
    assert "asked" not in " ".join(sentences_about(summarise(result, asked_rate=50.01)))


def test_what_weakens_the_figures_is_said(result: LoadResult) -> None:
    """An early end, a closed loop and a busy generator are never left unsaid."""
    said = " ".join(sentences_about(summarise(replace(result, interrupted=True, connections=3, cpu_share=0.99))))
    assert "Stopped after 2 s, before its end" in said
    assert "In a closed loop clients wait for their answers" in said
    assert "The generator, and not the server, may be the limit: it used 99% of one core" in said


def test_the_picture_shows_percentiles_the_objective_and_the_course(result: LoadResult) -> None:
    """It can be described to those who don't see it, and saved as PNG or SVG."""
    drawn = picture(result, summarise(result, Objective(0.95, 0.02)))
    assert "measured, objective" in drawn.alt
    assert "p50, p99" in drawn.alt
    assert drawn.png.startswith(b"\x89PNG")
