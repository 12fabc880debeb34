"""Where a plan is served while it is tried: a process of its own on loopback."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from carpool.config.settings import ServeSettings
from carpool.loadgen.clock import run_in_loop
from carpool.loadgen.discover import discover
from carpool.loadgen.http import JSON_HEADERS
from carpool.models.target import load_target
from carpool.verify.bodies import PlannedBodies
from carpool.verify.server import RunningServer, serving
from carpool.verify.window import drive_alone, drive_stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from carpool.config.settings import ModelSettings
    from carpool.loadgen.generator import Progress
    from carpool.loadgen.http import Requests
    from carpool.plan.stream import Stream
    from carpool.verify.window import Window

MORE_IN_FLIGHT = 256  # requests beside those that the queue may hold


@contextmanager
def on_loopback(file: Path, settings: ServeSettings, profile: Path, *, seed: int) -> Iterator[LoopbackSite]:
    """Serve a plan while the block runs.

    Args:
        file: its carpool.toml.
        settings: what that says.
        profile: whose cost model the server is given.
        seed: of the bodies.

    Raises:
        CarpoolError: the model can't be served, or nothing can be made up that it takes.
    """
    with _length_of(settings.model) as length_of, serving(str(file), "--profile", str(profile)) as server:
        made_up = run_in_loop(discover(server.url, model=None, api="oip", seed=seed, headers=JSON_HEADERS))
        yield LoopbackSite(server, settings, PlannedBodies(made_up, length_of, seed=seed))


@contextmanager
def _length_of(model: ModelSettings) -> Iterator[Callable[[str], int] | None]:
    """Give the model's own count of a text's tokens, or None where its items have no length."""
    assert model.target is not None, "checked with the settings"
    loaded = load_target(model.target, device=model.device, dtype=model.dtype, num_threads=model.num_threads)
    if not loaded.has_length:
        yield None
        return
    loaded.load()
    try:
        yield lambda text: loaded.admit(text).length
    finally:
        loaded.close()


@dataclass(frozen=True, slots=True)
class LoopbackSite:
    """A server of ours on this machine, and what to send it."""

    server: RunningServer
    settings: ServeSettings
    bodies: PlannedBodies

    def requests(self, stream: Stream) -> Requests:
        """Return a request for each item of a stream."""
        return self.bodies.requests(stream)

    def drive_alone(self, requests: Requests, duration_s: float, pauses_s: Sequence[float]) -> Window:
        """Be the only client for a while, resting before each request."""
        return drive_alone(self.server, requests, duration_s=duration_s, pauses_s=pauses_s)

    def drive(self, stream: Stream, requests: Requests, watch: Callable[[Progress], None]) -> Window:
        """Send a stream's requests at its times."""
        policy, num_workers = self.settings.policy, self.settings.model.num_workers or 1
        patience_s = self.settings.server.request_timeout_s
        if stream.patience_s is not None and len(stream):
            patience_s = min(patience_s, float(stream.patience_s.max()))
        return drive_stream(
            self.server,
            requests,
            stream,
            timeout_s=patience_s,
            max_in_flight=policy.max_queue + policy.max_batch_size * num_workers + MORE_IN_FLIGHT,
            watch=watch,
        )
