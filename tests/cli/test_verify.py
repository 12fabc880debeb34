"""`carpool verify` from its words to its exit code."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from carpool.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path

PLAN = '[model]\ntarget = "demo:null"\n[policy]\nmax_batch_size = 4\n[objective]\np99 = "1s"\n'
WORKLOAD = "[workload]\nrate = 150\n"


@pytest.mark.parametrize(
    ("written", "words", "said"),
    [
        ('schema_version = 1\n[model]\ntarget = "demo:smollm2"\n', [], "which generates, and only plans of models"),
        (WORKLOAD, [], "has no [model] target: write a plan by `carpool plan"),
        (
            PLAN,
            ["--profile-again", "1s"],
            "has no [workload], as `carpool plan` writes it, so nothing says how many items arrive: give a rate by",
        ),
        (PLAN + WORKLOAD, [], "the plan names no profile, so there is nothing to predict from"),
        (PLAN + WORKLOAD, ["--duration", "0s"], "is no time at all"),
        (PLAN + WORKLOAD, ["--runs", "0"], "0 is not in the range"),
        (PLAN + WORKLOAD, ["--arrivals", "sometimes"], "'sometimes' is not one of"),
        (f'profile = "gone.json"\n{PLAN}{WORKLOAD}', [], "gone.json"),
        ("[modell]\n", [], "modell"),
    ],
)
def test_wrong_use_is_told_before_anything_is_measured(
    written: str, words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the value and the remedy, exit code 2, and no traceback."""
    plan = tmp_path / "carpool.toml"
    plan.write_text(written, encoding="utf-8")
    assert main(["verify", str(plan), *words]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert said in told
    assert "Traceback" not in told


def test_a_plan_is_served_loaded_and_held_against_its_prediction(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One document with every figure, the same in a file, and a page; options of the load win over the plan's."""
    plan, out = tmp_path / "carpool.toml", tmp_path / "out"
    plan.write_text(PLAN + WORKLOAD, encoding="utf-8")
    words = ["--duration", "1s", "--profile-again", "2s", "--runs", "2", "--rate", "80", "--out", str(out), "--json"]
    assert main(["verify", str(plan), *words]) == 0
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert document == json.loads((out / "verify.json").read_text(encoding="utf-8"))
    assert {path.name for path in out.iterdir()} == {"profile.json", "verify.json", "verify.html", "verify.png"}
    assert set(document["errors_pct"]) == {"throughput", "mean_batch", "p50", "p99"}
    assert document["workload"].startswith("Poisson arrivals at 80/s")
    assert document["figures"]["offered"]["predicted"] == pytest.approx(80, rel=0.2)
    assert document["figures"]["goodput"]["measured"][0] > 0
    assert document["alone"]["transport_s"] > 0
    assert document["alone"]["pace"] > 0
    assert document["num_windows"] == 2
    assert document["profile"]["measured_again"] is True
    assert "Predicted beside measured" in printed.err
