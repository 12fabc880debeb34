"""Runs ``carpool serve`` as users do, in a process of its own."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

STOP_LIMIT_S = 60


@dataclass(frozen=True, slots=True)
class Running:
    """A server that is ready.

    Args:
        url: its address.
        grpc: its address for gRPC, without a scheme; empty where it speaks none.
        process: what runs it.
    """

    url: str
    grpc: str
    process: subprocess.Popen[str]

    def stop(self) -> int:
        """Ask it to stop, as a service manager does, and give its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_LIMIT_S)


@contextlib.contextmanager
def serving(target: str, *options: str) -> Iterator[Running]:
    """Start a server on a free port, wait until it says that it is ready, and end it when done."""
    carpool = Path(sys.executable).with_name("carpool")
    command = [str(carpool), "serve", target, "--port", "0", "--json", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            document = _document(process)
            yield Running(document["url"], document["grpc"] or "", process)
        finally:
            process.kill()


def _document(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Read the one document that a server prints once it is ready; it ends in a line of its own."""
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if line.rstrip() == "}":
            break
    document: dict[str, Any] = json.loads("".join(lines))
    return document
