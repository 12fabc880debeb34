"""The command `carpool profile`: what it prints and writes, and how it refuses."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from carpool.cli.main import main
from carpool.cli.output import Output
from carpool.cli.profile import show
from carpool.profile.artefact import load_profile
from tests.profile.made_up import findings

if TYPE_CHECKING:
    from pathlib import Path

MODEL = """
def double(batch):
    if len(batch) == 4:
        raise ValueError("four is unlucky")
    return [2.0 * number for number in batch]

double.examples = [float(i) for i in range(16)]
"""
QUICK = ("--batch-sizes", "1,2,4,8", "--budget", "1s")


@pytest.fixture
def target(tmp_path: Path) -> str:
    """A function that fails on batches of four."""
    path = tmp_path / "model.py"
    path.write_text(MODEL)
    return f"{path}:double"


def test_failed_size_exits_1_with_the_rest_printed_and_written(
    target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three sizes of four are shown; the error stands below, and the file holds the same."""
    out = tmp_path / "out"
    assert main(["profile", target, *QUICK, "--out", str(out)]) == 1
    printed = capsys.readouterr().out
    assert "items/s" in printed
    assert "The model failed at 4" in printed
    assert "four is unlucky" in printed
    profile = load_profile(out / "profile.json")
    assert [point.batch_size for point in profile.points] == [1, 2, 8]
    assert (out / "report.html").read_text().startswith("<!doctype html>")


def test_json_is_one_document_and_progress_goes_elsewhere(
    target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Standard output holds the profile, as in the file, and nothing else."""
    sizes = ("--batch-sizes", "1,2,8", "--budget", "1s", "--no-memory")
    assert main(["profile", target, *sizes, "--out", str(tmp_path), "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out) == json.loads((tmp_path / "profile.json").read_text())
    assert "Profiling" in printed.err


@pytest.mark.parametrize("as_json", [False, True])
def test_profile_not_to_be_trusted_says_so_first(
    as_json: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before any table stand the warning, its reasons and the remedy; in the document it is the first thing of all."""
    found = findings()
    found.other_load_cores = 3.0
    assert show(found.profile(), tmp_path, Output(json=as_json)) == 0
    printed = capsys.readouterr()
    told = printed.err if as_json else printed.out
    assert told.startswith(
        "DO NOT TRUST THIS PROFILE:\n- other programs used 3.0 of 4 cores while it was timed\nTo mend that, close "
        "other programs and run again, for longer: `carpool profile demo:model --batch-sizes 1,2,4,8,16,32,64 --budget "
        "90s`.\n"
    )
    if as_json:
        document = json.loads(printed.out)
        assert list(document)[:2] == ["schema_version", "trust"]
        assert document["trust"]["trusted"] is False
        assert document["trust"]["reasons"] == ["other programs used 3.0 of 4 cores while it was timed"]
        assert document["bound"] is None


def test_trusted_profile_begins_with_its_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No warning where nothing speaks against it."""
    show(findings().profile(), tmp_path, Output())
    assert capsys.readouterr().out.startswith("model, items of 16 tokens\n")


@pytest.mark.parametrize("target", ["demo:nul", "nowhere.py:model"])
def test_target_that_is_not_there_is_told_by_its_error_alone(
    target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No line of progress of work that never began."""
    assert main(["profile", target, "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith("Error: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["demo:null", "--batch-sizes", "0"], "a batch size of 0 is outside 1 to"),
        (["demo:null", "--lengths", "x"], "'x' is not a whole number"),
        (["demo:null", "--budget", "0.2s"], "a budget of 0.2 s"),
        (["demo:null", "--memory-limit", "lots"], "'lots' is not a size"),
        (["demo:nul"], "did you mean demo:null?"),
        (["nowhere.py:model"], "nowhere.py"),
    ],
)
def test_wrong_use_exits_2_and_says_why(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every wrong value is refused with itself, the limit and the remedy; nothing is written."""
    out = tmp_path / "out"
    assert main(["profile", *arguments, "--out", str(out)]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert message in said
    assert "Traceback" not in said
    assert not out.exists()


def test_limit_of_memory_marks_larger_sizes_as_not_fitting(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With one MiB nothing fits: every size says so, and none is run in this process."""
    arguments = ["profile", "demo:null", *QUICK, "--memory-limit", "1MiB", "--out", str(tmp_path / "out")]
    assert main(arguments) == 1
    assert "passed the limit" in capsys.readouterr().err


def test_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    """The help ends in a command that works."""
    assert main(["profile", "--help"]) == 0
    assert "Example: carpool profile demo:minilm" in capsys.readouterr().out


def test_a_directory_that_cannot_be_filled_is_told_before_measuring(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file in the way is named at once, rather than after all the work."""
    (tmp_path / "file").write_text("in the way")
    assert main(["profile", "demo:null", *QUICK, "--out", str(tmp_path / "file" / "out")]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "file is no directory; name another directory" in said
    assert "Profiling" not in said


def test_a_model_that_changes_directory_does_not_take_the_results_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--out` is where the command was started."""
    monkeypatch.chdir(tmp_path)
    code = "import os\ndef model(items):\n    os.chdir('/')\n    return list(items)\nmodel.examples = [1, 2]\n"
    (tmp_path / "wandering.py").write_text(code)
    assert main(["profile", "wandering.py:model", *QUICK, "--no-memory", "--out", "out"]) == 0
    assert (tmp_path / "out" / "profile.json").exists()
