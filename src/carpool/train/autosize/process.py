"""Probes in fresh processes: one dies, by the system's hand or ours, and that is an answer."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from carpool.models.blame import writable
from carpool.models.loaded_torch import loaded_torch
from carpool.train.autosize.answer import Answer
from carpool.train.autosize.ran_out import says_out_of_memory
from carpool.units import format_duration, format_sizes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from carpool.train.autosize.source import Source

LOOK_EVERY_S = 0.02
MOST_SAID = 1 << 14
"""Bytes of what a process wrote last that are read."""
IN_A_PROBE = "CARPOOL_IN_A_PROBE"
"""The variable of the environment that a probe's process is known by."""
_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from carpool.train.autosize.child import main; main()"
)


class FreshProcesses:
    """Makes each probe in a process of its own, so that no probe sees what another one left in memory.

    Args:
        source: how a process gets the setup.
        limit_bytes: the most resident memory that a process may hold; it is ended beyond that.
        timing_limit_bytes: the same for the process that times, which keeps what it frees.
        timeout_s: seconds after which it is ended too.
        reserves: hold as much memory beside as the gradients take, as other ranks' are exchanged in.
        memory_of: returns the bytes that a process holds now.
    """

    def __init__(
        self,
        source: Source,
        *,
        limit_bytes: int,
        timing_limit_bytes: int,
        timeout_s: float,
        reserves: bool = False,
        memory_of: Callable[[int], int] | None = None,
    ) -> None:
        self._source = source
        self._limit_bytes, self._timing_limit_bytes = limit_bytes, timing_limit_bytes
        self._timeout_s = timeout_s
        self._reserves = reserves
        self._memory_of = memory_of or _resident_bytes

    def ask(self, size: int) -> Answer:
        """Train with micro-batches of one size.

        Args:
            size: items of a micro-batch.
        """
        return self._run([size], budget_s=0.0, limit_bytes=self._limit_bytes)

    def time(self, sizes: Sequence[int], budget_s: float) -> Answer:
        """Time micro-batches of several sizes.

        Args:
            sizes: items; they must fit.
            budget_s: seconds to measure for.
        """
        return self._run(sizes, budget_s=budget_s, limit_bytes=self._timing_limit_bytes)

    def _run(self, sizes: Sequence[int], *, budget_s: float, limit_bytes: int) -> Answer:
        with tempfile.TemporaryDirectory(prefix="carpool_", ignore_cleanup_errors=True) as place:
            answer, said = Path(place) / "answer.json", Path(place) / "said.txt"
            asked = {
                **asdict(self._source),
                "sizes": list(sizes),
                "budget_s": budget_s,
                "reserves": self._reserves,
                "num_threads": _num_threads(),
                "answer": str(answer),
            }
            with said.open("wb") as log:
                process = _start(asked, log)
                try:
                    ended = self._watch(process, limit_bytes, self._timeout_s + 2.0 * budget_s)
                finally:
                    _end(process)
            if ended is not None:
                return ended
            return _read(answer) if answer.exists() else how_it_died(process.returncode, _last_of(said))

    def _watch(self, process: subprocess.Popen[bytes], limit_bytes: int, timeout_s: float) -> Answer | None:
        """Wait for a process, and say why it must end before it has answered."""
        until = time.monotonic() + timeout_s
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(LOOK_EVERY_S)
                return None
            held = self._memory_of(process.pid)
            if held > limit_bytes:
                text = f"{' held and rising, '.join(format_sizes(held, limit_bytes))} allowed"
                return Answer(cause="memory", error=text)
            if time.monotonic() > until:
                text = f"not done within {format_duration(timeout_s)}: raise timeout_s to wait longer"
                return Answer(cause="time", error=text)


def _start(asked: Mapping[str, Any], log: IO[bytes]) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(  # noqa: S603 - this very interpreter, and code of our own
        [sys.executable, "-c", _START, json.dumps([str(place) for place in sys.path])],
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=log,
        env=alone(os.environ) | {IN_A_PROBE: "1"},
        start_new_session=True,  # Ctrl-C is for the parent, which ends this process and all that it started
    )
    assert process.stdin is not None, "it was started with a pipe"
    with contextlib.suppress(OSError):  # a process that is gone already is found so by the watch
        process.stdin.write(json.dumps(asked).encode() + b"\n")
        process.stdin.flush()
    return process


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and those that it started, such as a loader's workers."""
    with contextlib.suppress(OSError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    with contextlib.suppress(OSError):
        assert process.stdin is not None, "it was started with a pipe"
        process.stdin.close()
    process.wait()


def alone(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process that is to be the only rank, whatever this one is.

    Args:
        environ: of this process.

    >>> alone({"HOME": "/root", "RANK": "3"})["RANK"]
    '3'
    >>> alone({"RANK": "3", "WORLD_SIZE": "8", "TORCHELASTIC_RUN_ID": "x", "MASTER_PORT": "1"})["RANK"]
    '0'
    """
    if "WORLD_SIZE" not in environ:
        return dict(environ)
    kept = {name: value for name, value in environ.items() if not name.startswith("TORCHELASTIC_")}
    only = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1", "GROUP_RANK": "0", "GROUP_WORLD_SIZE": "1"}
    return {**kept, **only, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _num_threads() -> int:
    """Threads of one operation, where this process has chosen; 0 where PyTorch is not loaded."""
    torch = loaded_torch()
    return 0 if torch is None else int(torch.get_num_threads())


def _read(path: Path) -> Answer:
    said = json.loads(path.read_text(encoding="utf-8"))
    said["passes_s"] = tuple((size, tuple(seconds)) for size, seconds in said["passes_s"])
    said["updates_s"] = tuple(said["updates_s"])
    return on_the_cpu(Answer(**said))


def on_the_cpu(answer: Answer) -> Answer:
    """Refuse steps that were made elsewhere: what they need of this machine's memory says nothing.

    Args:
        answer: of a process.
    """
    if answer.device in {"", "cpu"}:
        return answer
    return Answer(cause="asked", error=f"the model is on {answer.device}, and device is 'cpu': leave device out")


def how_it_died(code: int, said: str) -> Answer:
    """Say how a process ended; killed by the system means, as good as always, for want of memory.

    Args:
        code: that it ended with; negative for a signal.
        said: what it wrote last.
    """
    last = next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "")
    if code < 0:
        name = signal.Signals(-code).name
        how, is_memory = f"the process was killed ({name})", name == "SIGKILL" or says_out_of_memory(said)
    else:
        how, is_memory = f"the process ended with exit code {code}", says_out_of_memory(said)
    return Answer(cause="memory" if is_memory else "model", error=f"{how}: {writable(last)}" if last else how)


def _last_of(path: Path) -> str:
    content = path.read_bytes()
    return content[-MOST_SAID:].decode("utf-8", "replace")


def _resident_bytes(pid: int) -> int:
    import psutil

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except (psutil.Error, OSError):
        return 0
