"""The tree as a whole: it names nothing of one machine, and stays in small pieces."""

from __future__ import annotations

import ast
import re
import statistics
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MOST_LINES_OF_A_FILE = 400
MOST_LINES_OF_A_FUNCTION = 60

# Spelled so that this file does not hold what it looks for.
HOMES = [
    re.compile(pattern) for pattern in (r"/[r]oot/", r"/[h]ome/\w", r"/[U]sers/\w", r"/[w]ork/\w", r"[A-Z]:\\[U]sers")
]
REGISTRIES = [
    "pypi" + ".org",
    "pythonhosted" + ".org",
    "download.pytorch" + ".org",
    "registry.npmjs" + ".org",
    "conda.anaconda" + ".org",
    "index" + "-url",
]


def files_of_the_tree(suffix: str = "") -> list[Path]:
    """Give every file that git keeps or would keep."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    paths = (ROOT / name for name in done.stdout.split("\0") if name.endswith(suffix) and name)
    return [path for path in paths if path.is_file()]


def text_of(path: Path) -> str:
    """Read a file as text; what is not text reads as nothing."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


def function_lengths(path: Path) -> dict[str, int]:
    """Count the lines of each function's code, its docstring aside."""
    lengths = {}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = node.body[0] if ast.get_docstring(node) is not None else None
            documented = (docstring.end_lineno or 0) - docstring.lineno + 1 if docstring else 0
            lengths[f"{path.name}:{node.name}"] = (node.end_lineno or 0) - node.lineno + 1 - documented
    return lengths


def test_no_file_names_a_machine() -> None:
    """No path of somebody's home is in the tree."""
    found = [(path.name, home.pattern) for path in files_of_the_tree() for home in HOMES if home.search(text_of(path))]
    assert found == []


def test_no_file_names_a_package_registry() -> None:
    """Where packages come from is the user's to set: nothing in the tree overrides it."""
    found = [(path.name, host) for path in files_of_the_tree() for host in REGISTRIES if host in text_of(path)]
    assert found == []


def test_files_and_functions_stay_small() -> None:
    """No Python file is longer than 400 lines, no function longer than 60."""
    files = files_of_the_tree(".py")
    long_files = {
        path.name: lines for path in files if (lines := len(text_of(path).splitlines())) > MOST_LINES_OF_A_FILE
    }
    long_functions = {
        name: lines
        for path in files
        for name, lines in function_lengths(path).items()
        if lines > MOST_LINES_OF_A_FUNCTION
    }
    assert (long_files, long_functions) == ({}, {})


def test_most_functions_of_the_package_are_short() -> None:
    """Half of the package's functions have at most 8 lines of code, and 19 in 20 at most 40."""
    lengths = [
        lines
        for path in files_of_the_tree(".py")
        if (ROOT / "src") in path.parents
        for lines in function_lengths(path).values()
    ]
    assert statistics.median(lengths) <= 8
    assert statistics.quantiles(lengths, n=20)[-1] <= 40


@pytest.mark.parametrize("name", ["README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "constraints.txt"])
def test_what_a_newcomer_looks_for_is_there(name: str) -> None:
    """The files that every project has are at the root and not empty."""
    assert (ROOT / name).stat().st_size > 0
