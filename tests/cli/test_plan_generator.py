"""`carpool plan` for a model that generates, from its words to its files."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from carpool.cli.main import main
from carpool.config.settings import load_settings
from carpool.plan.llm_workload_table import llm_from_settings
from carpool.profile.artefact import save_profile
from carpool.profile.machine import describe_machine
from tests.profile.llm_virtual import profiled
from tests.profile.made_up import findings

if TYPE_CHECKING:
    from pathlib import Path

LOAD = ("--rate", "8", "--lengths", "100", "--output-lengths", "30", "--length-spread", "0.5", "--shared-prefix", "48")
QUICK = ("--window", "5s", "--runs", "3", "--max-batch-size", "16")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The profile of a model that generates, measured here, in a file."""
    path = tmp_path_factory.mktemp("profiled") / "profile.json"
    save_profile(path, replace(profiled(), machine=describe_machine("cpu", "bfloat16", 1)))
    return path


def test_a_plan_is_printed_and_written_as_a_server_takes_it(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Settings with [llm], a page, pictures; the same as one document."""
    out = tmp_path / "carpool.toml"
    arguments = ["plan", str(file), *LOAD, *QUICK, "--slo", "ttft=2s", "--slo", "tpot.p90=150ms", "--out", str(out)]
    assert main([*arguments, "--memory", "1GiB", "--json"]) == 0
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert document["verdict"] == "met"
    assert document["what_if"][1]["name"] == "static batching"
    assert document["prediction"]["ttft_p99_s"]["low"] > 0
    settings = load_settings(out)
    assert settings.llm.num_slots == document["chosen"]["policy"]["num_slots"] <= 16
    assert settings.llm.kv_memory_bytes == document["kv_bytes"] <= 1024**3
    assert (settings.llm.ttft_s, settings.llm.tpot_s) == (2.0, 0.15)
    assert settings.model.target == "demo:tiny"
    assert settings.profile is not None
    assert settings.profile.resolve() == file.resolve()
    assert "one beginning of 48 tokens in common" in llm_from_settings(settings.workload).describe()
    assert {path.name for path in tmp_path.iterdir()} == {
        "carpool.toml",
        "plan.html",
        "plan-times.png",
        "plan-tokens.png",
    }
    assert "The same load served in other ways" in printed.err


def test_memory_that_nobody_limits_is_left_to_the_server(file: Path, tmp_path: Path) -> None:
    """It takes what there is when it starts, which may be less than when it was profiled."""
    out = tmp_path / "carpool.toml"
    assert main(["plan", str(file), *LOAD, *QUICK, "--out", str(out)]) == 0
    assert load_settings(out).llm.kv_memory_bytes is None
    assert load_settings(out).llm.ttft_s is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--rate", "2"), "nothing says how long prompts are: give --lengths"),
        ((*LOAD, "--slo", "p99=1s"), "is not an objective of a model that generates: write ttft=1s"),
        ((*LOAD, "--price", "1"), "--price is not planned for with a model that generates"),
        ((*LOAD, "--max-batch-size", "4096"), "4096 sequences at a time were not measured"),
        (LOAD[2:], "nothing says how many requests arrive: give --rate"),
    ],
)
def test_wrong_use_exits_2_and_says_why(
    arguments: tuple[str, ...], said: str, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the remedy; nothing is written."""
    assert main(["plan", str(file), *arguments, "--out", str(tmp_path / "carpool.toml")]) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.iterdir())


def test_lengths_of_answers_are_refused_for_a_model_that_gives_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They would say nothing."""
    save_profile(tmp_path / "profile.json", findings().profile())
    assert main(["plan", str(tmp_path / "profile.json"), "--rate", "9", "--output-lengths", "8"]) == 2
    assert "--output-lengths is of models that generate" in " ".join(capsys.readouterr().err.split())
