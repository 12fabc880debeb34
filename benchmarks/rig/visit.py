"""One visit: start one server, see that it answers right, measure it under every load, stop it; print JSON.

    python -m rig.visit SERVER WORKLOAD --seconds 4 --expected FILE.npy --rates 1800,7200 [--alone]

With --alone it has the network to itself (it is started in a network namespace of its own): a server that listens on
every address, whatever it is told, is then reached by nobody else.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import json
import socket
import struct
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rig.contenders import CONTENDERS, LOOPBACK, Contender
from rig.loads import closed_loop, open_loop
from rig.processes import Server, running
from rig.wire import WireSender
from rig.workloads import WORKLOADS, Workload

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

START_LIMIT_S = 120.0
LOOK_EVERY_S = 0.02
SETTLE_S = 1.0
SET_INTERFACE_FLAGS = 0x8914  # SIOCSIFFLAGS of Linux
UP_AND_RUNNING = 0x1 | 0x40


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A server that runs.

    Args:
        contender: what it is.
        workload: what it serves.
        server: its processes.
        port: where it listens.
        counts: the file in which its model counts.
        bodies: of requests.
        file: the same, one a line.
    """

    contender: Contender
    workload: Workload
    server: Server
    port: int
    counts: Path
    bodies: list[bytes]
    file: Path

    @property
    def url(self) -> str:
        """Where requests go."""
        return f"http://{LOOPBACK}:{self.port}{self.contender.path(self.workload)}"


def bring_up_loopback() -> None:
    """Switch the loopback interface on: in a new network namespace it is off."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, SET_INTERFACE_FLAGS, struct.pack("16sH14x", b"lo", UP_AND_RUNNING))


def free_port() -> int:
    """Find a port that nobody listens on, nor on the next two."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


async def ask_first(subject: Subject) -> None:
    """Send one request, and wait for its answer."""
    sender = WireSender(subject.url, subject.bodies[:1])
    async with asyncio.timeout(10):
        await sender.fetch(0)


def wait_until_ready(subject: Subject, started_at: float, log: Path) -> float:
    """Ask until the first answer comes; return the seconds since the server was started.

    Raises:
        RuntimeError: the server ended, or none came in time.
    """
    error: Exception = TimeoutError("nothing was asked")
    while (waited_s := time.perf_counter() - started_at) < START_LIMIT_S:
        try:
            asyncio.run(ask_first(subject))
        except (OSError, TimeoutError) as raised:
            error = raised
        else:
            return time.perf_counter() - started_at
        if not subject.server.running():
            break
        time.sleep(LOOK_EVERY_S)
    last_words = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
    message = f"{subject.contender.label} gave no answer in {waited_s:.0f} s ({error}); its last words:\n{last_words}"
    raise RuntimeError(message)


def check_answers(subject: Subject, expected: NDArray[np.float32]) -> None:
    """See that clients that ask at the same time each get the answer to their own question.

    Raises:
        RuntimeError: one did not.
    """
    sender = WireSender(subject.url, subject.bodies)

    async def ask() -> list[bytes]:
        return await asyncio.gather(*(sender.fetch(index) for index in range(len(expected))))

    for index, body in enumerate(asyncio.run(ask())):
        got = subject.contender.answer(json.loads(body))
        if not subject.workload.is_answer(got, expected[index]):
            message = f"{subject.contender.label} gave {got[:4]} where {expected[index][:4]} is right"
            raise RuntimeError(message)


def measure_row(subject: Subject, connections: int, seconds: float) -> dict[str, Any]:
    """Measure one closed loop, after a moment of the same load."""
    closed_loop(subject.url, subject.file, connections=connections, seconds=SETTLE_S)
    batches_before, items_before = subject.contender.counts(subject.port, subject.counts)
    cpu_before_s = subject.server.cpu_s()
    found = closed_loop(subject.url, subject.file, connections=connections, seconds=seconds)
    cpu_s = subject.server.cpu_s() - cpu_before_s
    batches, items = subject.contender.counts(subject.port, subject.counts)
    return {
        "connections": connections,
        "rate": found.rate,
        "p50_ms": found.p50_ms,
        "p99_ms": found.p99_ms,
        "mean_batch": (items - items_before) / max(1, batches - batches_before),
        "cpu_us": 1e6 * cpu_s / max(1, found.num),
        "num_failed": found.num_failed,
    }


def measure_open(subject: Subject, rates: Sequence[float], seconds: float) -> list[dict[str, Any]]:
    """Measure open loops of rising rates, up to one that the server can't follow."""
    found: list[dict[str, Any]] = []
    for rate in rates:
        if found and found[-1]["share_within"] < 0.5:
            break
        found.append(
            open_loop(subject.url, subject.bodies, rate=rate, seconds=seconds, objective_s=subject.workload.objective_s)
        )
    return found


def visit(
    contender: Contender,
    workload: Workload,
    *,
    seconds: float,
    rates: Sequence[float],
    expected: NDArray[np.float32],
    directory: Path,
) -> dict[str, Any]:
    """Measure one server once.

    Args:
        contender: the server.
        workload: its model.
        seconds: of each row.
        rates: of the open loops.
        expected: right answers to the first items.
        directory: for files.
    """
    counts, log, file = directory / "counts", directory / "log", directory / "bodies"
    counts.write_bytes(bytes(16))
    bodies = [json.dumps(contender.body(workload, item)).encode() for item in workload.items()]
    file.write_bytes(b"\n".join(bodies) + b"\n")
    port = free_port()
    command = contender.command(workload, port)
    started_at = time.perf_counter()
    variables = contender.environment(workload, port, counts)
    with running(command, environment=variables, log=log, cwd=directory) as server:
        subject = Subject(
            contender=contender, workload=workload, server=server, port=port, counts=counts, bodies=bodies, file=file
        )
        ready_s = wait_until_ready(subject, started_at, log)
        memory_bytes = server.memory_bytes()
        check_answers(subject, expected)
        closed_loop(subject.url, file, connections=workload.connections[-1], seconds=workload.warm_s)
        rows = [measure_row(subject, connections, seconds) for connections in workload.connections]
        check_answers(subject, expected)
        opened = measure_open(subject, rates, seconds)
    return {"ready_s": ready_s, "memory_mib": memory_bytes / 2**20, "rows": rows, "open": opened}


def main() -> None:
    """Make one visit."""
    parser = argparse.ArgumentParser(description="Measure one server once.")
    parser.add_argument("server", choices=CONTENDERS)
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--rates", type=lambda text: [float(rate) for rate in text.split(",")], required=True)
    parser.add_argument("--expected", type=Path, required=True)
    parser.add_argument("--alone", action="store_true")
    arguments = parser.parse_args()
    if arguments.alone:
        bring_up_loopback()
    with tempfile.TemporaryDirectory() as directory:
        found = visit(
            CONTENDERS[arguments.server],
            WORKLOADS[arguments.workload],
            seconds=arguments.seconds,
            rates=arguments.rates,
            expected=np.load(arguments.expected),
            directory=Path(directory),
        )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
