"""Models to serve in tests, and an HTTP exchange over ASGI that a test drives step by step."""

from __future__ import annotations

import asyncio
import json
import threading
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from carpool.core import Policy
from carpool.models.target import wrap
from carpool.serve.access import Access
from carpool.serve.app import create_router
from carpool.serve.control import Control
from carpool.serve.http.asgi import as_asgi
from carpool.serve.http.limits import Limits
from carpool.serve.offer import Offer
from carpool.serve.served import Served

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence


class Doubler:
    """Doubles rows of two floats; refuses what is negative, fails on 13, and can be held back by a test."""

    examples = (np.zeros(2, np.float32), np.ones(2, np.float32))
    concurrent = True

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)
        self.seen: list[list[float]] = []

    def check(self, item: Any) -> None:
        """Refuse negative numbers."""
        if np.min(item) < 0:
            message = f"{np.min(item):g} is negative"
            raise ValueError(message)

    def __call__(self, batch: Sequence[Any]) -> list[Any]:
        """Double a batch, once the gate is open."""
        self.entered.release()
        self.gate.wait(30)
        self.seen.extend(row.tolist() for row in batch)
        if any(13.0 in row for row in batch):
            message = "13 brings bad luck"
            raise RuntimeError(message)
        return [2 * row for row in batch]


def embed(texts: list[str]) -> list[Any]:
    """Turn texts into vectors of three numbers."""
    return [np.array([len(text), text.count("a"), 0.1], np.float32) for text in texts]


embed.examples = ["a text", "another"]  # type: ignore[attr-defined]


@dataclass
class Answer:
    """What came back."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def json(self) -> Any:
        """The body, which must be valid JSON."""
        return json.loads(self.body, parse_constant=_no_constant)


def _no_constant(name: str) -> None:
    message = f"{name} is not JSON"
    raise ValueError(message)


class Client:
    """Speaks ASGI to the application of one model, in the same loop, with no socket between."""

    def __init__(self, served: Served, *, max_body_bytes: int = 1 << 20) -> None:
        self.served = served
        self.app = as_asgi(
            create_router(Offer.of(served), control=Control(Access())), limits=Limits(max_body_bytes=max_body_bytes)
        )

    async def get(self, path: str) -> Answer:
        """Send a GET."""
        return await self.send("GET", path)

    async def post(self, path: str, document: Any, headers: Mapping[str, str] | None = None) -> Answer:
        """Send a POST of JSON, or of bytes as they are."""
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        return await self.send("POST", path, [body], headers)

    async def send(
        self,
        method: str,
        path: str,
        parts: Sequence[bytes] = (b"",),
        headers: Mapping[str, str] | None = None,
        gone: asyncio.Event | None = None,
    ) -> Answer:
        """Send a request in parts; the client goes away when `gone` is set."""
        answer = Answer()
        messages = iter(_body_messages(parts))
        left = gone or asyncio.Event()

        async def receive() -> dict[str, Any]:
            message = next(messages, None)
            if message is None:
                await left.wait()
                return {"type": "http.disconnect"}
            return message

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                answer.status = message["status"]
                answer.headers = {key.decode(): value.decode() for key, value in message["headers"]}
            else:
                answer.body += message.get("body", b"")

        await self.app(_scope(method, path, headers or {}), receive, send)
        return answer


def _body_messages(parts: Sequence[bytes]) -> Iterator[dict[str, Any]]:
    for index, part in enumerate(parts):
        yield {"type": "http.request", "body": part, "more_body": index < len(parts) - 1}


def _scope(method: str, path: str, headers: Mapping[str, str]) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "scheme": "http",
        "query_string": b"",
        "headers": [(key.lower().encode(), value.encode()) for key, value in headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
    }


def offer(
    model: object, *, name: str = "m", num_workers: int = 1, request_timeout_s: float = 0.0, **policy: Any
) -> Served:
    """Put a model on offer, not yet started."""
    return Served(
        wrap(model, name),
        name=name,
        policy=Policy(**policy),
        num_workers=num_workers,
        request_timeout_s=request_timeout_s,
    )


@asynccontextmanager
async def serving(
    model: object,
    *,
    max_body_bytes: int = 1 << 20,
    num_workers: int = 1,
    request_timeout_s: float = 0.0,
    **policy: Any,
) -> AsyncIterator[Client]:
    """Serve a model under the name `m`, and close it afterwards."""
    served = offer(model, num_workers=num_workers, request_timeout_s=request_timeout_s, **policy)
    await asyncio.to_thread(served.start)
    try:
        yield Client(served, max_body_bytes=max_body_bytes)
    finally:
        await asyncio.to_thread(served.close, 30.0)


def tensor(data: Any, *, shape: Sequence[int], datatype: str = "FP32", name: str = "input") -> dict[str, Any]:
    """Write a tensor in the protocol's JSON."""
    return {"name": name, "shape": list(shape), "datatype": datatype, "data": data}


def request(data: Any, *, shape: Sequence[int], datatype: str = "FP32", **more: Any) -> dict[str, Any]:
    """Write an inference request of one tensor."""
    return {"inputs": [tensor(data, shape=shape, datatype=datatype)], **more}


async def let_wait(client: Client, num_waiting: int) -> None:
    """Give way until so many items wait in the queue."""
    # The queue belongs to another thread, which sets no event of ours.
    while client.served.batcher.num_waiting != num_waiting:  # noqa: ASYNC110
        await asyncio.sleep(0)


async def hold(client: Client, model: Doubler) -> asyncio.Task[Any]:
    """Send a request that the model holds in its hands until the gate opens."""
    while model.entered.acquire(blocking=False):  # its warm-up
        continue
    model.gate.clear()
    held = asyncio.create_task(client.post("/v2/models/m/infer", request([1, 1], shape=[1, 2])))
    await asyncio.to_thread(model.entered.acquire)
    return held
