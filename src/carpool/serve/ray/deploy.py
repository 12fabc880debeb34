"""Replicas on Ray Serve, and the way in before them; the one module here that knows Ray."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import threading
from typing import TYPE_CHECKING, Any

from carpool.errors import CarpoolError, ConfigError
from carpool.serve.http.asgi import as_asgi
from carpool.serve.http.limits import Limits
from carpool.serve.ray.binding import listen_within_the_cluster
from carpool.serve.ray.door import Door
from carpool.serve.ray.front import Front, refuse, unnamed
from carpool.serve.ray.replica import Answered, Asked, Replica
from carpool.serve.server import Ending

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from carpool.config.settings import RaySettings, ServerSettings
    from carpool.serve.http.asgi import Application
    from carpool.serve.offer import Offer

APPLICATION = "carpool"
MODELS, WAY_IN = "models", "way-in"
_MOST_AT_ONCE = 100_000  # of requests in a replica: what is too much is refused by the batcher's own limit
_LOOK_BACK_S = 3.0
_TELL_EVERY_S = 1.0
_HEALTH_EVERY_S = 5.0
_CONNECT_LIMIT_S = 5.0
_CLOSE_LIMIT_S = 5.0  # beyond the time to drain
_MOST_STARTS = 2  # a model that can't be loaded twice is not to be loaded
_QUIET = {"enable_access_log": False, "log_level": "WARNING"}


class CannotDeploy(CarpoolError):
    """Ray Serve could not bring the models up."""


class _OnRay(Replica):
    """A replica that Ray lets finish before it ends."""

    def __init__(self, build: Callable[[], Offer], *, drain_timeout_s: float, max_body_bytes: int) -> None:
        listen_within_the_cluster()
        super().__init__(build, drain_timeout_s=drain_timeout_s, max_body_bytes=max_body_bytes)

    async def __del__(self) -> None:
        await asyncio.to_thread(self.close)


def serve_on_ray(
    build: Callable[[], Offer],
    ray_settings: RaySettings,
    server: ServerSettings,
    *,
    on_ready: Callable[[str], None],
) -> Ending:
    """Serve on Ray until SIGTERM or Ctrl-C, then let every replica finish what it accepted.

    Args:
        build: makes the models on offer, in each replica anew.
        ray_settings: how many replicas, and where.
        server: where to listen, and for how long to wait.
        on_ready: called with the address once every replica answers.

    Returns:
        How it ended.

    Raises:
        ConfigError: Ray is not installed.
        CannotDeploy: the replicas don't come up.
    """
    stop = threading.Event()
    with connected(ray_settings), _stopping_on_signals(stop):  # in this order: Ray sets handlers of its own
        url = deploy(build, ray_settings, server)
        is_answered = False
        try:
            on_ready(url)
            stop.wait()
        finally:  # Ray Serve itself ends with a cluster that was begun here; on another one it may serve others too
            is_answered = take_down(server.drain_timeout_s)
    return Ending.ANSWERED if is_answered else Ending.CUT_SHORT


@contextlib.contextmanager
def connected(settings: RaySettings) -> Iterator[None]:
    """Be connected to the cluster that is named, or to a new one on this machine, for a while.

    Raises:
        ConfigError: Ray is not installed, or the cluster can't be reached.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if settings.address is None:  # read when Ray is imported, and by all that it starts: a cluster on loopback
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    try:
        import ray
    except ImportError:
        raise ConfigError("serving on Ray needs Ray Serve: run `pip install 'carpool[ray]'`") from None
    where: dict[str, Any] = {"include_dashboard": False}
    if settings.address is not None:
        where = {"address": settings.address}
    try:
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **where)
    except ConnectionError as error:
        remedy = "see that it runs, or leave [ray] address out for one on this machine"
        raise ConfigError(f"the Ray cluster {settings.address} can't be reached ({error}): {remedy}") from None
    try:
        yield
    finally:
        ray.shutdown()


def deploy(build: Callable[[], Offer], ray_settings: RaySettings, server: ServerSettings) -> str:
    """Bring the replicas up, and return the address at which they answer; Ray is connected.

    Args:
        build: makes the models on offer, in each replica anew.
        ray_settings: how many replicas, and of what.
        server: where to listen, and for how long to wait.

    Raises:
        CannotDeploy: a replica fails again and again.
    """
    serve = _serve()
    port = server.port or _free_port(server.host)
    where = {"host": server.host, "port": port, "location": "HeadOnly"}
    serve.start(http_options=where, logging_config=_QUIET)
    _check_listening(server.host, port)
    application: Any = _way_in(server).bind(server.max_body_bytes, _models(build, ray_settings, server))
    try:
        serve.run(application, name=APPLICATION, route_prefix="/")
    except RuntimeError:
        raise CannotDeploy(f"Ray Serve could not bring the models up: {_why_not()}") from None
    return f"http://{server.host}:{port}"


def _check_listening(host: str, port: int) -> None:
    """Refuse to promise an address that Ray Serve did not take, since it ran already with another.

    Raises:
        CannotDeploy: nobody listens there.
    """
    try:
        socket.create_connection((host, port), timeout=_CONNECT_LIMIT_S).close()
    except OSError:
        raise CannotDeploy(
            f"nothing listens on {host} port {port}: Ray Serve runs already on this cluster with an address of its "
            "own, so give that by --host and --port"
        ) from None


def _models(build: Callable[[], Offer], settings: RaySettings, server: ServerSettings) -> Any:
    """Describe the replicas that run the models."""
    deployment = _serve().deployment(
        _OnRay,
        name=MODELS,
        max_ongoing_requests=_MOST_AT_ONCE,
        ray_actor_options={"num_cpus": settings.num_cpus, "num_gpus": settings.num_gpus},
        graceful_shutdown_timeout_s=server.drain_timeout_s,
        graceful_shutdown_wait_loop_s=0.1,
        health_check_period_s=_HEALTH_EVERY_S,
        max_constructor_retry_count=_MOST_STARTS,
        logging_config=_QUIET,
        **_how_many(settings),
    )
    return deployment.bind(build, drain_timeout_s=server.drain_timeout_s, max_body_bytes=server.max_body_bytes)


def _how_many(settings: RaySettings) -> dict[str, Any]:
    if settings.max_replicas is None:
        return {"num_replicas": settings.num_replicas}
    from ray.serve import config

    policy_class: Any = config.AutoscalingPolicy  # its constructor has no types
    policy = policy_class(
        policy_function="carpool.serve.ray.autoscale:ByPredictedDelay",
        policy_kwargs={"target_delay_s": settings.target_delay_s},
    )
    autoscaling = config.AutoscalingConfig(
        min_replicas=settings.min_replicas,
        initial_replicas=settings.num_replicas,
        max_replicas=settings.max_replicas,
        metrics_interval_s=_TELL_EVERY_S,
        look_back_period_s=_LOOK_BACK_S,
        upscale_delay_s=settings.up_after_s,
        downscale_delay_s=settings.down_after_s,
        policy=policy,
    )
    return {"autoscaling_config": autoscaling}


class _WayIn:
    """An application that has the replicas answer, and lets nobody in once it is asked to close."""

    def __init__(self, max_body_bytes: int, models: Any) -> None:
        del models  # bound so that Ray Serve brings the replicas up first
        self._limits = Limits(max_body_bytes=max_body_bytes)

    def __serve_build_asgi_app__(self) -> Application:
        from ray.exceptions import RayActorError

        listen_within_the_cluster()
        models = _serve().get_deployment_handle(MODELS, app_name=APPLICATION)

        async def ask(asked: Asked) -> Answered:
            response: Any = models.answer.remote(asked)
            try:
                answered: Answered = await response
            except asyncio.CancelledError:
                response.cancel()
                raise
            return answered

        front, closed = Front(ask, lost=(RayActorError,)), Front(refuse, lost=())
        self._door = Door(unnamed(as_asgi(front, limits=self._limits)), unnamed(as_asgi(closed, limits=self._limits)))
        return self._door

    async def close(self, timeout_s: float) -> int:
        """Let nobody in any more; return how many requests were not answered in time."""
        return await self._door.close(timeout_s)


def _way_in(server: ServerSettings) -> Any:
    """Describe the way in."""
    return _serve().deployment(
        _serve().ingress(None)(_WayIn),
        name=WAY_IN,
        max_ongoing_requests=_MOST_AT_ONCE,
        ray_actor_options={"num_cpus": 0},
        graceful_shutdown_timeout_s=server.drain_timeout_s,
        graceful_shutdown_wait_loop_s=0.1,
        logging_config=_QUIET,
    )


def take_down(drain_timeout_s: float) -> bool:
    """Answer what was accepted, refuse what comes now, and then end the replicas.

    Args:
        drain_timeout_s: how long what was accepted may take.

    Returns:
        Whether all of it was answered.
    """
    serve = _serve()
    try:
        closing = serve.get_deployment_handle(WAY_IN, app_name=APPLICATION).close.remote(drain_timeout_s)
        num_left = int(closing.result(timeout_s=drain_timeout_s + _CLOSE_LIMIT_S))
    except Exception:  # noqa: BLE001 - the way in is lost, in whatever way, and with it what it held
        num_left = 1
    serve.delete(APPLICATION)
    return not num_left


def _serve() -> Any:
    """Give Ray Serve, whose functions have types in part only."""
    from ray import serve

    logging.getLogger("ray.serve").setLevel(logging.ERROR)  # of this process; replicas log for themselves
    return serve


def _free_port(host: str) -> int:
    """Find a port, since Ray Serve takes no 0 for any."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _why_not() -> str:
    """Find the line in which Ray Serve hands on what a replica raised, which stands at the end of a traceback."""
    deployments = _serve().status().applications[APPLICATION].deployments
    messages: list[str] = [line.strip() for one in deployments.values() for line in one.message.splitlines()]
    raised = [line for line in messages if line.startswith("carpool.")]
    return (raised or [line for line in messages if line] or ["see its logs"])[-1]


@contextlib.contextmanager
def _stopping_on_signals(stop: threading.Event) -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
