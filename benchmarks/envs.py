"""Environments of their own for programs whose pins conflict with ours, or that only a benchmark or one test needs.

An environment is made on first use and kept, in a directory that git ignores (``benchmarks/.envs``, ``tests/.envs``),
until what is asked of it changes. It has no pip of its own: ours installs into it, which saves seconds.

    python = environment("batched", ["batched==0.1.4"])
    subprocess.run([python, "-c", "import batched"], check=True)
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

BENCHMARK_ENVIRONMENTS = Path(__file__).parent / ".envs"


def environment(
    name: str, requirements: Sequence[str], *, root: Path = BENCHMARK_ENVIRONMENTS, extra_arguments: Sequence[str] = ()
) -> Path:
    """Give the Python of an environment that holds exactly what was asked for, making it when it is not there yet.

    Args:
        name: What its directory is called.
        requirements: What to install, as pip reads it, e.g. ``["litserve==0.2.13"]``.
        root: Where environments are kept.
        extra_arguments: Further arguments of ``pip install``, e.g. ``["--no-deps"]``.

    Raises:
        RuntimeError: If the installation fails; the message ends in what pip said.
    """
    directory = root / name
    python = directory / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    ready = directory / "ready.txt"
    wanted = "\n".join([sys.version, *extra_arguments, *requirements])
    if ready.exists() and ready.read_text(encoding="utf-8") == wanted:
        return python
    shutil.rmtree(directory, ignore_errors=True)  # half made, or made for something else
    venv.create(directory, with_pip=False)
    if requirements:
        _install(python, [*extra_arguments, *requirements])
    ready.write_text(wanted, encoding="utf-8")
    return python


def _install(python: Path, arguments: Sequence[str]) -> None:
    """Install into another environment with the pip of this one."""
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "-qq", "--disable-pip-version-check"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last_words = "\n".join(done.stderr.strip().splitlines()[-10:])
        message = (
            f"installing {' '.join(arguments)} into {python.parent.parent.name} failed (exit {done.returncode}): "
            f"check the pins and the network, then run again\n{last_words}"
        )
        raise RuntimeError(message)
