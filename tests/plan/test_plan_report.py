"""What is shown of a plan: tables, pictures and the page, from a plan simulated here."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from carpool.core.policy import Policy
from carpool.plan.nearest import Nearest
from carpool.plan.page import build_page, write_pages
from carpool.plan.plots import pictures
from carpool.plan.predict import Interval
from carpool.plan.setup import Setup
from carpool.plan.slo import Verdict
from carpool.plan.tables import memory_tables, prediction_table, tried_table, what_if_intervals, what_if_table
from tests.plan.plans import OBJECTIVE, plan

if TYPE_CHECKING:
    from pathlib import Path

    from carpool.plan.plan import Plan
    from carpool.plan.what_if import WhatIfRow
    from carpool.report.table import Table


def column(table: Table, title: str) -> list[object]:
    """The cells under a title."""
    index = [one.title for one in table.columns].index(title)
    return [row[index] for row in table.rows]


def growing(row: WhatIfRow) -> WhatIfRow:
    """The same row under more load than can be served."""
    assert row.prediction is not None
    return replace(row, prediction=replace(row.prediction, stable=False))


def test_every_predicted_figure_has_an_interval() -> None:
    """The value lies within it, and percentages are written as such."""
    table = prediction_table(plan())
    assert {"answered", "median latency", "p99", "mean batch", "utilisation"} <= set(column(table, "figure"))
    for value, interval in zip(column(table, "value"), column(table, "90 % interval"), strict=True):
        low, high = (float(part.replace(",", "")) for part in str(interval).split(" to "))
        assert low <= float(str(value).replace(",", "")) <= high
    assert "3 simulated windows of 4 s" in table.notes[0]
    assert "refused" not in column(table, "figure")


def test_refusals_are_shown_where_there_are_any() -> None:
    """A share above nothing is a line of its own."""
    refusing = replace(plan().prediction, refused=Interval(value=0.1, low=0.0, high=0.2))
    table = prediction_table(replace(plan(), prediction=refusing))
    assert ("refused", "% of arrivals", "10", "0 to 20") in table.rows


def test_what_if_marks_the_plan_and_says_what_each_row_assumes() -> None:
    """One row a choice, with a footnote where something has to be true for it."""
    table = what_if_table(plan())
    assert column(table, "choice")[table.highlight or 0] == "dynamic batching"
    assert [one.title for one in table.columns][1:] == [
        "workers", "answered", "goodput", "p50", "p95", "p99", "batch", "busy", "memory", "cost",
    ]  # fmt: skip
    notes = " ".join(table.notes)
    assert "Twice the workers: each worker has a device, or processor cores, and memory of its own" in notes
    assert "Cost: of a million answered items, at 1.5 an hour for each worker." in notes


def test_what_is_not_known_has_no_column() -> None:
    """Without a price there is no cost, and without objectives goodput is what is answered."""
    free = replace(plan(price=None), objectives=())
    titles = {one.title for one in what_if_table(free).columns}
    assert not titles & {"cost", "goodput"}
    assert "cost" not in {one.title for one in what_if_intervals(free).columns}


def test_a_queue_that_grows_without_end_has_no_latency() -> None:
    """What an item waits would only tell how long one looked."""
    rows = tuple(growing(row) if row.name == "no batching" else row for row in plan().what_if)
    table = what_if_table(replace(plan(), what_if=rows))
    assert column(table, "p99")[0] is None
    assert column(table, "answered")[0] is not None
    assert column(what_if_intervals(replace(plan(), what_if=rows)), "p99")[0] is None
    assert any("more arrives than can be served" in note for note in table.notes)


def test_a_choice_that_cannot_be_simulated_says_why() -> None:
    """Its figures are dashes."""
    rows = (*plan().what_if[:1], replace(plan().what_if[6], prediction=None, why_not="one item needs 2 GiB"))
    table = what_if_table(replace(plan(), what_if=rows))
    assert column(table, "p50")[1] is None
    assert "Half the memory: one item needs 2 GiB." in table.notes


def test_the_same_rows_are_given_with_their_intervals() -> None:
    """Every cell of a simulated row is a range."""
    table = what_if_intervals(plan())
    assert len(table.rows) == len(plan().what_if)
    assert all(" to " in str(cell) for row in table.rows for cell in row[1:])


def test_what_was_compared_marks_the_plan() -> None:
    """Its verdict and its intervals stand beside it; knobs that nothing turned have no column."""
    table = tried_table(plan())
    assert table.highlight == 0
    assert [one.title for one in table.columns] == [
        "batches up to", "workers", "objectives", "goodput", "p99", "windows", "as good",
    ]  # fmt: skip
    assert (table.rows[0][0], table.rows[0][2], table.rows[0][-1]) == (8, "met", "yes")


def test_knobs_that_were_turned_have_a_column() -> None:
    """Wait, token budget and buckets; a dash where one is left alone."""
    tried = plan().tried[0]
    other = replace(tried, setup=Setup(policy=Policy(max_wait_s=0.002, token_budget=512, length_buckets=(16, 64))))
    table = tried_table(replace(plan(), tried=(tried, other)))
    assert column(table, "waiting up to") == [None, 2.0]
    assert column(table, "token budget") == [None, 512]
    assert column(table, "padded to") == [None, "16, 64"]


def test_only_the_best_of_many_candidates_are_listed() -> None:
    """The others are counted."""
    tried = plan().tried[0]
    others = [replace(tried, setup=Setup(policy=Policy(max_batch_size=size))) for size in range(9, 29)]
    table = tried_table(replace(plan(), tried=(tried, *others)))
    assert len(table.rows) == 12
    assert table.notes[-1] == "9 more were compared."


def test_memory_is_shown_in_both_directions() -> None:
    """The measured model is marked, and what nothing fits beside says so."""
    trade = plan().memory_trade
    assert trade is not None
    by_model, by_batch = memory_tables(trade)
    assert by_model.rows[by_model.highlight or 0][0] == "1 x"
    assert by_model.rows[-1][2:] == ("none", "none")
    assert by_batch.rows[0][0] == 1
    assert "probed up to 32 at 30 tokens, up to 32 at 60 tokens" in by_model.notes[-1]
    longer, _ = memory_tables(replace(trade, probed_batch_sizes=(32, 0)))
    assert "probed up to 32 at 30 tokens, not at all at 60 tokens" in longer.notes[-1]


def test_curves_end_where_a_setup_can_serve_no_more() -> None:
    """At 400 items a second single items are far beyond what one worker does."""
    drawn = pictures(plan())
    assert list(drawn) == ["plan-latency", "plan-memory"]
    assert "the planned load at 100" in drawn["plan-latency"].alt
    assert "objective, the plan" in drawn["plan-latency"].alt
    assert "p99 within 100 ms at 100" in drawn["plan-latency"].alt


def test_the_quantile_drawn_is_that_of_the_tightest_objective() -> None:
    """A promise of the median is drawn as medians."""
    median = replace(OBJECTIVE, quantile=0.5, latency_s=0.05)
    assert "p50, ms" in pictures(replace(plan(), objectives=(OBJECTIVE, median)))["plan-latency"].alt
    other = replace(OBJECTIVE, quantile=0.8)
    assert "p99, ms" in pictures(replace(plan(), objectives=(other,)))["plan-latency"].alt


def test_a_plan_whose_queue_grows_without_end_has_no_point() -> None:
    """Its latency would only tell how long one looked."""
    assert "the plan)" in pictures(plan())["plan-latency"].alt
    endless = replace(plan(), prediction=replace(plan().prediction, stable=False))
    assert "the plan)" not in pictures(replace(endless, what_if=()))["plan-latency"].alt


def test_nothing_is_drawn_of_what_is_not_known() -> None:
    """Without curves, rows and memory there is no picture, and the page stands all the same."""
    endless = Interval(value=math.inf, low=math.inf, high=math.inf)
    bare = replace(
        plan(),
        frontier=(),
        memory_trade=None,
        what_if=(),
        prediction=replace(plan().prediction, p99_s=endless, p50_s=endless, stable=False),
    )
    assert pictures(bare) == {}
    assert "Plan for null" in build_page(bare, {}).to_html()


def page_of(one: Plan) -> str:
    """The page's HTML, pictures left out."""
    return build_page(one, {}, "Measured on two cores.").to_html()


def test_the_page_says_what_to_serve_and_why() -> None:
    """Verdicts, sentences, tables and doubts are all there."""
    html = page_of(plan())
    for part in (
        "Batches of up to 8, on 1 worker, for this load: Poisson arrivals at 100/s",
        "Every objective is kept",
        "p99 is half of what was promised.",
        "Batching belongs here",
        "Another program was running.",
        "The same load served in other ways",
        "The largest model beside a batch",
        "Measured on two cores.",
    ):
        assert part in html


@pytest.mark.parametrize(
    ("verdict", "label"),
    [(Verdict.LIKELY, "Kept more often than not"), (Verdict.MISSED, "Not every objective can be kept")],
)
def test_a_missed_objective_comes_with_what_is_nearest(verdict: Verdict, label: str) -> None:
    """The sentences about what would have to change stand with the verdict."""
    nearest = Nearest(
        setup=plan().chosen,
        latencies_s=(plan().prediction.p99_s,),
        rate=50.0,
        rate_setup=plan().chosen,
        num_workers=2,
        speed=1.5,
        sentences=("With two workers it would be kept.",),
    )
    html = page_of(replace(plan(), verdict=verdict, nearest=nearest))
    assert label in html
    assert "With two workers it would be kept." in html


def test_a_load_that_is_too_high_is_said_without_any_objective() -> None:
    """There is nothing to promise, and still something to say first."""
    html = page_of(replace(plan(), objectives=(), gaps=(), verdict=Verdict.MISSED))
    assert "The load is too high" in html
    assert "The load is too high" not in page_of(replace(plan(), objectives=(), gaps=()))


def test_the_page_and_its_pictures_are_written(tmp_path: Path) -> None:
    """One page that needs nothing else, and the pictures for elsewhere."""
    written = write_pages(plan(), tmp_path / "out")
    assert [path.name for path in written] == ["plan.html", "plan-latency.png", "plan-memory.png"]
    assert all(path.stat().st_size for path in written)
    other = write_pages(plan(), tmp_path / "out", stem="x")
    assert [path.name for path in other] == ["x.html", "x-latency.png", "x-memory.png"]
