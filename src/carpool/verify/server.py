"""A `carpool serve` in a process of its own, for as long as a block of code needs it."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from carpool.errors import CarpoolError

if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST_START_S = 180.0
LONGEST_STOP_S = 20.0
LAST_WORDS = 5  # lines of a failed server's standard error that are passed on


class ServerFailed(CarpoolError):
    """A server could not be started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningServer:
    """A server that is running.

    Args:
        url: where it listens.
        pid: its process.
    """

    url: str
    pid: int


@contextmanager
def serving(target: str, *flags: str) -> Iterator[RunningServer]:
    """Serve TARGET on a free loopback port while the block runs.

    Args:
        target: as `carpool serve` takes it: a model or a carpool.toml.
        flags: further flags of `carpool serve`.

    Raises:
        ServerFailed: it stopped, or was not ready in time; the message holds its last words.
    """
    command = [sys.executable, "-c", "from carpool.cli.main import main; main()", "serve", target]
    with (
        tempfile.TemporaryFile("w+") as said,
        subprocess.Popen(  # noqa: S603 - our own command line
            [*command, "--host", "127.0.0.1", "--port", "0", "--json", *flags],
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
        ) as process,
    ):
        try:
            yield RunningServer(url=_url_once_ready(process, said), pid=process.pid)
        finally:
            _stop(process)


def _url_once_ready(process: subprocess.Popen[str], said: IO[str]) -> str:
    """Read the document that says where the server listens."""
    assert process.stdout is not None
    too_late = threading.Timer(LONGEST_START_S, process.kill)
    too_late.start()
    try:
        document = _read_document(process.stdout)
    finally:
        too_late.cancel()
    url = document.get("url")
    if not isinstance(url, str):
        said.seek(0)
        last_words = document.get("error", {}).get("message") or "\n".join(said.read().splitlines()[-LAST_WORDS:])
        raise ServerFailed(f"the server was not ready within {LONGEST_START_S:g} s or stopped: {last_words}")
    return url


def _read_document(stream: IO[str]) -> dict[str, Any]:
    """Read lines until they are one JSON document; an empty one when the stream ends before."""
    text = ""
    for line in stream:
        text += line
        try:
            document: dict[str, Any] = json.loads(text)
        except ValueError:
            continue
        return document
    return {}


def _stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(LONGEST_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
