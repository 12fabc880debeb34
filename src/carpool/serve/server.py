"""The process that serves: a socket, models that load behind it, and a clean stop."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import gc
import importlib.util
import signal
import socket
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from carpool.errors import CarpoolError
from carpool.serve.access import Access
from carpool.serve.http.limits import Limits
from carpool.serve.http.listener import Listener

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator, Sequence

    from carpool.serve.http.routing import Router
    from carpool.serve.http.shared import Watcher

# The thread that runs batches and the one that serves the network take turns with the interpreter. At Python's own 5 ms
# a request waits that long while a batch is prepared.
SWITCH_INTERVAL_S = 0.0005
# Requests leave no cycles behind, and hundreds of them wait at a time: Python's own 700 would have the collector look
# through those every few requests.
_GC_THRESHOLD = 10_000
_SPARE_FILES = 128  # besides connections: sockets, logs, models
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class CannotListen(CarpoolError):
    """The address is not to be had."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """A socket that is bound, and the address that clients use.

    Args:
        socket: bound, not yet accepting.
        url: such as `http://host:port`.
    """

    socket: socket.socket
    url: str


def listen(host: str, port: int, *, option: str = "--port", scheme: str = "http") -> Listening:
    """Take an address before anything heavy begins.

    Args:
        host: a name or an address of this machine.
        port: 0 for any free one.
        option: what gives another port, for messages.
        scheme: how the URL begins.

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
        remedy = f"stop what uses it, or give another by {option} (0 takes a free one)"
        raise CannotListen(f"can't listen on {host} port {port} ({reason}): {remedy}") from None
    shown = f"[{host}]" if family == socket.AF_INET6 else host
    return Listening(socket=bound, url=f"{scheme}://{shown}:{bound.getsockname()[1]}")


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


class Models(Protocol):
    """What is served, as far as the process that serves it knows."""

    def start(self) -> None:
        """Load what is to answer; called once, on a thread."""

    def close(self, timeout_s: float) -> None:
        """Finish what was accepted, for so long, and let all go."""


class Beside(Protocol):
    """Another server beside the one for HTTP, on the same event loop."""

    async def start(self) -> None:
        """Answer from now on."""

    async def drain(self, timeout_s: float) -> bool:
        """Take nothing new, answer what was accepted within that time, and tell whether all was."""

    def hurry(self) -> None:
        """Wait no longer for what was accepted."""


class _Stop:
    """Whether, since when and how urgently the server was asked to stop."""

    def __init__(self, drain_timeout_s: float) -> None:
        self._drain_timeout_s = drain_timeout_s
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asked_at: float | None = None
        self._hurries = False
        self.listeners: Sequence[Listener | Beside] = ()
        self.wanted = asyncio.Event()
        self.is_over = False  # what is left is to let the models go

    def signalled(self, *_: object) -> None:
        """Stop on the first signal; on a second one, without waiting for what was accepted."""
        if self.is_over:
            raise KeyboardInterrupt
        self._hurries = self._asked_at is not None
        self._asked_at = self._asked_at or time.monotonic()
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._pass_on)

    def listen_in(self, listeners: Sequence[Listener | Beside]) -> None:
        """Have the loop that runs now, and what listens on it, told of signals."""
        self._loop, self.listeners = asyncio.get_running_loop(), listeners
        if self._asked_at is not None:
            self._pass_on()

    def _pass_on(self) -> None:
        self.wanted.set()
        if self._hurries:
            for listener in self.listeners:
                listener.hurry()

    @property
    def left_s(self) -> float:
        """How much of the time to finish is left since it was asked to stop."""
        if self._hurries or self._asked_at is None:
            return 0.0
        return max(0.0, self._asked_at + self._drain_timeout_s - time.monotonic())


def run_server(
    router: Router,
    models: Models,
    listening: Listening,
    *,
    drain_timeout_s: float,
    on_ready: Callable[[], None],
    limits: Limits | None = None,
    access: Access | None = None,
    tls: ssl.SSLContext | None = None,
    beside: Beside | None = None,
    watcher: Watcher | None = None,
) -> Ending:
    """Serve until SIGTERM or Ctrl-C, then finish what was accepted.

    A model that still loads, or runs what has been given up, is not waited for: its thread is left to itself.

    Args:
        router: finds the endpoints; they answer at once.
        models: loaded behind them, and closed at the end.
        listening: where.
        drain_timeout_s: how long accepted requests may take to finish once asked to stop.
        on_ready: called once the models answer.
        limits: what clients may do; None for the usual.
        access: says whose a request is; None lets everybody in.
        tls: encrypts the connections; None leaves them plain.
        beside: another server, which answers as long as this one does.
        watcher: is told of every request.

    Raises:
        CarpoolError: the models can't be loaded.
    """
    before, threshold = sys.getswitchinterval(), gc.get_threshold()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    known = limits or Limits()
    allow_open_files(known.max_connections + _SPARE_FILES)
    stop = _Stop(drain_timeout_s)
    with _stopping_on_signals(stop):
        try:
            with asyncio.Runner(loop_factory=_loop_factory()) as runner:
                listener = Listener(router, limits=known, access=access or Access(), tls=tls, watcher=watcher)
                return runner.run(_serve(listener, beside, stop, models, listening=listening, on_ready=on_ready))
        finally:
            gc.unfreeze()
            gc.set_threshold(*threshold)
            sys.setswitchinterval(before)
            listening.socket.close()
            stop.is_over = True
            with contextlib.suppress(KeyboardInterrupt):
                models.close(stop.left_s)


def allow_open_files(num_files: int) -> None:
    """Raise the limit of open files as far as needed and permitted: each connection is one.

    Args:
        num_files: how many are wanted.
    """
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = num_files if hard == resource.RLIM_INFINITY else min(num_files, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if importlib.util.find_spec("uvloop") is None:
        return None
    import uvloop

    return uvloop.new_event_loop


async def _serve(
    listener: Listener,
    beside: Beside | None,
    stop: _Stop,
    models: Models,
    *,
    listening: Listening,
    on_ready: Callable[[], None],
) -> Ending:
    await listener.start(listening.socket)
    if beside is not None:
        await beside.start()
    listeners = (listener,) if beside is None else (listener, beside)
    stop.listen_in(listeners)
    asked = asyncio.ensure_future(stop.wanted.wait())
    loading = _run_aside(models.start)
    await asyncio.wait((asked, loading), return_when=asyncio.FIRST_COMPLETED)
    is_ready = loading.done() and loading.exception() is None and not asked.done()
    if is_ready:
        # What lives this long lives on: the collector need not look through it while requests wait.
        gc.collect()
        gc.freeze()
        gc.set_threshold(_GC_THRESHOLD)
        on_ready()
        await asked
    asked.cancel()
    drained = await asyncio.gather(*(one.drain(stop.left_s) for one in listeners))
    if loading.done():
        loading.result()
    if not is_ready:
        return Ending.EARLY
    return Ending.ANSWERED if all(drained) else Ending.CUT_SHORT


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
def _stopping_on_signals(stop: _Stop) -> Iterator[None]:
    before = {number: signal.signal(number, stop.signalled) for number in _STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
