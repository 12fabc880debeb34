"""The process that serves: a socket, a web server, a model that loads behind it, and a clean stop."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import gc
import importlib.util
import math
import signal
import socket
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import uvicorn

from carpool.errors import CarpoolError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from starlette.applications import Starlette

    from carpool.serve.served import Served

# The thread that runs batches and the one that serves the network take turns with the interpreter. At Python's own 5 ms
# a request waits that long while a batch is prepared.
SWITCH_INTERVAL_S = 0.0005
_KEEP_ALIVE_S = 75
_BACKLOG = 2048
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class CannotListen(CarpoolError):
    """The address is not to be had."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """A socket that is bound, and the address that clients use.

    Args:
        socket: bound, not yet accepting.
        url: `http://host:port`.
    """

    socket: socket.socket
    url: str


def listen(host: str, port: int) -> Listening:
    """Take an address before anything heavy begins.

    Args:
        host: a name or an address of this machine.
        port: 0 for any free one.

    Raises:
        CannotListen: it is in use, not this machine's, or not permitted.
    """
    family, address = _resolve(host, port)
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform != "win32":  # where it would let two servers share the port
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        reason = error.strerror or str(error)
        remedy = "stop what uses it, or give another by --port (0 takes a free one)"
        raise CannotListen(f"can't listen on {host} port {port} ({reason}): {remedy}") from None
    shown = f"[{host}]" if family == socket.AF_INET6 else host
    return Listening(socket=bound, url=f"http://{shown}:{bound.getsockname()[1]}")


def _resolve(host: str, port: int) -> tuple[socket.AddressFamily, Any]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        remedy = "use 127.0.0.1, or 0.0.0.0 for every network"
        raise CannotListen(f"the host {host!r} is not known here ({error}): {remedy}") from None
    family, _, _, _, address = found[0]
    return family, address


class Ending(enum.Enum):
    """How a server came to its end."""

    EARLY = "stopped before the model was ready"
    ANSWERED = "stopped: what was accepted has been answered"
    CUT_SHORT = "stopped: some of what was accepted has been given up"


class _Server(uvicorn.Server):
    """uvicorn, with the signals left to us: its own handling ends the process by the signal, not by an exit code."""

    is_ready = False
    is_over = False  # what is left is to let the model go
    gave_up = False
    asked_at: float | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def stop(self, *_: object) -> None:
        """Stop on the first signal; on a second one, without waiting for what was accepted."""
        if self.is_over:
            raise KeyboardInterrupt
        self.asked_at = self.asked_at or time.monotonic()
        self.force_exit = self.should_exit
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See whether anything is left that it stops waiting for."""
        await super().shutdown(sockets)
        self.gave_up = bool(self.server_state.tasks)

    @property
    def ending(self) -> Ending:
        """How it ended."""
        if not self.is_ready:
            return Ending.EARLY
        return Ending.CUT_SHORT if self.gave_up else Ending.ANSWERED

    def left_s(self, drain_timeout_s: float) -> float:
        """Return how much of the time to finish is left since it was asked to stop."""
        if self.force_exit or self.asked_at is None:
            return 0.0
        return max(0.0, self.asked_at + drain_timeout_s - time.monotonic())


def run_server(
    app: Starlette,
    served: Served,
    listening: Listening,
    *,
    drain_timeout_s: float,
    on_ready: Callable[[], None],
) -> Ending:
    """Serve until SIGTERM or Ctrl-C, then finish what was accepted.

    A model that still loads, or runs what has been given up, is not waited for: its thread is left to itself.

    Args:
        app: answers the requests; it is live at once.
        served: the model, which is loaded behind it, and closed at the end.
        listening: where.
        drain_timeout_s: how long accepted requests may take to finish once asked to stop.
        on_ready: called once the model answers.

    Raises:
        CarpoolError: the model can't be loaded.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    server = _server(app, drain_timeout_s)
    with _stopping_on_signals(server):
        try:
            with asyncio.Runner(loop_factory=_loop_factory()) as runner:
                runner.run(_serve(server, served, listening, on_ready))
        finally:
            gc.unfreeze()
            sys.setswitchinterval(before)
            listening.socket.close()
            server.is_over = True
            with contextlib.suppress(KeyboardInterrupt):
                served.close(server.left_s(drain_timeout_s))
    return server.ending


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if importlib.util.find_spec("uvloop") is None:
        return None
    import uvloop

    return uvloop.new_event_loop


def _server(app: Starlette, drain_timeout_s: float) -> _Server:
    config = uvicorn.Config(
        app,
        http="httptools" if importlib.util.find_spec("httptools") else "h11",
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=math.ceil(drain_timeout_s),
    )
    return _Server(config)


async def _serve(server: _Server, served: Served, listening: Listening, on_ready: Callable[[], None]) -> None:
    serving = asyncio.create_task(server.serve(sockets=[listening.socket]))
    loading = _run_aside(served.start)
    await asyncio.wait((serving, loading), return_when=asyncio.FIRST_COMPLETED)
    if loading.done():
        server.should_exit = server.should_exit or loading.exception() is not None
        if not server.should_exit:
            # What lives this long lives on: the collector need not look through it while requests wait.
            gc.collect()
            gc.freeze()
            server.is_ready = True
            on_ready()
    await serving
    if loading.done():
        loading.result()


def _run_aside(load: Callable[[], None]) -> asyncio.Future[None]:
    """Run something on a thread that the end of the process does not wait for: a stop overtakes a load."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def settle(error: CarpoolError | None) -> None:
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    def run() -> None:
        error = None
        try:
            load()
        except CarpoolError as raised:
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop has stopped meanwhile
            loop.call_soon_threadsafe(settle, error)

    threading.Thread(target=run, name="carpool-load", daemon=True).start()
    return done


@contextlib.contextmanager
def _stopping_on_signals(server: _Server) -> Iterator[None]:
    before = {number: signal.signal(number, server.stop) for number in _STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
