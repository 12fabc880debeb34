"""`carpool serve`: its options, and a whole life from start to SIGTERM."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import urllib.request
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from carpool.cli.main import main
from carpool.profile.artefact import Trust, load_profile, save_profile
from carpool.profile.options import ProfileOptions
from carpool.profile.run import profile_target
from tests.serve.repositories import write_entry, write_model

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCS = Path(__file__).parents[2] / "docs"
CARPOOL = [sys.executable, "-c", "import sys; from carpool.cli.main import main; sys.exit(main())"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "no TARGET was given: name what to serve"),
        (["demo:null", "--no-batching", "--max-batch-size", "8"], "--no-batching contradicts --max-batch-size 8"),
        (["demo:null", "--max-batch-size", "0"], "policy.max_batch_size is 0"),
        (["demo:null", "--workers", "0"], "model.num_workers is 0"),
        (["demo:null", "--max-wait", "soon"], "'soon' is not a duration"),
        (["demo:null", "--port", "70000"], "server.port is 70000"),
        (["demo:null", "--profile", "nowhere.json"], "nowhere.json"),
        (["nowhere.toml"], "nowhere.toml"),
        (["demo:nothing"], "demo:nothing"),
        (["demo:null", "--name", "a/b"], "'a/b' can't stand in a URL"),
    ],
)
def test_wrong_use_is_told_without_a_traceback(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the value and the remedy, and exit code 2."""
    assert main(["serve", "--port", "0", *arguments]) == 2
    told = capsys.readouterr().err
    assert said in " ".join(told.split())
    assert "Traceback" not in told


def test_a_port_in_use_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    """Not wrong use: exit code 1."""
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", "demo:null", "--port", str(port)]) == 1
    assert f"can't listen on 127.0.0.1 port {port}" in capsys.readouterr().err


def test_a_model_that_cannot_load_is_a_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1, with what it said."""
    file = tmp_path / "broken.py"
    file.write_text(
        "class Broken:\n    def load(self): raise OSError('no weights')\n    def __call__(self, batch): return batch\n"
    )
    assert main(["serve", f"{file}:Broken", "--port", "0"]) == 1
    assert "no weights" in capsys.readouterr().err


@contextmanager
def serving(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run `carpool serve` in a process of its own, ended when done."""
    command = [*CARPOOL, "serve", *arguments, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def ready(process: subprocess.Popen[str]) -> Any:
    """Read the one document that `--json` prints once it is ready."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line == "}\n":
            break
    return json.loads("".join(lines))


def test_a_whole_life(tmp_path: Path) -> None:
    """From carpool.toml and options to one JSON document, an answer, and a clean stop."""
    file = tmp_path / "carpool.toml"
    file.write_text(
        '[model]\ntarget = "demo:null"\nname = "from-file"\n[policy]\nmax_batch_size = 7\nmax_wait = "2ms"\n'
    )
    with serving(str(file), "--max-batch-size", "9", "--workers", "2", "--json") as process:
        said = ready(process)
        with urllib.request.urlopen(f"{said['url']}/v2/models/from-file/ready", timeout=30) as response:
            answer = json.load(response)
        process.send_signal(signal.SIGTERM)
        rest, told = process.communicate(timeout=30)
    assert answer == {"name": "from-file", "ready": True}
    assert (said["policy"]["max_batch_size"], said["policy"]["max_wait_s"], said["num_workers"]) == (9, 0.002, 2)
    assert (process.returncode, rest) == (0, "")
    assert "stopped: what was accepted has been answered" in told


# Each says when it has begun, and would go on for ever: while it is imported, whatever is raised meanwhile; asleep; in
# a thread that the interpreter waits for; and amid native code, which it aborts where it cuts it off.
SLOW = {
    "import": """
import sys, time
print("begun", file=sys.stderr, flush=True)
while True:
    try:
        time.sleep(3600)
    except BaseException:
        pass
""",
    "sleep": """
import sys, time
class Model:
    def load(self):
        print("begun", file=sys.stderr, flush=True)
        time.sleep(3600)
    def __call__(self, batch): return batch
""",
    "thread": """
import sys, threading, time
class Model:
    def load(self):
        threading.Thread(target=time.sleep, args=(3600,)).start()
        print("begun", file=sys.stderr, flush=True)
        time.sleep(3600)
    def __call__(self, batch): return batch
""",
    "torch": """
import sys, torch
class Model:
    def load(self):
        matrix = torch.ones(512, 512)
        print("begun", file=sys.stderr, flush=True)
        while True:
            matrix @ matrix
    def __call__(self, batch): return batch
""",
}


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("while_in", SLOW)
def test_a_stop_while_it_loads_ends_it_at_once_and_quietly(while_in: str, how: signal.Signals, tmp_path: Path) -> None:
    """With exit code 0, one sentence, and no document, wherever the load is."""
    file = tmp_path / "slow.py"
    file.write_text(SLOW[while_in])
    with serving(f"{file}:Model", "--json") as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line == "begun\n":
                break
        process.send_signal(how)
        rest, told = process.communicate(timeout=30)
    assert (process.returncode, rest, told) == (0, "", "stopped before the model was ready\n")


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The profile.json of demo:null, just measured."""
    path = tmp_path_factory.mktemp("profile") / "profile.json"
    options = ProfileOptions(batch_sizes=(1, 2), budget_s=1.0, probe_memory=False)
    save_profile(path, replace(profile_target("demo:null", options), trust=Trust()))  # however busy the machine was
    return path


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return what wrong use is told."""
    assert main(["serve", *arguments, "--port", "0"]) == 2
    return capsys.readouterr().err


def test_a_profile_of_another_target_is_refused(
    profile: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With both targets, the file, how it was given, and what to do."""
    (tmp_path / "echo.py").write_text("def echo(batch): return batch\n")
    target = f"{tmp_path}/echo.py:echo"
    said = (
        f"{profile} is a profile of demo:null, and says nothing of {target}: "
        f"measure that by `carpool profile {target} --out DIR`, or leave the profile out\n"
    )
    assert refusal(capsys, target, "--profile", str(profile)) == f"Error: --profile: {said}"
    file = tmp_path / "carpool.toml"
    file.write_text(f'profile = "{profile}"\n[model]\ntarget = "{target}"\n')
    assert refusal(capsys, str(file)) == f"Error: {file}: profile: {said}"


def test_a_profile_of_another_machine_is_used_with_a_warning(profile: Path, tmp_path: Path) -> None:
    """Field by field, on standard error; one of this machine in silence, one in doubt with the reasons."""
    measured = load_profile(profile)
    other = tmp_path / "profile.json"
    versions = {**measured.machine.versions, "python": "3.1"}
    save_profile(
        other, replace(measured, machine=replace(measured.machine, device_name="An abacus", versions=versions))
    )
    doubted = tmp_path / "doubted.json"
    save_profile(
        doubted, replace(measured, trust=Trust(trusted=False, times_sure=False, reasons=("a storm", "a flood")))
    )
    told = {}
    for path in (profile, other, doubted):
        with serving("demo:null", "--profile", str(path), "--json") as process:
            ready(process)
            process.send_signal(signal.SIGTERM)
            lines = process.communicate(timeout=30)[1].splitlines()
            told[path] = [line for line in lines if line.startswith(("warning: ", "  ")) and "Ctrl-C" not in line]
    assert told[profile] == []
    assert told[doubted] == [f"warning: {doubted}: do not trust this profile: a storm; a flood"]
    assert told[other] == [
        f"warning: {other} was measured under other conditions, so its times may be wrong here:",
        f"  device name: An abacus in the profile, {measured.machine.device_name} here",
        f"  python: 3.1 in the profile, {measured.machine.versions['python']} here",
        "  measure here by `carpool profile demo:null --out DIR`, or leave the profile out",
    ]


def test_a_missing_file_is_told_with_where_it_was_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The toml file, the option or the variable; the path that was looked at; and what to do."""
    monkeypatch.chdir(tmp_path)
    sub = tmp_path / "sub"
    sub.mkdir()
    (sub / "carpool.toml").write_text('profile = "out/profile.json"\n[model]\ntarget = "demo:null"\n')
    assert refusal(capsys, "sub/carpool.toml") == (
        f"Error: sub/carpool.toml: profile: there is no file {sub}/out/profile.json: "
        "measure one by `carpool profile demo:null --out sub/out`, name another, or leave it out\n"
    )
    missing = f"there is no file {tmp_path}/fast.json: measure one by `carpool profile demo:null --out DIR`, "
    assert refusal(capsys, "demo:null", "--profile", "fast.json").startswith(f"Error: --profile: {missing}")
    monkeypatch.setenv("CARPOOL_PROFILE", "fast.json")
    assert refusal(capsys, "demo:null").startswith(f"Error: CARPOOL_PROFILE: {missing}")
    monkeypatch.delenv("CARPOOL_PROFILE")
    (sub / "carpool.toml").write_text('[model]\ntarget = "nowhere.py:f"\n')
    assert refusal(capsys, "sub/carpool.toml").startswith(
        f"Error: sub/carpool.toml: model.target: nowhere.py:f: there is no file nowhere.py; {tmp_path} has "
    )


def test_a_profile_without_a_cost_model_is_of_no_use(
    profile: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Such as one that was broken off."""
    path = tmp_path / "profile.json"
    save_profile(path, replace(load_profile(profile), cost_model=None))
    assert f"--profile: {path} holds no cost model: profile at least two batch sizes" in refusal(
        capsys, "demo:null", "--profile", str(path)
    )


def test_the_first_example_of_the_reference_page_runs_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a directory that holds nothing else, on another port."""
    page = (DOCS / "reference" / "carpool-toml.md").read_text(encoding="utf-8")
    example = page.partition("```toml\n")[2].partition("```")[0]
    (tmp_path / "carpool.toml").write_text(example, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with serving("carpool.toml", "--json") as process:
        said = ready(process)
    assert (said["model"], said["policy"]["max_batch_size"]) == ("all-MiniLM-L6-v2", 64)


def test_a_repository_is_served_and_loaded_anew(tmp_path: Path) -> None:
    """One model that fails is told, and does not stop the others; SIGHUP brings in what has changed."""
    write_entry(tmp_path, "double", factor=2)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "carpool.toml").write_text('[model]\ntarget = "nowhere.py:f"\n')
    with serving(str(tmp_path), "--max-batch-size", "5", "--json") as process:
        said = ready(process)
        answers = [ask(said["url"], "double")]
        write_model(tmp_path / "double", 7)
        process.send_signal(signal.SIGHUP)
        while (answer := ask(said["url"], "double")) == answers[-1]:
            pass
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=30)
    assert [model["model"] for model in said["models"]] == ["double"]
    assert said["models"][0]["policy"]["max_batch_size"] == 5
    assert (answers, answer, process.returncode) == ([2.0], 7.0, 0)
    assert "broken, version 1: " in told
    assert "'nowhere.py:f' names a file that is not there" in told


def ask(url: str, model: str) -> float:
    """Ask a model on a server what becomes of [1, 1]."""
    body = {"inputs": [{"name": "input", "datatype": "FP64", "shape": [1, 2], "data": [1, 1]}]}
    with urllib.request.urlopen(f"{url}/v2/models/{model}/infer", data=json.dumps(body).encode(), timeout=30) as answer:
        number: float = json.load(answer)["outputs"][0]["data"][0]
    return number


def test_a_strict_server_of_a_repository_ends_where_a_model_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As one does that has none to serve; a directory that is neither is wrong use."""
    write_entry(tmp_path, "good")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "carpool.toml").write_text('[model]\ntarget = "nowhere.py:f"\n')
    assert main(["serve", str(tmp_path), "--port", "0", "--strict"]) == 1
    assert "1 of 2 models can't be loaded: bad: " in capsys.readouterr().err
    assert main(["serve", str(tmp_path / "good"), "--port", "0"]) == 2
    assert "is neither a model" in " ".join(capsys.readouterr().err.split())
