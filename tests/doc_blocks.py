"""How the blocks of the documentation that are not Python are run: shell sessions, and what must only parse."""

from __future__ import annotations

import doctest
import itertools
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import click
from sybil.parsers.markdown import CodeBlockParser

from carpool.cli.main import carpool

if TYPE_CHECKING:
    from sybil import Example

PROMPT = "$ "
COMMAND_LIMIT_S = 120
DIVIDER = "--carpool-divider--"
MAKEFILE = Path(__file__).parents[1] / "Makefile"
SHELL_SIGNS = {"&", "&&", "|", ";", ">", "2>"}
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def console_blocks() -> CodeBlockParser:
    """Run ``console`` blocks: a line that begins with ``$`` is a command, those below are its output, ``...`` is any.

    The commands of one block share a shell, so one may start a server with ``&`` that the next ones use; what still
    runs at the end of the block is ended. Output is compared only where the page shows some.
    """
    return CodeBlockParser(language="console", evaluator=run_session)


def data_blocks() -> list[CodeBlockParser]:
    """Parse ``json`` and ``toml`` blocks."""
    return [
        CodeBlockParser(language="json", evaluator=lambda example: _parses(json.loads, example)),
        CodeBlockParser(language="toml", evaluator=lambda example: _parses(tomllib.loads, example)),
    ]


def shell_blocks() -> CodeBlockParser:
    """Check ``sh`` blocks, which show what takes long: ``carpool`` commands must parse, ``make`` targets exist."""
    return CodeBlockParser(language="sh", evaluator=check_shell)


def check_shell(example: Example) -> str | None:
    """Check one block's commands; give what is wrong with the first bad one, or None."""
    for line in str(example.parsed).replace("\\\n", " ").splitlines():
        words = list(itertools.takewhile(lambda word: word not in SHELL_SIGNS, shlex.split(line, comments=True)))
        if words[:1] == ["carpool"] and (wrong := _does_not_parse(words[1:])):
            return f"{line!r}: {wrong}"
        if words[:1] == ["make"] and (missing := set(words[1:]) - _make_targets()):
            return f"{line!r}: the Makefile has no {', '.join(sorted(missing))}"
    return None


def _does_not_parse(arguments: list[str]) -> str | None:
    """Parse a command's arguments without running it; files that it names are the reader's, empty ones stand in."""
    for argument in arguments:
        if Path(argument).suffix in {".csv", ".jsonl", ".toml"} and "://" not in argument:
            Path(argument).parent.mkdir(parents=True, exist_ok=True)
            Path(argument).touch()
    try:
        with click.Context(carpool, info_name="carpool") as context:
            name, command, rest = carpool.resolve_command(context, arguments)
            assert command is not None
            command.make_context(name, rest, parent=context)
    except click.exceptions.Exit:  # --help and --version
        return None
    except click.ClickException as error:
        return error.format_message()
    return None


def _make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", MAKEFILE.read_text(encoding="utf-8"), flags=re.MULTILINE))


def run_session(example: Example) -> str | None:
    """Run one block's commands; give what went wrong, or None."""
    steps = split_session(str(example.parsed))
    script = ["set -euo pipefail", "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT"]
    for command, _ in steps:
        script += [command, f"echo {DIVIDER}"]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        capture_output=True,
        text=True,
        timeout=COMMAND_LIMIT_S,
        check=False,
        env={**os.environ, "PATH": path, "COLUMNS": "120"},
    )
    outputs = done.stdout.split(f"{DIVIDER}\n")
    if done.returncode != 0:
        return f"{steps[len(outputs) - 1][0]!r} ended with {done.returncode}:\n{outputs[-1]}{done.stderr}"
    return _first_difference(steps, outputs)


def split_session(text: str) -> list[tuple[str, str]]:
    r"""Split a block into its commands, each with the output shown below it.

    Example:
        >>> split_session("$ echo a\na\n$ true\n")
        [('echo a', 'a\n'), ('true', '')]
    """
    steps: list[tuple[str, str]] = []
    for line in text.splitlines():
        if line.startswith(PROMPT):
            steps.append((line.removeprefix(PROMPT), ""))
        elif steps and steps[-1][0].endswith("\\"):  # a command that goes on
            steps[-1] = (f"{steps[-1][0]}\n{line}", "")
        elif steps:
            steps[-1] = (steps[-1][0], f"{steps[-1][1]}{line}\n")
    return steps


def _first_difference(steps: list[tuple[str, str]], outputs: list[str]) -> str | None:
    checker = doctest.OutputChecker()
    for (command, wanted), got in zip(steps, outputs, strict=False):
        if wanted.strip() and not checker.check_output(wanted, got, FLAGS):
            return f"{command!r} printed\n{got}\nwhere the page shows\n{wanted}"
    return None


def _parses(parse: object, example: Example) -> None:
    assert callable(parse)
    parse(str(example.parsed))
