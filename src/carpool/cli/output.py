"""Where a command's words go: people's text or one JSON document, never both on one stream."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from carpool.cli.streams import StandardStream
from carpool.units import with_article

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from carpool.report.table import Table


class Output:
    """What a command says to people, and its result for programs.

    Without `--json` everything said is text on standard output. With `--json` standard output
    holds exactly one JSON document and the text goes to standard error.

    Args:
        json: Whether the command was given `--json`.

    Example:
        >>> output = Output(json=True)
        >>> output.result({"rate": 200.0})
        {
          "rate": 200.0
        }
    """

    __slots__ = ("_documents", "answered", "json")

    def __init__(self, *, json: bool = False) -> None:
        self.json = json
        self.answered = False
        self._documents: TextIO | None = None

    @contextlib.contextmanager
    def holding_stdout(self) -> Iterator[None]:
        """With `--json`, keep standard output for the document while the block runs.

        What a model, a library or a process of theirs prints there goes to standard error.
        """
        if not self.json:
            yield
            return
        with _documents_alone() as self._documents, contextlib.redirect_stdout(sys.stderr):
            yield
        self._documents = None

    @property
    def stream(self) -> TextIO:
        """The stream for people: standard error when standard output holds JSON."""
        return sys.stderr if self.json else sys.stdout

    @property
    def console(self) -> Console:
        """A rich console on the stream for people."""
        from rich.console import Console

        return Console(file=self.stream, highlight=False, markup=False, emoji=False)

    def say(self, message: str = "") -> None:
        """Print a line for people."""
        click.echo(message, file=self.stream)

    def note(self, message: str) -> None:
        """Print a line of progress or warning, always on standard error."""
        click.echo(message, err=True)

    def table(self, table: Table) -> None:
        """Print a table for people, as wide as its content where the stream is not a terminal."""
        if self.stream.isatty():
            self.console.print(table.to_rich())
        else:
            self.say(table.to_text())

    def result(self, document: object) -> None:
        """Give the command's result: with `--json` the one document, without it nothing.

        Args:
            document: Dictionaries, lists, dataclasses, msgspec Structs, numbers, numpy values,
                paths. Numbers that JSON lacks (NaN, infinity) become null.

        Raises:
            RuntimeError: A second document; there is only ever one.
        """
        if not self.json:
            return
        if self.answered:
            message = "a command gives one JSON document and this is its second"
            raise RuntimeError(message)
        self.answered = True
        click.echo(to_json(document), file=self._documents)

    def result_line(self, document: object) -> None:
        """Give the result as one line of JSON on standard output, with or without `--json`."""
        import msgspec

        self.answered = True
        click.echo(msgspec.json.encode(document, enc_hook=_plain).decode(), file=self._documents)

    def error(self, kind: str, message: str, *, exit_code: int) -> None:
        """Say what went wrong: on standard error, or as the JSON document where none was given yet."""
        if self.json and not self.answered:
            error = {"type": kind, "message": message, "exit_code": exit_code}
            self.result({"error": error})
            return
        click.secho("Error: ", fg="red", bold=True, err=True, nl=False)
        click.echo(message, err=True)


@contextlib.contextmanager
def _documents_alone() -> Iterator[TextIO]:
    """Give a stream to where standard output leads, and let its descriptor lead to standard error meanwhile."""
    stdout = sys.stdout
    if not isinstance(stdout, StandardStream) or sys.__stderr__ is None:
        yield stdout  # somebody's own stream, which need not have a descriptor
        return
    stdout.flush()
    number = stdout.fileno()
    kept = os.dup(number)
    os.dup2(sys.__stderr__.fileno(), number)
    try:
        yield StandardStream(kept, stdout.losses)
    finally:
        os.dup2(kept, number)
        os.close(kept)


def to_json(document: object) -> str:
    """Write a document as indented JSON.

    Example:
        >>> print(to_json({"p99_s": float("nan")}))
        {
          "p99_s": null
        }
    """
    import msgspec

    encoded = msgspec.json.encode(document, enc_hook=_plain)
    return msgspec.json.format(encoded, indent=2).decode()


def _plain(value: Any) -> object:
    """Turn what msgspec does not know (numpy values, paths) into plain data."""
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    message = f"a result holds {with_article(type(value).__name__)}, which JSON can't"
    raise NotImplementedError(message)
