"""A server under test: started, watched and stopped with every process that it starts.

All of them inherit a session and a variable of the environment that nobody else has: a daemon that cut itself loose
from its parent is found by the variable, a process that writes its title over its environment by the session.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import uuid
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

MARK = "SERVER_UNDER_TEST"
STOP_LIMIT_S = 10.0


class Server:
    """A running server.

    Args:
        process: that was started.
        mark: what the environment of all its processes holds.
    """

    def __init__(self, process: subprocess.Popen[bytes], mark: str) -> None:
        self._process = process
        self._mark = mark

    def running(self) -> bool:
        """Tell whether the process that was started still runs."""
        return self._process.poll() is None

    def processes(self) -> list[psutil.Process]:
        """All processes of the server."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if self._is_ours(process) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def _is_ours(self, process: psutil.Process) -> bool:
        return os.getsid(process.pid) == self._process.pid or process.environ().get(MARK) == self._mark

    def cpu_s(self) -> float:
        """CPU seconds that its processes have used so far."""
        total = 0.0
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                total += times.user + times.system
        return total

    def memory_bytes(self) -> int:
        """Memory that it takes: the largest process whole, and of every other one what it shares with none."""
        sizes = []
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                info = process.memory_full_info()
                sizes.append((info.rss, info.uss))
        if not sizes:
            return 0
        largest = max(sizes)
        return largest[0] + sum(uss for _, uss in sizes) - largest[1]

    def stop(self) -> None:
        """Ask it to stop, and end what is left after a while."""
        if self.running():
            self._process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_LIMIT_S)
        left = self.processes()
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(left, timeout=STOP_LIMIT_S)
        self._process.wait()


@contextlib.contextmanager
def running(command: Sequence[str], *, environment: Mapping[str, str], log: Path, cwd: Path) -> Iterator[Server]:
    """Start a server, and stop it at the end.

    Args:
        command: that starts it.
        environment: variables besides ours.
        log: where what it says goes.
        cwd: where it runs.
    """
    mark = uuid.uuid4().hex
    with log.open("wb") as said:
        process = subprocess.Popen(
            command,
            stdout=said,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=os.environ | dict(environment) | {MARK: mark},
            cwd=cwd,
            start_new_session=True,
        )
    server = Server(process, mark)
    try:
        yield server
    finally:
        server.stop()
