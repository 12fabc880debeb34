"""`carpool serve`: its options, and a whole life from start to SIGTERM."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import urllib.request
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from carpool.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path

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


def test_a_whole_life(tmp_path: Path) -> None:
    """From carpool.toml and options to one JSON document, an answer, and a clean stop."""
    file = tmp_path / "carpool.toml"
    file.write_text(
        '[model]\ntarget = "demo:null"\nname = "from-file"\n[policy]\nmax_batch_size = 7\nmax_wait = "2ms"\n'
    )
    command = [*CARPOOL, "serve", str(file), "--port", "0", "--max-batch-size", "9", "--workers", "2", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line == "}\n":
                break
        said = json.loads("".join(lines))
        with urllib.request.urlopen(f"{said['url']}/v2/models/from-file/ready", timeout=30) as response:
            ready = json.load(response)
        process.send_signal(signal.SIGTERM)
        rest, told = process.communicate(timeout=30)
    assert ready == {"name": "from-file", "ready": True}
    assert (said["policy"]["max_batch_size"], said["policy"]["max_wait_s"], said["num_workers"]) == (9, 0.002, 2)
    assert (process.returncode, rest) == (0, "")
    assert "stopped: what was accepted has been answered" in told
