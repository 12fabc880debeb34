"""The blocks of the documentation are truly run: a wrong command, output or document fails."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
from sybil import Sybil
from sybil.example import SybilFailure

from tests.doc_blocks import console_blocks, data_blocks, shell_blocks, split_session

ROOT = Path(__file__).parents[1]


def run_page(path: Path, text: str) -> int:
    """Run every block of a page; give how many there were."""
    page = path / "page.md"
    page.write_text(text, encoding="utf-8")
    document = Sybil(parsers=[console_blocks(), shell_blocks(), *data_blocks()], path=str(path), pattern="*.md").parse(
        page
    )
    examples = list(document.examples())
    for example in examples:
        example.evaluate()
    return len(examples)


def test_commands_with_the_output_shown_pass(tmp_path: Path) -> None:
    """A session whose commands print what the page shows, dots standing for the rest, passes."""
    assert run_page(tmp_path, "```console\n$ echo one; echo two\none\n...\n$ printf 'a b' | \\\n  wc -w\n2\n```\n") == 1


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("```console\n$ echo one\ntwo\n```\n", "where the page shows"),
        ("```console\n$ true\n$ exit 3\n```\n", "'exit 3' ended with 3"),
        ("```console\n$ no-such-program-here\n```\n", "not found"),
        ("```sh\ncarpool bench http://localhost --rat 3 &\n```\n", "No such option"),
        ("```sh\ncarpool bensh --rate 3\n```\n", "did you mean 'bench'"),
        ("```sh\nmake tea\n```\n", "the Makefile has no tea"),
    ],
)
def test_a_command_that_fails_or_prints_something_else_is_told(tmp_path: Path, block: str, message: str) -> None:
    """What went wrong names the command."""
    with pytest.raises(SybilFailure, match=message):
        run_page(tmp_path, block)


def test_commands_that_are_not_run_pass_where_they_parse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Options, a line that goes on, a file of the reader's, a redirection, a comment and other programs."""
    monkeypatch.chdir(tmp_path)
    commands = (
        "carpool bench http://localhost \\\n  --rate 3 --data mine.jsonl > log.txt  # slow\nmake demo\npip install x\n"
    )
    assert run_page(tmp_path, f"```sh\n{commands}```\n") == 1


def test_every_block_of_the_documentation_is_of_a_kind_that_is_checked() -> None:
    """No example escapes for being marked with a language that nothing looks at."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    kinds = {kind for page in pages for kind in re.findall(r"^ *```(\w+)", page.read_text("utf-8"), re.MULTILINE)}
    assert kinds <= {"console", "json", "python", "sh", "text", "toml"}


def test_a_command_left_in_the_background_ends_with_its_block(tmp_path: Path) -> None:
    """A server started with ``&`` does not keep the block from ending."""
    assert run_page(tmp_path, "```console\n$ sleep 600 >/dev/null &\n$ jobs -p | wc -l\n1\n```\n") == 1


@pytest.mark.parametrize(
    ("block", "error"),
    [("```json\n{,}\n```\n", json.JSONDecodeError), ("```toml\n[[\n```\n", tomllib.TOMLDecodeError)],
)
def test_data_that_does_not_parse_is_told(tmp_path: Path, block: str, error: type[Exception]) -> None:
    """A block of JSON or TOML with a slip in it fails."""
    with pytest.raises(error):
        run_page(tmp_path, block)


def test_a_command_over_two_lines_is_one() -> None:
    """A line that ends in a backslash goes on in the next."""
    assert split_session("$ a \\\n  b\nout\n") == [("a \\\n  b", "out\n")]
