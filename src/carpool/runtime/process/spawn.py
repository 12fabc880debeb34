"""Starting a worker's process, seeing it end, and saying what it ended of."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from carpool.errors import ConfigError
from carpool.runtime.process import shared
from carpool.runtime.process.channel import Channel

if TYPE_CHECKING:
    from collections.abc import Callable

_OWN_PACKAGES = str(Path(__file__).parents[3])
_PROGRAM = (
    f"import sys; sys.path.append({_OWN_PACKAGES!r}); "
    "from carpool.runtime.process.child import main; main(*map(int, sys.argv[1:]))"
)
_CAN_SHARE = os.name == "posix"  # elsewhere a child inherits no descriptors but its three


class Child:
    """A process that runs a model for this one.

    Args:
        number: of its worker, by which it is named in lists of processes.
        on_death: called on a thread of its own when it has ended, whatever of.
    """

    def __init__(self, number: int, on_death: Callable[[], None]) -> None:
        _refuse_children_of_children()
        self._on_death = on_death
        memory = [shared.create(), shared.create()] if _CAN_SHARE else []
        there = [*memory] or [-1, -1]
        self._process = subprocess.Popen(  # noqa: S603 - this very interpreter, and a program of our own
            [sys.executable, "-c", _PROGRAM, str(os.getpid()), *map(str, there)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=memory,
            # Ctrl-C reaches all processes of a terminal's group; this one must outlive it until the parent has drained.
            start_new_session=True,
        )
        self.channel = self._hold_line([shared.SharedBytes(one) for one in memory])
        self.ended = threading.Event()
        threading.Thread(target=self._see_it_end, name=f"carpool-reaper-{number}", daemon=True).start()

    def _hold_line(self, memory: list[shared.SharedBytes]) -> Channel:
        reader, writer = self._process.stdout, self._process.stdin
        assert reader is not None, "both ends of its pipes are ours"
        assert writer is not None, "both ends of its pipes are ours"
        descriptor = os.dup(writer.fileno())
        writer.close()
        outbox, inbox = memory or (None, None)
        return Channel(cast("BinaryIO", reader), descriptor, inbox=inbox, outbox=outbox)

    @property
    def pid(self) -> int:
        """Its number in the system."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """What it ended with, negative for a signal; None while it runs."""
        return self._process.returncode if self.ended.is_set() else None

    def kill(self) -> None:
        """End it, and every process that it started, at once."""
        if not self.ended.is_set():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                self._process.kill()

    def close(self, timeout_s: float) -> None:
        """Let it end by itself, for so long, and then by force."""
        self.channel.close()
        if not self.ended.wait(timeout_s):
            self.kill()
            self.ended.wait(timeout_s)

    def _see_it_end(self) -> None:
        if hasattr(os, "waitid"):  # its number stays its own until it is waited for in earnest
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)  # what it started: it would keep the pipe open, and run on
        self._process.wait()
        self.ended.set()
        self._on_death()


def _refuse_children_of_children() -> None:
    if "carpool.runtime.process.work" in sys.modules and sys.argv[0] == "-c":
        raise ConfigError(
            "a worker's process can't start worker processes, which the model's file does when it is loaded: "
            "put what it does as a script under `if __name__ == '__main__':`"
        )


_REMEDIES = {
    "SIGKILL": "often the system's out-of-memory killer: see the kernel's log, and give less to a batch "
    "(max_batch_size, memory_limit) or more memory to the machine",
    "SIGSEGV": "native code of the model crashed: its stack is on the server's standard error",
    "SIGABRT": "native code of the model gave up: what it said is on the server's standard error",
    "SIGBUS": "shared memory or a mapped file ended early: see that the memory and the disk are not full",
    "SIGILL": "native code was built for another processor: install a build for this one",
    "SIGFPE": "native code divided by zero: its stack is on the server's standard error",
}


def cause_of_death(exit_code: int) -> str:
    """Say what a process ended of, and what to do.

    Args:
        exit_code: as Python gives it: negative for a signal.

    >>> cause_of_death(3)
    'ended with exit code 3: the model, or a library in it, left the program; let it raise an exception instead'
    """
    if exit_code >= 0:
        left = "the model, or a library in it, left the program; let it raise an exception instead"
        return f"ended with exit code {exit_code}: {left}"
    try:
        name = signal.Signals(-exit_code).name
    except ValueError:
        name = f"signal {-exit_code}"
    return f"was ended by {name}: {_REMEDIES.get(name, 'see what it wrote to the standard error')}"
