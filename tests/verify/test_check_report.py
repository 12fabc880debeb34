"""A check as tables, a page and a document."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from carpool.cli.output import to_json
from carpool.verify.check_document import as_document
from carpool.verify.check_report import picture, rows_of, steps_table, table, write_page
from tests.verify.checks import check

if TYPE_CHECKING:
    from pathlib import Path


def test_one_window_shows_signed_errors() -> None:
    """And says of each figure whether it lies in its interval."""
    found = check(pace=1.5, as_profiled=True)
    text = table(found, rows_of(found)).to_text()
    (p99,) = (line.split() for line in text.splitlines() if line.startswith("p99"))
    assert p99[-2].startswith("-")
    assert p99[-1] == "no"
    assert "Served: batches of up to 8, on 1 worker. Load: Poisson arrivals at 100/s" in text


def test_several_windows_show_medians() -> None:
    """And how many of them lie in the interval."""
    found = check(num_windows=3)
    text = table(found, rows_of(found)).to_text()
    assert "measured, median of 3" in text
    (arrive,) = (line for line in text.splitlines() if line.startswith("arrive"))
    assert arrive.endswith(" of 3")


def test_figures_that_are_nothing_throughout_are_left_out() -> None:
    """Nothing was refused, nothing expired."""
    names = [row[0] for row in table(check(), rows_of(check())).rows]
    assert "refused" not in names
    assert {"p50", "within 50 ms", "padding"} <= set(names)


def test_the_steps_lead_from_predicted_to_measured() -> None:
    """Each figure that is judged has its row."""
    assert [row[0] for row in steps_table(check()).rows] == ["throughput", "mean batch", "p50", "p99"]


def test_the_document_holds_every_figure() -> None:
    """The judged errors under the names that programs look for; no value that JSON lacks."""
    found = check(pace=1.5, as_profiled=True, num_windows=3)
    rows = rows_of(found)
    document = json.loads(to_json(as_document(found, rows)))
    assert set(document["errors_pct"]) == {"throughput", "mean_batch", "p50", "p99"}
    assert document["errors_pct"]["p99"] == pytest.approx(document["figures"]["p99_s"]["error_pct"])
    assert all(error >= 0 for error in document["errors_pct"].values())
    assert document["agrees"] is False
    assert document["num_windows"] == len(document["windows"]) == 3
    p99 = document["figures"]["p99_s"]
    assert p99["low"] <= p99["predicted"] <= p99["high"]
    assert len(p99["measured"]) == len(p99["inside"]) == 3
    assert document["alone"]["transport_s"] == pytest.approx(0.002)
    steps = document["windows"][0]["steps"]["p99_s"]
    assert steps["predicted"] < steps["with_pace"]


def test_the_page_and_the_picture_are_written(tmp_path: Path) -> None:
    """With the verdict in words."""
    found = check(num_windows=3)
    paths = write_page(found, rows_of(found), tmp_path)
    assert [path.name for path in paths] == ["verify.html", "verify.png"]
    assert "What was predicted is what was measured" in paths[0].read_text(encoding="utf-8")
    assert paths[1].read_bytes() == picture(found).png
