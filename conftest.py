"""Collects the examples: doctests of the source, and every block of the README and the documentation that can run.

Python blocks run as they stand, one namespace a page; ``console`` blocks run in a shell; the commands of ``sh`` blocks,
and ``json`` and ``toml`` blocks, must parse. Each page runs in an empty directory of its own, so that what an example
writes does not stay behind.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from sybil import Sybil
from sybil.document import PythonDocStringDocument
from sybil.parsers.doctest import DocTestParser
from sybil.parsers.markdown import PythonCodeBlockParser
from sybil.sybil import SybilCollection

from tests.doc_blocks import console_blocks, data_blocks, shell_blocks

os.environ["TRITON_INTERPRET"] = "1"  # CUDA's kernels run without a GPU; read once, when Triton is first imported


def _enter_empty_directory(namespace: dict[str, object]) -> None:
    namespace["_home"] = Path.cwd()
    namespace["_directory"] = directory = tempfile.TemporaryDirectory(
        prefix="carpool-docs-", ignore_cleanup_errors=True
    )
    os.chdir(directory.name)


def _leave_directory(namespace: dict[str, object]) -> None:
    home, directory = namespace["_home"], namespace["_directory"]
    assert isinstance(home, Path)
    assert isinstance(directory, tempfile.TemporaryDirectory)
    os.chdir(home)
    directory.cleanup()


def _pages(path: str, pattern: str) -> Sybil:
    return Sybil(
        parsers=[PythonCodeBlockParser(), console_blocks(), shell_blocks(), *data_blocks()],
        path=path,
        patterns=[pattern],
        setup=_enter_empty_directory,
        teardown=_leave_directory,
    )


docstrings = Sybil(
    parsers=[DocTestParser()],
    path="src",
    patterns=["*.py"],
    document_types={".py": PythonDocStringDocument},
    setup=_enter_empty_directory,
    teardown=_leave_directory,
)
pytest_collect_file = SybilCollection([_pages(".", "README.md"), _pages("docs", "*.md"), docstrings]).pytest()
