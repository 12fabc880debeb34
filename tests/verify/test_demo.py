"""The main job on the null model: the real command, servers and load, in seconds."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from carpool.cli.demo import demo
from carpool.config.settings import load_settings
from carpool.verify.server import ServerFailed, serving


def test_the_demo_ends_in_one_line_of_json(tmp_path: Path) -> None:
    """Profile, plan, two servers, every load, verdict, files, figures."""
    arguments = ["demo:null", "--budget", "3s", "--window", "0.3s", "--out", str(tmp_path)]
    done = CliRunner().invoke(demo, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    figures = json.loads(done.stdout.strip().splitlines()[-1])
    assert set(figures) == {
        "speedup_goodput",
        "predicted_speedup_goodput",
        "p50_cost_low_load_ms",
        "knee_batch_size",
        "fit_error_pct",
    }
    assert figures["predicted_speedup_goodput"] > 1
    assert "The same load served in other ways" in done.stdout
    assert "Batching off and on, under the same arrivals" in done.stdout
    assert "; the plan had predicted " in done.stdout
    assert load_settings(tmp_path / "carpool.toml").model.target == "demo:null"
    written = {path.name for path in tmp_path.iterdir()}
    assert {"profile.json", "report.html", "carpool.toml", "plan.html", "comparison.html", "comparison.png"} <= written


def test_with_json_the_document_is_all_of_standard_output(tmp_path: Path) -> None:
    """Tables and sentences go to standard error."""
    arguments = ["demo:null", "--budget", "3s", "--window", "0.2s", "--out", str(tmp_path), "--json"]
    done = CliRunner().invoke(demo, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    assert json.loads(done.stdout)["speedup_goodput"] > 0
    assert "Batching off and on" in done.stderr


def test_a_server_that_cannot_start_says_why() -> None:
    """Its own message is passed on."""
    with pytest.raises(ServerFailed, match=r"no_such_file\.py"), serving("no_such_file.py:model"):
        pass
