"""A report opened in a real browser: it needs nothing from outside, complains of nothing, and fits a phone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from carpool.report.page import Details, KeyFigure, KeyFigures, Page, Text, Verdict
from carpool.report.plot import LineSeries, Mark, Panel, figure
from carpool.report.table import Column, Table
from tests.system.browser import chromium

if TYPE_CHECKING:
    from pathlib import Path

PHONE, DESK = 360, 1280


@pytest.fixture
def report(tmp_path: Path) -> Path:
    """A report with a part of every kind, its table wider than a phone."""
    sizes = (1, 2, 4, 8, 16, 32)
    rates = LineSeries(label="measured", x=sizes, y=[100, 180, 300, 420, 500, 520], style="points")
    panel = Panel(
        title="Throughput levels off",
        x_label="batch size",
        y_label="items/s",
        series=(rates,),
        marks=(Mark(16, "knee"),),
        x_scale="log2",
    )
    wide = Table("Every size", tuple(Column(f"figure {n}", "ms") for n in range(12)), (tuple(range(12)),) * 3)
    page = Page(
        title="A model on this machine",
        lead="Batches of 16 pay.",
        sections=(
            Verdict("Batching pays five times over.", tone="good", details=("At low load it costs 1 ms.",)),
            KeyFigures((KeyFigure("knee", "16", "items", "95 % of the best rate"),)),
            figure([panel, panel], title="What batches buy"),
            wide,
            Details("How it was measured", (Text("Method", ("Interleaved repeats of `run`.",)),)),
        ),
        footer="Two cores, no accelerator.",
    )
    return page.save(tmp_path / "report.html")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [PHONE, DESK])
async def test_a_report_opens_without_complaint_or_outside_request(report: Path, width: int, dark: bool) -> None:
    """On a phone and at a desk, by day and by night, it shows its text and never scrolls sideways."""
    async with chromium() as browser:
        visit = await browser.open(report.as_uri(), width=width, dark=dark)
        background = await browser.evaluate("getComputedStyle(document.body).backgroundColor")
    report.with_name("screenshot.png").write_bytes(visit.screenshot)  # pytest keeps the directory for who wants to look
    assert (visit.complaints, visit.outside_requests) == ([], [])
    assert visit.width == width
    assert "Batching pays five times over." in visit.text
    brightness = [int(part) for part in background.removeprefix("rgb(").removesuffix(")").split(",")]
    assert (max(brightness) < 128) == dark


async def test_ids_are_unique_and_pictures_are_drawn(report: Path) -> None:
    """Several pictures on a page do not share ids, and each takes up room."""
    async with chromium() as browser:
        await browser.open(report.as_uri())
        ids = await browser.evaluate("[...document.querySelectorAll('[id]')].map(element => element.id)")
        heights = await browser.evaluate(
            "[...document.querySelectorAll('svg')].map(element => element.getBoundingClientRect().height)"
        )
    assert len(ids) == len(set(ids))
    assert heights
    assert min(heights) > 50
