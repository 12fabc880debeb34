"""Starts, asks and watches the process in which memory is probed."""

from __future__ import annotations

import base64
import contextlib
import json
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from carpool.errors import ConfigError, ModelError
from carpool.profile.memory import Answer
from carpool.units import format_bytes, format_duration

if TYPE_CHECKING:
    from collections.abc import Callable

    from carpool.profile.shape import Shape

LOOK_EVERY_S = 0.02
END_WITHIN_S = 5.0
_START = "from carpool.profile.probe_child import main; main()"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSource:
    """How another process gets the same model.

    Args:
        target: A TARGET to load; empty where an object is sent.
        pickled: The object, pickled and in base64.
        device: As PyTorch names it; None lets the model choose.
        dtype: None lets the model choose.
        num_threads: None leaves the library's choice.
    """

    target: str = ""
    pickled: str = ""
    device: str | None = None
    dtype: str | None = None
    num_threads: int | None = None


def source_of(
    target: object, *, device: str | None = None, dtype: str | None = None, num_threads: int | None = None
) -> ModelSource:
    """Describe a TARGET, or pickle an object.

    Raises:
        ConfigError: The object can't be pickled; the message names it and the remedy.
    """
    options: dict[str, Any] = {"device": device, "dtype": dtype, "num_threads": num_threads}
    if isinstance(target, str):
        return ModelSource(target=target, **options)
    try:
        return ModelSource(pickled=base64.b64encode(pickle.dumps(target)).decode(), **options)
    except Exception as error:
        name = getattr(target, "__name__", type(target).__name__)
        raise ConfigError(
            f"{name} can't be sent to another process ({type(error).__name__}: {error}), which probing memory needs: "
            "name it as a TARGET, such as file.py:name"
        ) from error


class ProbeProcess:
    """A process that loads the model and runs the shapes it is asked for.

    Args:
        source: How it gets the model.
        seed: Which examples it takes.
        most_items: Items of the largest batch that will be asked for.
        memory_of: Returns the bytes that a process holds now; the system's figure where left out.
    """

    def __init__(
        self, source: ModelSource, *, seed: int, most_items: int, memory_of: Callable[[int], int] | None = None
    ) -> None:
        self._hello = {
            **{name: getattr(source, name) for name in ModelSource.__slots__},
            "seed": seed,
            "most_items": most_items,
            "sys_path": [str(place) for place in sys.path],
        }
        self._memory_of = memory_of or _resident_bytes
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.Queue[str | None] = queue.Queue()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the process, without waiting until it has loaded the model."""
        self._process = subprocess.Popen(  # noqa: S603 - this very interpreter, and code of our own
            [sys.executable, "-c", _START],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            # Ctrl-C is for the parent, which ends this process itself.
            start_new_session=True,
        )
        self._lines = queue.Queue()
        threading.Thread(target=_read, args=(self._process.stdout, self._lines), daemon=True).start()
        self._send(self._hello)

    def wait_until_loaded(self, timeout_s: float) -> None:
        """Wait for the model to be loaded there.

        Raises:
            ModelError: It could not be, or not in time; the message says why.
        """
        if self._process is None:
            self.start()
        reply = self._receive(timeout_s, limit_bytes=None)
        if reply.died or reply.error:
            self.stop()
            raise ModelError(f"the process that probes memory could not load the model: {reply.error}")

    def ask(self, shape: Shape, *, timeout_s: float, limit_bytes: int) -> Answer:
        """Run one shape; a process that died before is replaced by a new one first."""
        until = time.monotonic() + timeout_s
        if self._process is None:
            try:
                self.wait_until_loaded(timeout_s)
            except ModelError as error:
                return Answer(error=str(error), died=True)
        self._send({"batch_size": shape.batch_size, "length": shape.length})
        answer = self._receive(until - time.monotonic(), limit_bytes=limit_bytes)
        if answer.died:
            self.stop()
        return answer

    def stop(self) -> None:
        """End the process, kindly at first."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(OSError):
            if process.stdin is not None:
                process.stdin.close()
        if process.poll() is None:
            process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process is not None, "start() comes before asking"
        assert self._process.stdin is not None, "it was started with a pipe"
        # A process that is gone shows when its answer is awaited.
        with contextlib.suppress(OSError):
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()

    def _receive(self, timeout_s: float, *, limit_bytes: int | None) -> Answer:
        """Wait for a reply; end the process if it takes too long or holds more than the limit."""
        assert self._process is not None, "start() comes before asking"
        until = time.monotonic() + timeout_s
        while True:
            try:
                line = self._lines.get(timeout=LOOK_EVERY_S)
            except queue.Empty:
                ended = self._ended(until, timeout_s, limit_bytes)
                if ended is not None:
                    return ended
                continue
            return self._dead() if line is None else Answer(**json.loads(line))

    def _ended(self, until: float, timeout_s: float, limit_bytes: int | None) -> Answer | None:
        """End the process where it went too far; return what is then to be said."""
        assert self._process is not None, "start() comes before asking"
        held = self._memory_of(self._process.pid) if limit_bytes is not None else 0
        if limit_bytes is not None and held > limit_bytes:
            error = f"passed the limit: {format_bytes(held)} held and rising, {format_bytes(limit_bytes)} allowed"
            return Answer(error=error, out_of_memory=True, died=True)
        if time.monotonic() > until:
            return Answer(error=f"no answer within {format_duration(timeout_s)}; raise --budget", died=True)
        return None

    def _dead(self) -> Answer:
        """Say how the process died; killed by the system means, as good as always, for want of memory."""
        assert self._process is not None, "start() comes before asking"
        code = self._process.wait(END_WITHIN_S)
        if code >= 0:
            return Answer(error=f"the process ended with exit code {code}", died=True)
        name = signal.Signals(-code).name
        return Answer(error=f"the process was killed ({name})", out_of_memory=name == "SIGKILL", died=True)


def _read(stream: Any, lines: queue.Queue[str | None]) -> None:
    """Pass lines on, and None when the other side has gone."""
    with contextlib.suppress(ValueError, OSError):
        for line in stream:
            lines.put(line)
    lines.put(None)


def _resident_bytes(pid: int) -> int:
    import psutil

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except (psutil.Error, OSError):
        return 0
