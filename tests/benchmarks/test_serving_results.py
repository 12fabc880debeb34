"""What the benchmark of serving makes of its visits: ratios within rounds, rows behind, the section and the picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from rig.about import marks, replace
from rig.contenders import CONTENDERS
from rig.results import Results, Round, picture, ratios, rows_behind, tables
from rig.section import section
from rig.workloads import WORKLOADS

if TYPE_CHECKING:
    from pathlib import Path

LIMITS = {
    name: {"rate": rate, "p50_ms": p50_ms}
    for name, rate, p50_ms in (
        ("batch_1", 450.0, 2.2),
        ("batch_32", 11_000.0, 2.9),
        ("batch_64", 18_000.0, 3.5),
        ("padded_1", 150.0, 6.5),
        ("padded_32", 300.0, 100.0),
        ("own_1", 160.0, 6.0),
        ("own_window", 600.0, 100.0),
    )
}


def visited(workload: str, rate: float) -> dict[str, Any]:
    """Give a visit to a server of a rate at the most connections, and of less with fewer."""
    connections = WORKLOADS[workload].connections
    rows = [
        {
            "connections": number,
            "rate": rate * number / connections[-1],
            "p50_ms": 1e3 * connections[-1] / rate,
            "p99_ms": 2e3 * connections[-1] / rate,
            "mean_batch": 8.0,
            "cpu_us": 40.0,
            "num_failed": 0,
        }
        for number in connections
    ]
    opened = [{"rate": rate / 2, "share_within": 1.0, "goodput": rate / 2, "p99_ms": 9.0, "generator_limited": False}]
    return {"ready_s": 0.5, "memory_mib": 60.0, "rows": rows, "open": opened}


def round_of(rates: dict[str, float]) -> Round:
    """Give a round in which servers have these rates for both models."""
    visits = {name: {server: visited(name, rate) for server, rate in rates.items()} for name in WORKLOADS}
    return Round(LIMITS, visits)


@pytest.fixture
def results() -> Results:
    """Three rounds; the machine is half as fast in the second one."""
    rates = {server: 2_000.0 + 1_000 * number for number, server in enumerate(CONTENDERS) if server != "carpool"}
    whole = {"carpool": 16_000.0, **rates}
    return Results([round_of(whole), round_of({name: rate / 2 for name, rate in whole.items()}), round_of(whole)])


def test_ratios_are_taken_within_a_round(results: Results) -> None:
    """A slow round slows both sides: the ratio to the best peer is 2 in all of them."""
    found = ratios(results)
    assert found["null_128_vs_best_peer"] == 2.0
    assert found["null_32_vs_mosec"] == pytest.approx(16 / 3)
    assert found["null_128_vs_limit"] == pytest.approx(16 / 18)


def test_what_was_not_run_has_no_ratio() -> None:
    """Without peers, and without MiniLM, there is nothing to compare."""
    found = ratios(Results([Round(LIMITS, {"null": {"carpool": visited("null", 9_000.0)}})]))
    assert found["null_128_vs_best_peer"] is None
    assert found["minilm_64_vs_limit"] is None
    assert found["null_128_vs_limit"] == 0.5


def test_rows_in_which_a_peer_is_ahead_are_named(results: Results) -> None:
    """In rate and in p99, per row; none where we are ahead everywhere."""
    assert rows_behind(results) == []
    behind = rows_behind(Results([round_of({"carpool": 500.0, "mosec": 1_000.0})]))
    assert len(behind) == 12
    assert behind[0].startswith("null 1 rate: mosec")


def test_the_section_takes_its_place_and_can_be_written_again(results: Results, tmp_path: Path) -> None:
    """What stands around it stays, and a second run replaces the first one's."""
    begin, end = marks("serving.py")
    page = tmp_path / "README.md"
    page.write_text(f"before\n{begin}\nold\n{end}\nafter\n", encoding="utf-8")
    for _ in range(2):
        replace(page, "serving.py", section(results, ratios(results), rows_behind(results), "A machine."))
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"before\n{begin}\nA machine.")
    assert text.endswith(f"{end}\nafter\n")
    assert "old" not in text
    assert text.count("| mosec") == len(WORKLOADS)


def test_tables_and_picture_have_every_server(results: Results) -> None:
    """Each workload has its loads and its open loops; the picture two panels each."""
    assert [len(table.rows) for table in tables(results)] == [21, 7, 21, 7, 7]
    assert len(picture(results).panels) == 4
