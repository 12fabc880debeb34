"""`make setup` says what it is at, and how to go on."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TARGETS = ("demo", "test", "check", "test-system", "bench", "docs")


def fake_python(folder: Path, body: str) -> str:
    """Write a program that stands for a Python whose pip does what `body` says."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def recipe(*targets: str, venv: Path) -> str:
    """What make would do for targets, with an environment that is ready."""
    (venv / "bin").mkdir(parents=True, exist_ok=True)
    (venv / ".ready").touch()
    words = ["make", "-n", f"VENV={venv}", *targets]
    # Where the tests are run by make, this one is not to count as a part of that.
    environment = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MAKELEVEL"}}
    return subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout


def test_setup_ends_in_how_to_go_on(tmp_path: Path) -> None:
    """Each time it is asked for, also where there was nothing left to do."""
    assert recipe("setup", venv=tmp_path) == f'echo "Ready: source {tmp_path}/bin/activate, then carpool --help"\n'


@pytest.mark.parametrize("target", TARGETS)
def test_other_targets_do_not_say_it(target: str, tmp_path: Path) -> None:
    """They need the environment, and whoever runs them has other things to read."""
    said = recipe(target, venv=tmp_path)
    assert str(tmp_path) in said
    assert "Ready" not in said


def test_installing_passes_on_what_pip_is_at(tmp_path: Path) -> None:
    """A line now and then, in short, while pip runs, which here goes on until that line was read."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    pip = (
        'echo "$@"; echo "Collecting six>=1 (from carpool==0.1.0)"\n'
        'echo "  Downloading ruff-0.17.6-py3-none-any.whl (10.6 MB)"\n'
        f'echo "  Attempting uninstall: six"; read -r line < "{gate}"'
    )
    words = ["tools/pip_install", fake_python(tmp_path, pip), "-e", "."]
    environment = {**os.environ, "NEWS_EVERY_S": "0"}
    with subprocess.Popen(words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        gate.write_text("go on\n", encoding="utf-8")
        process.stdout.read()
    assert said.split("s", 1)[1].strip() == "Downloading ruff-0.17.6 (10.6 MB)"
    assert process.returncode == 0


def test_installing_that_fails_shows_the_end_of_what_pip_said(tmp_path: Path) -> None:
    """And gives pip's own exit code, so that make stops."""
    words = ["tools/pip_install", fake_python(tmp_path, 'echo "ERROR: no disk: $@"; exit 3'), "-e", "."]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert done.stdout == ""
    assert "ERROR: no disk: -m pip install" in done.stderr
    assert done.stderr.rstrip().endswith("-e .")
