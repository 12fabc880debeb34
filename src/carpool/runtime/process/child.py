"""Where a worker's process begins: it takes its pipes, and sees to it that it ends with its parent and not before."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING

from carpool.runtime.process.channel import Channel
from carpool.runtime.process.shared import SharedBytes

if TYPE_CHECKING:
    from types import FrameType

_PR_SET_PDEATHSIG = 1
_LOOK_EVERY_S = 1.0


def main(parent: int, inbox: int, outbox: int) -> None:
    """Serve one parent.

    Args:
        parent: its process.
        inbox: descriptor of the shared memory that it writes; -1 for none.
        outbox: descriptor of the shared memory that it reads; -1 for none.
    """
    _end_with(parent)
    _leave_stopping_to_the_parent()
    channel = _take_pipes(inbox, outbox)
    faulthandler.enable()
    with contextlib.suppress(EOFError, BrokenPipeError):
        sys.path[:] = channel.receive()
        from carpool.runtime.process.work import work  # which needs the path of the parent

        work(channel)


def _take_pipes(inbox: int, outbox: int) -> Channel:
    """Take over the standard input and output; what the model prints goes to the standard error instead."""
    reader, writer = os.dup(0), os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    try:
        os.dup2(2, 1)
    except OSError:  # the server has none either
        os.dup2(nowhere, 1)
    os.close(nowhere)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # what is printed before a crash is seen
    for descriptor in (inbox, outbox):
        if descriptor >= 0:
            os.set_inheritable(descriptor, False)  # noqa: FBT003 - its only argument
    shared = [SharedBytes(descriptor) if descriptor >= 0 else None for descriptor in (inbox, outbox)]
    return Channel(os.fdopen(reader, "rb"), writer, *shared)


def _end_with(parent: int) -> None:
    """Let this process be killed when its parent ends, however that ends and whatever runs here then."""
    if sys.platform == "linux":
        # The parent's thread that started this process counts, not the process: it lives as long as this worker.
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    elif os.name == "posix":  # pragma: no cover - a batch that runs for ever would hide the end of the pipe
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    if os.name == "posix" and os.getppid() != parent:  # it ended before that
        os._exit(1)


def _watch(parent: int) -> None:  # pragma: no cover - for systems whose kernel does not see to it
    while os.getppid() == parent:
        time.sleep(_LOOK_EVERY_S)
    os._exit(1)


def _leave_stopping_to_the_parent() -> None:
    """Let Ctrl-C and SIGTERM pass, which reach all processes of a terminal or a service: the parent drains first.

    A process that the model forks heeds them as usual.
    """
    own = os.getpid()

    def pass_over(number: int, _: FrameType | None) -> None:
        if os.getpid() != own:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, pass_over)
