"""A process under test is stopped with all that it started, however these try to get away."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import psutil
import pytest
from rig.processes import running

if TYPE_CHECKING:
    from pathlib import Path

SLEEP = "import time; time.sleep(60)"
PARENT = """
import os, subprocess, sys
environment = {} if sys.argv[1] == "title" else None
command, apart = [sys.executable, "-c", sys.argv[2]], sys.argv[1] == "session"
child = subprocess.Popen(command, env=environment, start_new_session=apart)
print(child.pid, flush=True)
"""


@pytest.mark.parametrize("way", ["title", "session"])
def test_children_that_lost_one_of_the_marks_are_stopped(tmp_path: Path, way: str) -> None:
    """One without our environment, and one in a session of its own; their parent has ended before."""
    log = tmp_path / "log"
    command = [sys.executable, "-c", PARENT, way, SLEEP]
    with running(command, environment={}, log=log, cwd=tmp_path) as server:
        server._process.wait(30)
        child = psutil.Process(int(log.read_text()))
        assert child in server.processes()
    assert not child.is_running()
