"""`carpool plan` from its words to its exit code, on a profile made up here."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from carpool.cli.main import main
from carpool.cli.plan_source import doubts_about, read_source
from carpool.config.settings import load_settings
from carpool.plan.workload_table import from_settings
from carpool.profile.artefact import Trust, save_profile
from carpool.profile.machine import describe_machine
from tests.profile.made_up import findings

if TYPE_CHECKING:
    from carpool.profile.artefact import Profile

SHORT = ("--window", "2s", "--runs", "3")
EXAMPLES = (8, 16, 30, 60)


def profile(**changed: Any) -> Profile:
    """The profile of a model that takes 4 ms a call and 0.02 ms a token, measured here."""
    known: dict[str, Any] = {
        "target": "demo:null",
        "machine": describe_machine("cpu", "float32", 1),
        "example_lengths": EXAMPLES,
        "max_length": 64,
        "trust": Trust(),
        "drift": 0.0,
    }
    return replace(findings().profile(), **(known | changed))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """That profile in a file."""
    save_profile(tmp_path / "profile.json", profile())
    return tmp_path / "profile.json"


@dataclass(frozen=True, slots=True)
class Planned:
    """A run of the command that the tests below only look at: where it wrote, and what it printed."""

    code: int
    profile: Path
    out: Path
    printed: str
    said: str


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Planned:
    """A plan that keeps its objective, as JSON, written elsewhere than beside the profile."""
    directory = tmp_path_factory.mktemp("planned")
    path, out = directory / "profile.json", directory / "deeper" / "carpool.toml"
    save_profile(path, profile())
    words = ["plan", str(path), "--rate", "60", "--slo", "p99=200ms", "--price", "1.5", *SHORT, "--out", str(out)]
    printed, said = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(said):
        code = main([*words, "--json"])
    return Planned(code, path, out, printed.getvalue(), said.getvalue())


def test_a_plan_that_keeps_its_objective_exits_0_with_all_files_written(planned: Planned) -> None:
    """The settings, the page and its pictures."""
    assert planned.code == 0
    names = {path.name for path in planned.out.parent.iterdir()}
    assert names == {"carpool.toml", "plan.html", "plan-latency.png", "plan-memory.png"}
    assert (planned.out.parent / "plan.html").read_text().startswith("<!doctype html>")


def test_json_is_one_document_and_what_is_for_people_goes_elsewhere(planned: Planned) -> None:
    """Everything in the plan; tables, sentences and progress on standard error."""
    found = json.loads(planned.printed)
    assert found["chosen"]["num_workers"] == 1
    assert found["verdict"] == "met"
    assert set(found["prediction"]["p99_s"]) == {"value", "low", "high"}
    assert found["what_if"][0]["name"] == "no batching"
    assert found["memory_trade"]["model_sizes"]
    for part in ("Planning for model", "The same load served in other ways", "Serve with", "A million answered items"):
        assert part in planned.said


def test_the_settings_are_what_a_server_needs(planned: Planned) -> None:
    """They name the profile and its hash, the model as it was measured, the objective and the load."""
    settings = load_settings(planned.out)
    assert settings.profile is not None
    assert settings.profile.resolve() == planned.profile.resolve()
    assert settings.profile_sha256 == hashlib.sha256(planned.profile.read_bytes()).hexdigest()
    assert (settings.model.target, settings.model.dtype, settings.model.num_threads) == ("demo:null", "float32", 1)
    assert settings.objectives_s == {"p99": 0.2}
    assert settings.workload.lengths == ()  # they are the profile's
    assert from_settings(settings.workload, lengths=EXAMPLES).describe().startswith("Poisson arrivals at 60/s")


def test_as_many_workers_may_be_used_as_serve_the_model_best(tmp_path: Path) -> None:
    """Where nothing else is said: one that was measured alone can't carry this load."""
    path = tmp_path / "profile.json"
    save_profile(path, profile(preferred_workers=2))
    assert main(["plan", str(path), "--rate", "900", "--max-batch-size", "4", *SHORT]) == 0
    assert load_settings(tmp_path / "carpool.toml").model.num_workers == 2


def test_a_load_of_another_kind_is_kept_in_the_settings_beside_the_profile(file: Path, tmp_path: Path) -> None:
    """Arrivals, lengths and deadline as they were told; a trace by its path from there."""
    trace = tmp_path / "trace.csv"
    trace.write_text("time\n" + "\n".join(str(number / 50) for number in range(200)) + "\n")
    assert main(["plan", str(file), "--trace", str(trace), "--lengths", "20", "--deadline", "1s", *SHORT]) == 0
    text = (file.parent / "carpool.toml").read_text()
    assert 'trace = "trace.csv"' in text
    workload = from_settings(load_settings(file.parent / "carpool.toml").workload)
    assert (workload.lengths, workload.deadline_s, round(workload.rate)) == ((20,), 1.0, 50)


def test_an_impossible_objective_exits_1_with_the_nearest_plan(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An item alone takes longer: it says so, what it would take, and still writes the best there is."""
    assert main(["plan", str(file), "--rate", "60", "--objective", "p99=1ms", *SHORT]) == 1
    printed = capsys.readouterr().out
    assert "keeps p99 within 1 ms at 60/s" in printed
    assert "would take" in printed
    assert load_settings(file.parent / "carpool.toml").policy.max_batch_size >= 1
    assert "Not every objective can be kept" in (file.parent / "plan.html").read_text()


@pytest.mark.parametrize(("out", "page"), [("x", "x"), ("report", "plan")])
def test_plans_in_one_folder_keep_a_page_each(file: Path, out: str, page: str) -> None:
    """Named after their settings, but never over the profile's own report."""
    assert main(["plan", str(file), "--rate", "60", *SHORT, "--out", str(file.parent / f"{out}.toml")]) == 0
    names = {path.name for path in file.parent.iterdir()}
    assert names == {"profile.json", f"{out}.toml", f"{page}.html", f"{page}-latency.png", f"{page}-memory.png"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing says how many items arrive: give --rate, such as --rate 200, or a --trace"),
        (["--rate", "0"], "a rate of 0 a second is not a finite number above 0"),
        (
            ["--rate", "5", "--slo", "p98=5ms"],
            "'p98=5ms' is not an objective that can be kept to: write one of p50=50ms",
        ),
        (["--rate", "5", "--slo", "fast"], "'fast' is not an objective"),
        (["--rate", "5", "--slo", "p99=1s", "--slo", "p99=2s"], "are for one percentile"),
        (["--rate", "5", "--price", "-1"], "'-1' is not a price: give a number above 0, such as 1.20 an hour"),
        (["--rate", "5", "--memory", "1MiB"], "not even one item of 60 tokens fits"),
        (["--rate", "5", "--out", "plan.txt"], "must name a file that ends in .toml, such as plan.toml"),
        (["--rate", "5", "--out", "."], "must name a file that ends in .toml, such as carpool.toml"),
        (["--rate", "5", "--trace", "nowhere.csv"], "'nowhere.csv' does not exist"),
    ],
)
def test_wrong_use_exits_2_and_says_why(
    arguments: list[str], message: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every wrong value is refused with itself, the limit and the remedy; nothing is written."""
    assert main(["plan", str(file), *arguments]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert message in said
    assert "Traceback" not in said
    assert not (file.parent / "carpool.toml").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read"),
        ('{"schema_version": 1, "target": ', "the file may be truncated"),
        ('{"schema_version": 99}', "schema_version is 99; known versions: 1"),
        ("<!doctype html>", "it must be one complete JSON object"),
        ('{"schema_version": 1}', "lacks the key"),
    ],
)
def test_a_profile_that_cannot_be_read_is_told(
    content: str | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Missing, cut short, of another version, or something else altogether."""
    path = tmp_path / "profile.json"
    if content is not None:
        path.write_text(content)
    assert main(["plan", str(path), "--rate", "5"]) == 2
    said = capsys.readouterr().err
    assert str(path) in said
    assert message in said


def test_a_profile_without_a_cost_model_says_to_measure_more(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing can be predicted from it."""
    save_profile(tmp_path / "profile.json", profile(cost_model=None))
    assert main(["plan", str(tmp_path / "profile.json"), "--rate", "5"]) == 2
    assert "profile it again with more time" in capsys.readouterr().err


def test_a_profile_that_was_changed_is_not_planned_from(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A figure that no measurement gives is refused, as a server refuses it."""
    save_profile(file, profile(drift=-1.0))
    assert main(["plan", str(file), "--rate", "5"]) == 2
    assert "drift is -1; it must be above -1 and finite: the file was changed" in capsys.readouterr().err


def test_a_directory_in_the_place_of_the_settings_is_told_before_planning(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """So is a directory that can't be made."""
    (file.parent / "carpool.toml").mkdir()
    assert main(["plan", str(file), "--rate", "5"]) == 2
    assert main(["plan", str(file), "--rate", "5", "--out", str(file / "carpool.toml")]) == 2
    said = capsys.readouterr().err
    assert "is a directory: name a file in it" in said
    assert "profile.json is no directory" in said
    assert "Planning" not in said


def test_a_profile_of_another_machine_is_used_with_a_warning(file: Path) -> None:
    """The differences are named."""
    assert list(doubts_about(read_source(file))) == []
    here = profile().machine
    save_profile(file, profile(machine=replace(here, device_name="Another Processor", num_cores=here.num_cores + 2)))
    (doubt,) = doubts_about(read_source(file))
    assert "was measured on another machine" in doubt
    assert f"device name: Another Processor in the profile, {here.device_name} here" in doubt
    assert f"cores: {here.num_cores + 2} in the profile, {here.num_cores} here" in doubt


def test_software_that_is_not_here_is_a_difference(file: Path) -> None:
    """Versions are compared without loading what they are of."""
    machine = profile().machine
    save_profile(file, profile(machine=replace(machine, versions=machine.versions | {"click": "0.1", "tpu": "9"})))
    (doubt,) = doubts_about(read_source(file))
    assert "click: 0.1 in the profile, " in doubt
    assert "tpu: 9 in the profile, none here" in doubt


def test_a_profile_of_an_accelerator_that_is_not_here_says_so(file: Path) -> None:
    """Its times hold for something else."""
    save_profile(file, profile(machine=replace(profile().machine, device="tpu:0", device_name="A Large One")))
    (doubt,) = doubts_about(read_source(file))
    assert "A Large One in the profile" in doubt


def test_a_profile_that_is_not_trusted_is_doubted(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What speaks against it stands with the plan."""
    doubtful = Trust(trusted=False, reasons=("other programs ran",), remedy="profile again")
    save_profile(file, profile(trust=doubtful))
    assert main(["plan", str(file), "--rate", "60", *SHORT]) == 0
    assert "is not to be relied on (other programs ran): profile again." in capsys.readouterr().out
    assert "other programs ran" in (file.parent / "plan.html").read_text()


def test_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    """The help ends in a command that works."""
    assert main(["plan", "--help"]) == 0
    assert "Example: carpool plan out/profile.json --rate 400 --slo p99=50ms" in " ".join(
        capsys.readouterr().out.split()
    )
