"""The main job on the null model: the real command, servers and load, in seconds."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from carpool.cli.demo import demo
from carpool.config.settings import load_settings
from carpool.core.policy import Policy
from carpool.plan.setup import Setup
from carpool.signals.objective import Objective
from carpool.verify.demo import DemoOptions, Yardsticks, planned, planned_load
from carpool.verify.scrape import read_counts
from carpool.verify.server import ServerFailed, serving
from carpool.verify.transport import Overheads
from tests.plan.plans import subject

ALONE = Overheads(transport_s=0.001, pace=1.0, num_requests=100)


def test_the_demo_ends_in_one_line_of_json(tmp_path: Path) -> None:
    """Profile, plan, two servers, every load, verdict, files, figures; all else is on standard error."""
    arguments = ["demo:null", "--budget", "3s", "--window", "0.3s", "--out", str(tmp_path), "--json"]
    done = CliRunner().invoke(demo, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    (line,) = done.stdout.strip().splitlines()
    figures = json.loads(line)
    assert set(figures) == {
        "speedup_goodput",
        "predicted_speedup_goodput",
        "p50_cost_low_load_ms",
        "knee_batch_size",
        "fit_error_pct",
    }
    assert figures["predicted_speedup_goodput"] > 1
    assert "The same load served in other ways" in done.stderr
    assert "Batching off and on, under the same arrivals" in done.stderr
    assert "; predicted before were " in done.stderr
    assert load_settings(tmp_path / "carpool.toml").model.target == "demo:null"
    written = {path.name for path in tmp_path.iterdir()}
    assert {"profile.json", "report.html", "carpool.toml", "plan.html", "comparison.html", "comparison.png"} <= written


def test_the_plan_is_for_the_highest_load_that_can_be_kept() -> None:
    """A model of 4 ms a call and 0.1 ms a token does about 100 of these items a second alone, and 400 in batches."""
    options = DemoOptions(loads=(0.1, 1.0, 2.0, 20.0), window_s=2.0)
    roomy = Yardsticks(objective=Objective(0.99, 0.5), capacity=100.0, alone=ALONE)
    assert planned_load(subject(), roomy, options).rate == pytest.approx(200)
    hopeless = Yardsticks(objective=Objective(0.99, 0.001), capacity=100.0, alone=ALONE)
    assert planned_load(subject(), hopeless, options).rate == pytest.approx(10)


def test_a_plan_that_advises_against_batching_is_served_with_it_to_show_why(tmp_path: Path) -> None:
    """Else there would be nothing to compare; the plan's file stays as it is."""
    plan = tmp_path / "carpool.toml"
    plan.write_text('[model]\ntarget = "demo:null"\n[policy]\nmax_batch_size = 1\n', encoding="utf-8")
    with planned(plan, Setup(policy=Policy(max_batch_size=1)), DemoOptions()) as site:
        assert site.setup.policy.max_batch_size == 8
        assert site.batching
        assert read_counts(site.server.url).max_batch_size == 8


def test_a_server_that_cannot_start_says_why() -> None:
    """Its own message is passed on."""
    with pytest.raises(ServerFailed, match=r"no_such_file\.py"), serving("no_such_file.py:model"):
        pass
