"""The way in and the replica behind it, in one process: answers as from a single server, and replicas that are lost."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from carpool.core import Policy
from carpool.errors import CarpoolError
from carpool.models.target import wrap
from carpool.serve.faults import Fault
from carpool.serve.http.asgi import as_asgi
from carpool.serve.http.limits import Limits
from carpool.serve.offer import Offer
from carpool.serve.ray.autoscale import DELAY, LOAD
from carpool.serve.ray.front import Front, unnamed
from carpool.serve.ray.replica import Answered, Asked, Replica, open_offer
from carpool.serve.served import Served
from tests.serve.fakes import Answer, Client, Doubler

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

MAX_BODY_BYTES = 4096
ROW = {"inputs": [{"name": "input", "shape": [1, 2], "datatype": "FP32", "data": [1.0, 2.0]}]}


class Lost(Exception):
    """A replica died."""


def doubler() -> Served:
    """Put a model that doubles behind a batcher."""
    return Served(wrap(Doubler()), name="double", policy=Policy(max_batch_size=8))


@pytest.fixture
def replica() -> Iterator[Replica]:
    """One replica with a model of its own."""
    made = Replica(lambda: Offer.of(doubler()), drain_timeout_s=5.0, max_body_bytes=MAX_BODY_BYTES)
    yield made
    made.close()


@pytest.fixture
def single() -> Iterator[Client]:
    """The same model in a single process."""
    served = doubler()
    served.start()
    yield Client(served, max_body_bytes=MAX_BODY_BYTES)
    served.close(5.0)


def front(ask: Callable[[Asked], Awaitable[Answered]]) -> Client:
    """Speak to a way in that asks so."""
    client = Client(doubler())
    limits = Limits(max_body_bytes=MAX_BODY_BYTES)
    client.app = unnamed(as_asgi(Front(ask, lost=(Lost,)), limits=limits))
    return client


def seen(answer: Answer) -> tuple[int, dict[str, str], bytes]:
    """What a client sees of an answer; when models were made differs."""
    headers = {name: value for name, value in answer.headers.items() if name != "x-request-id"}
    return answer.status, headers, answer.body


REQUESTS = {
    "an inference": ("POST", "/v2/models/double/infer", ROW),
    "one that the model refuses": ("POST", "/v2/models/double/infer", {
        "inputs": [{"name": "input", "shape": [1, 2], "datatype": "FP32", "data": [-1.0, 2.0]}]
    }),
    "one that fails": ("POST", "/v2/models/double/infer", {
        "inputs": [{"name": "input", "shape": [1, 2], "datatype": "FP32", "data": [13.0, 2.0]}]
    }),
    "no JSON": ("POST", "/v2/models/double/infer", b"{"),
    "too large a body": ("POST", "/v2/models/double/infer", b" " * (MAX_BODY_BYTES + 1)),
    "an unknown model": ("POST", "/v2/models/nobody/infer", ROW),
    "an unknown path": ("GET", "/nowhere", b""),
    "the wrong method": ("GET", "/v2/models/double/infer", b""),
    "metadata": ("GET", "/v2/models/double", b""),
    "readiness": ("GET", "/v2/health/ready", b""),
    "embeddings of what embeds nothing": ("POST", "/v1/embeddings", {"model": "double", "input": "a text"}),
    "too large a body for OpenAI": ("POST", "/v1/embeddings", b" " * (MAX_BODY_BYTES + 1)),
}  # fmt: skip


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
async def test_answers_and_errors_are_those_of_a_single_process(
    replica: Replica, single: Client, request_: tuple[str, str, Any]
) -> None:
    """Status, headers and body, to the byte."""
    method, path, body = request_
    clients = (front(replica.answer), single)
    one, other = [await (client.post(path, body) if method == "POST" else client.get(path)) for client in clients]
    assert seen(one) == seen(other)


async def test_what_the_client_says_reaches_the_replica(replica: Replica) -> None:
    """Query, headers and tenant are passed on; the length and coding of the body are the way in's own affair."""
    asked: list[Asked] = []

    async def ask(one: Asked) -> Answered:
        asked.append(one)
        return await replica.answer(one)

    headers = {"X-Tenant": "team-a", "X-Request-Id": "mine", "Content-Length": "2"}
    await front(ask).send("POST", "/v2/models/double/infer", [b"{}"], headers)
    assert asked[0].path == b"/v2/models/double/infer"
    assert dict(asked[0].headers) == {b"x-tenant": b"team-a", b"x-request-id": b"mine"}


async def test_a_request_whose_replica_is_lost_is_run_once_more(replica: Replica) -> None:
    """The client gets its answer, and knows nothing of it."""
    tries: list[Asked] = []

    async def ask(asked: Asked) -> Answered:
        tries.append(asked)
        if len(tries) == 1:
            raise Lost
        return await replica.answer(asked)

    answer = await front(ask).post("/v2/models/double/infer", ROW)
    assert (answer.status, answer.json["outputs"][0]["data"]) == (200, [2.0, 4.0])
    assert tries[0] == tries[1]


@pytest.mark.parametrize("path", ["/v2/models/double/infer", "/v1/embeddings"])
async def test_a_request_that_loses_two_replicas_is_given_up(path: str) -> None:
    """It may be what kills them: 503 in the way of the protocol, and when to come back."""
    num_tries = 0

    async def ask(_asked: Asked) -> Answered:
        nonlocal num_tries
        num_tries += 1
        raise Lost

    answer = await front(ask).post(path, ROW)
    assert (answer.status, num_tries) == (503, 2)
    assert answer.headers["retry-after"] == "1"
    error = answer.json["error"]
    assert "2 replicas were lost" in (error["message"] if path.startswith("/v1") else error)


async def test_an_error_of_the_model_is_not_tried_again(replica: Replica) -> None:
    """A replica that answers, whatever it answers, has answered."""
    num_tries = 0

    async def ask(asked: Asked) -> Answered:
        nonlocal num_tries
        num_tries += 1
        return await replica.answer(asked)

    _, path, body = REQUESTS["one that fails"]
    assert (await front(ask).post(path, body)).status == 500
    assert num_tries == 1


async def test_a_client_that_leaves_takes_its_request_back() -> None:
    """What the replica does for it is cancelled."""
    asking, cancelled, gone = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def ask(_asked: Asked) -> Answered:
        asking.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        raise AssertionError

    sending = asyncio.ensure_future(front(ask).send("POST", "/v2/models/double/infer", [b"{}"], gone=gone))
    await asking.wait()
    gone.set()
    await sending
    await cancelled.wait()


async def test_a_replica_tells_its_delay_and_load(replica: Replica) -> None:
    """Both are numbers, and nothing waits in an idle one."""
    stats = replica.record_autoscaling_stats()
    assert stats == {DELAY: 0.0, LOAD: 0.0}


def test_a_replica_is_healthy_until_a_model_has_failed(replica: Replica) -> None:
    """Ray replaces it then."""
    replica.check_health()
    [served] = replica._offer.batched()
    served.batcher._dispatcher.fail(CarpoolError("the machine is on fire"))  # type: ignore[union-attr]
    with pytest.raises(Fault, match="on fire"):
        replica.check_health()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v2/repository/models/double/load"),
        ("POST", "/v2/repository/models/double/unload"),
        ("PATCH", "/v2/models/double/policy"),
    ],
)
async def test_what_only_one_replica_would_hear_of_is_refused(method: str, path: str) -> None:
    """Models and policies change for all replicas or for none."""

    async def ask(_asked: Asked) -> Answered:
        raise AssertionError

    answer = await front(ask).send(method, path, [b"{}"])
    assert answer.status == 400
    assert "on Ray" in answer.json["error"]


def test_a_replica_opens_what_the_command_line_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Options, variables and relative paths mean there what they meant where the command was given."""
    monkeypatch.chdir("/")
    (tmp_path / "models.py").write_text("def double(batch):\n    return [2 * item for item in batch]\n")
    offer = open_offer(
        "models.py:double",
        flags={"model.name": "twice"},
        environ={"CARPOOL_POLICY_MAX_BATCH_SIZE": "5"},
        directory=str(tmp_path),
    )
    offer.start()
    [served] = offer.batched()
    offer.close(5.0)
    assert (served.name, served.batcher.policy.max_batch_size) == ("twice", 5)
