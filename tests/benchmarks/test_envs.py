"""Environments for conflicting pins: made once, kept while the wish stays the same, made anew when it changes."""

from __future__ import annotations

import subprocess
import zipfile
from typing import TYPE_CHECKING

import pytest
from envs import environment

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def passenger(tmp_path: Path) -> Path:
    """A wheel that holds one module, which no registry needs to be asked for."""
    wheel = tmp_path / "passenger-1.0-py3-none-any.whl"
    about = "passenger-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("passenger.py", "SEATS = 4\n")
        archive.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: passenger\nVersion: 1.0\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    return wheel


def test_an_environment_holds_what_was_asked_for_and_nothing_of_ours(tmp_path: Path, passenger: Path) -> None:
    """The module asked for can be imported there; those of this environment cannot."""
    python = environment("one", [str(passenger)], root=tmp_path)
    program = "import importlib.util as u, passenger; print(passenger.SEATS, u.find_spec('numpy'))"
    done = subprocess.run([python, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["4", "None"]


def test_an_environment_is_kept_until_the_wish_changes(tmp_path: Path, passenger: Path) -> None:
    """Asking again for the same leaves it alone; asking for something else makes it anew."""
    left_behind = environment("one", [], root=tmp_path).parents[1] / "left-behind"
    left_behind.touch()
    environment("one", [], root=tmp_path)
    assert left_behind.exists()
    environment("one", [str(passenger)], root=tmp_path)
    assert not left_behind.exists()


def test_a_failed_installation_is_told_and_not_kept(tmp_path: Path) -> None:
    """The message names the wish, and the next call tries again."""
    missing = str(tmp_path / "nowhere-1.0-py3-none-any.whl")
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"installing .*nowhere.* into one failed"):
            environment("one", [missing], root=tmp_path)
