"""The OpenAPI page is true: requests made up from it, right and wrong, are answered as it says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import settings

from tests.serve.fakes import embed, offer
from tests.serve.live import visit

if TYPE_CHECKING:
    from collections.abc import Sequence

CONFIG = Path(__file__).with_name("schemathesis.toml")
QUICK = ("--max-examples=5", "--phases=fuzzing", "--generation-deterministic")
LONG = ("--max-examples=300", "--phases=coverage,fuzzing,stateful", "--seed=0")
IS_LONG = settings().max_examples > 1000


def fuzz(url: str, directory: Path, options: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run schemathesis, a tool that was not written here, against a server."""
    program = Path(sys.executable).with_name("schemathesis")
    command = [str(program), f"--config-file={CONFIG}", "run", f"{url}/openapi.json", "--no-color", "--warnings=off"]
    return subprocess.run([*command, *options], capture_output=True, text=True, cwd=directory, check=False)


def test_every_operation_answers_as_the_page_says(tmp_path: Path) -> None:
    """Every status is one that it names, every answer of the type that it gives, and nothing fails."""
    found = visit(offer(embed), lambda url: fuzz(url, tmp_path, LONG if IS_LONG else QUICK))
    assert found.returncode == 0, found.stdout + found.stderr
    assert "No issues found" in found.stdout
