"""Standard streams that can't be written: what a command does goes on, and its exit code says what became of it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import urllib.request
from typing import TYPE_CHECKING

import pytest

from carpool.cli.streams import Losses, StandardStream, lossy_streams

if TYPE_CHECKING:
    from collections.abc import Iterator

WITHIN_S = 60
COMMAND = [sys.executable, "-c", "import sys; from carpool.cli.main import main; sys.exit(main())"]


@contextlib.contextmanager
def full() -> Iterator[int]:
    """Give a descriptor on which every write fails, as on a full disk."""
    number = os.open(os.devnull, os.O_RDONLY)
    try:
        yield number
    finally:
        os.close(number)


def test_what_is_lost_is_remembered_and_nothing_raised() -> None:
    """By the first reason."""
    losses = Losses()
    with full() as number:
        stream = StandardStream(number, losses)
        for _ in range(3):
            print("x" * 20_000, file=stream, flush=True)
        stream.close()
        os.fstat(number)  # it is still open
    assert "descriptor" in losses.reason


def test_a_pipe_that_takes_no_more_keeps_nobody_waiting() -> None:
    """What did fit is there."""
    losses, (reading, writing) = Losses(), os.pipe()
    os.set_blocking(writing, False)
    print("x" * 2_000_000, file=StandardStream(writing, losses), flush=True)
    os.close(writing)
    with os.fdopen(reading, "rb") as kept:
        assert set(kept.read()) == {ord("x")}
    assert losses.reason == "it takes no more for now"


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_every_text_can_be_written(encoding: str) -> None:
    """What the encoding lacks is named by its number."""
    losses, (reading, writing) = Losses(), os.pipe()
    print("half \ud83d", file=StandardStream(writing, losses, encoding=encoding), flush=True)
    os.close(writing)
    with os.fdopen(reading, "rb") as kept:
        assert kept.read() == b"half \\ud83d\n"


def test_somebodys_own_streams_stay_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    """As they need not have a descriptor."""
    before = sys.stdout
    with lossy_streams() as losses:
        assert sys.stdout is before
        sys.stdout.write("said\n")
    assert (capsys.readouterr().out, losses.reason) == ("said\n", "")


@pytest.mark.parametrize("arguments", [["--help"], ["policy", "http://127.0.0.1:1", "m", "--json"]])
def test_a_result_that_cant_be_written_is_a_failure_in_plain_words(arguments: list[str]) -> None:
    """Whether it is text or a document."""
    with full() as number:
        done = subprocess.run(
            [*COMMAND, *arguments], stdout=number, stderr=subprocess.PIPE, text=True, timeout=WITHIN_S, check=False
        )
    assert done.returncode == 1
    assert re.fullmatch(
        r"Error: standard output can't be written \(.+\): send it to where there is room\n", done.stderr
    )


@pytest.mark.parametrize(("arguments", "code"), [(["--version"], 0), (["nonsense"], 2)])
def test_an_error_that_cant_be_told_changes_no_exit_code(arguments: list[str], code: int) -> None:
    """It tells the same."""
    with full() as number:
        done = subprocess.run(
            [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=number, timeout=WITHIN_S, check=False
        )
    assert done.returncode == code


def test_a_reader_that_wants_no_more_leaves_the_exit_code_as_it_is() -> None:
    """Of a command that failed, too."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [*COMMAND, "policy", "nonsense", "m", "--json"],
            stdout=writing,
            stderr=subprocess.PIPE,
            timeout=WITHIN_S,
            check=False,
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (2, b"")


def test_a_server_that_can_tell_nothing_serves_and_stops_well() -> None:
    """Its log and its last words are lost, and nothing else."""
    with full() as number:
        server = subprocess.Popen(
            [*COMMAND, "serve", "demo:null", "--port", "0"], stdout=subprocess.PIPE, stderr=number, text=True
        )
    try:
        assert server.stdout is not None
        found = re.search(r"http://[\d.]+:\d+", server.stdout.readline())
        assert found is not None
        server.stdout.close()  # what it would say from now on
        with urllib.request.urlopen(f"{found[0]}/v2/health/live", timeout=WITHIN_S) as answer:
            assert answer.status == 200
        server.send_signal(signal.SIGTERM)
        assert server.wait(WITHIN_S) == 0
    finally:
        server.kill()
        server.wait(WITHIN_S)
