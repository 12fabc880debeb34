"""Replicas on a real Ray, started here: one small cluster on loopback for all of these tests."""

from __future__ import annotations

import asyncio
import functools
import importlib
import socket
import threading
import time
import urllib.error
import urllib.request
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import psutil
import pytest

from carpool.config.settings import RaySettings, load_settings
from carpool.serve.build import build_served
from carpool.serve.ray.deploy import APPLICATION, MODELS, CannotDeploy, connected, deploy, take_down
from carpool.serve.ray.replica import open_offer
from tests.serve.fakes import Client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray's own, of the packages that it uses

LIMIT_S = 60.0
KILLS, WAITS, SLOW = 13.0, 14.0, 15.0
MODEL = """
import os, pathlib, time
import numpy as np

here = pathlib.Path(__file__).parent

class Model:
    examples = [np.zeros(2, np.float32)]

    def __call__(self, batch):
        firsts = [float(row[0]) for row in batch]
        if 13.0 in firsts and not (here / "killed").exists():
            (here / "killed").touch()
            os.kill(os.getpid(), 9)
        while 14.0 in firsts and not (here / "gate").exists():
            (here / "waiting").touch()
            time.sleep(0.01)
        time.sleep(0.25 if 15.0 in firsts else 0.05)
        return [np.array([2 * first, os.getpid(), len(batch)]) for first in firsts]

double = Model()

def broken(batch):
    raise RuntimeError("broken as it is meant to be")

broken.examples = [np.zeros(2, np.float32)]
"""


@pytest.fixture(scope="module", autouse=True)
def _cluster() -> Iterator[None]:
    """Connect to a Ray of two CPUs, started here."""
    with connected(RaySettings()):
        serve: Any = importlib.import_module("ray.serve")  # has types in part only
        yield
        serve.shutdown()


@pytest.fixture(scope="module")
def port() -> int:
    """Find a port: Ray Serve keeps to the first one that it is told."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def flags(tmp_path: Path, port: int) -> dict[str, Any]:
    """Serve a model from a file, in batches of up to four."""
    (tmp_path / "model.py").write_text(MODEL, encoding="utf-8")
    return {
        "model.target": f"{tmp_path / 'model.py'}:double",
        "model.name": "double",
        "policy.max_batch_size": 4,
        "server.port": port,
        "server.drain_timeout": "20s",
    }


@contextmanager
def deployed(flags: dict[str, Any], **ray_settings: Any) -> Iterator[str]:
    """Have replicas up for a while, and give their address."""
    from ray import serve

    target = flags["model.target"]
    build = functools.partial(open_offer, target, flags=flags, environ={}, directory="/")
    url = deploy(build, RaySettings(num_cpus=0.1, **ray_settings), load_settings(flags=flags).server)
    try:
        yield url
    finally:
        serve.delete(APPLICATION)


@asynccontextmanager
async def session(url: str) -> AsyncIterator[Callable[[float], Any]]:
    """Give a function that asks for one row, and returns the status and the three numbers of the answer."""
    async with aiohttp.ClientSession(url) as client:

        async def ask(first: float) -> tuple[int, list[float]]:
            async with client.post("/v2/models/double/infer", json=document(first)) as response:
                body = await response.json()
                return response.status, body["outputs"][0]["data"] if response.status == 200 else body

        yield ask


def document(first: float) -> dict[str, Any]:
    """Ask for one row."""
    return {"inputs": [{"name": "input", "shape": [1, 2], "datatype": "FP32", "data": [first, 0.0]}]}


def listening() -> list[tuple[str, str]]:
    """Tell which processes of the cluster listen, and on which address."""
    found = [
        (process.name(), str(connection.laddr[0]))
        for process in psutil.Process().children(recursive=True)
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert any("ServeRepli" in name for name, _ in found), found
    return found


def refuses(url: str) -> bool:
    """Tell whether whoever comes now is refused."""
    try:
        with urllib.request.urlopen(f"{url}/v2/health/live", timeout=LIMIT_S):
            return False
    except urllib.error.HTTPError as error:
        return error.code == 503


def num_running() -> int:
    """Count the replicas that take requests."""
    from ray import serve

    status: Any = serve.status()
    return int(status.applications[APPLICATION].deployments[MODELS].replica_states.get("RUNNING", 0))


async def test_answers_are_those_of_a_single_process_and_reach_this_machine_alone(flags: dict[str, Any]) -> None:
    """Several clients, several replicas, one answer: bodies and statuses, of what succeeds and of what does not.

    Not the way in, not a replica (which unpickles what it is sent), and no process of the cluster listens elsewhere.
    """
    served = build_served(load_settings(flags=flags))
    served.start()
    single = Client(served)
    with deployed(flags, num_replicas=2) as url:
        async with aiohttp.ClientSession(url) as client:
            for method, path, body in (
                ("GET", "/v2/models/double", None),
                ("POST", "/v2/models/double/infer", {"inputs": []}),
                ("POST", "/v2/models/nobody/infer", document(1.0)),
                ("POST", "/v1/embeddings", {"model": "double", "input": "a text"}),
                ("GET", "/nowhere", None),
            ):
                expected = await (single.post(path, body) if body else single.get(path))
                async with client.request(method, path, json=body) as response:
                    assert (response.status, await response.read()) == (expected.status, expected.body)
                    assert len(response.headers.getall("x-request-id")) == 1
        async with session(url) as ask:
            answers = await asyncio.gather(*(ask(float(first)) for first in range(100, 148)))
        assert {host for _, host in listening()} <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}, listening()
    served.close(5.0)
    assert [(status, row[0]) for status, row in answers] == [(200, 2.0 * first) for first in range(100, 148)]
    largest = {pid: max(row[2] for _, row in answers if row[1] == pid) for pid in {row[1] for _, row in answers}}
    assert len(largest) == 2, "both replicas take part"
    assert all(size > 1 for size in largest.values()), "and each forms batches of its own"


async def test_a_killed_replica_loses_no_request(flags: dict[str, Any]) -> None:
    """One is killed in the midst of a batch: whoever was in it, or waited behind it, is answered by the other."""
    with deployed(flags, num_replicas=2) as url:
        async with session(url) as ask:
            firsts = [KILLS, *(float(first) for first in range(100, 124))]
            answers = await asyncio.gather(*(ask(first) for first in firsts))
    assert [(status, row[0]) for status, row in answers] == [(200, 2.0 * first) for first in firsts]


async def test_taking_it_down_answers_what_was_accepted(flags: dict[str, Any], tmp_path: Path) -> None:
    """Requests that wait and run when the replicas are asked to stop get their answers; who comes then is refused."""
    with deployed(flags) as url:
        async with session(url) as ask:
            asking = [asyncio.ensure_future(ask(first)) for first in (WAITS, 1.0, 2.0, 3.0, 4.0, 5.0)]
            await until((tmp_path / "waiting").exists)
            stopping = asyncio.ensure_future(asyncio.to_thread(take_down, 20.0))
            await until(lambda: refuses(url))
            (tmp_path / "gate").touch()
            answers = await asyncio.gather(*asking)
            assert await stopping, "it says that all was answered"
    assert [(status, row[0]) for status, row in answers] == [(200, 2 * first) for first in (14.0, 1, 2, 3, 4, 5)]


async def test_replicas_come_with_a_predicted_delay_and_go_with_it(flags: dict[str, Any]) -> None:
    """A queue that is predicted to take too long brings a second one up; once nothing comes it goes."""
    wishes = {"max_replicas": 2, "target_delay_s": 0.05, "up_after_s": 0.0, "down_after_s": 0.0}
    with deployed(flags, **wishes) as url:
        assert num_running() == 1
        async with session(url) as ask:
            over = threading.Event()

            async def load() -> None:
                while not over.is_set():
                    assert (await ask(SLOW))[0] == 200

            clients = [asyncio.ensure_future(load()) for _ in range(48)]
            try:
                await until(lambda: num_running() == 2)
            finally:
                over.set()
            await asyncio.gather(*clients)
        await until(lambda: num_running() == 1)


def test_a_model_that_can_not_be_loaded_is_told_with_its_reason(flags: dict[str, Any], tmp_path: Path) -> None:
    """What the replicas failed by reaches who deploys, in one line."""
    broken = {**flags, "model.target": f"{tmp_path / 'model.py'}:broken"}
    with pytest.raises(CannotDeploy, match="broken as it is meant to be") as raised, deployed(broken):
        pass
    assert "\n" not in str(raised.value)


def test_an_address_that_ray_serve_does_not_listen_on_is_not_promised(flags: dict[str, Any]) -> None:
    """Ray Serve runs already, elsewhere: the remedy is told."""
    with pytest.raises(CannotDeploy, match=r"runs already .* --port"), deployed({**flags, "server.port": 0}):
        pass


async def until(holds: Callable[[], bool]) -> None:
    """Wait for something to hold; a test that waits too long fails."""
    give_up_at = time.monotonic() + LIMIT_S
    while not await asyncio.to_thread(holds):
        assert time.monotonic() < give_up_at, "it never came to hold"
        await asyncio.sleep(0.05)
