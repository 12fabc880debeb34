"""What the scripts share: the machine as a sentence, names on the command line, results in a page."""

from __future__ import annotations

import argparse
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

CPU_INFO = Path("/proc/cpuinfo")


def machine() -> str:
    """Say what this runs on, as a sentence."""
    text = CPU_INFO.read_text() if CPU_INFO.exists() else ""
    models = [line.partition(":")[2].strip() for line in text.splitlines() if "model name" in line]
    processor = models[0] if models else platform.processor() or platform.machine()
    kinds = [kind for kind in ("avx512_bf16", "amx_bf16") if kind in text]
    with_kinds = f" with {' and '.join(kinds)}" if kinds else ""
    return (
        f"{os.cpu_count()} cores of {processor}{with_kinds}, CPython {platform.python_version()}, "
        f"torch {version('torch')}, transformers {version('transformers')}, Carpool {version('carpool')}."
    )


def names(known: Mapping[str, Any]) -> Callable[[str], list[str]]:
    """Make a reader of comma-separated names."""

    def read(text: str) -> list[str]:
        given = text.split(",")
        if unknown := [name for name in given if name not in known]:
            raise argparse.ArgumentTypeError(f"{unknown[0]} is none of {', '.join(known)}")
        return [name for name in known if name in given]

    return read


def marks(script: str) -> tuple[str, str]:
    """Give the lines between which a page has what a script wrote."""
    return f"<!-- what {script} wrote begins -->", f"<!-- what {script} wrote ends -->"


def replace(path: Path, script: str, text: str) -> None:
    """Put what a script found into a page, between its two marks.

    Raises:
        ValueError: the page lacks them.
    """
    begin, end = marks(script)
    before, _, rest = path.read_text(encoding="utf-8").partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        message = f"{path} has no place for the results: write {begin} and {end} where they belong"
        raise ValueError(message)
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")
