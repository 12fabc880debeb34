"""The routes as an ASGI application of somebody else's server, or within somebody else's application."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from carpool.serve.app import create_router
from carpool.serve.http.asgi import as_asgi
from carpool.serve.offer import Offer
from tests.serve.fakes import Doubler, offer


def ask(**scope: Any) -> tuple[int, Any]:
    """Ask by GET, with a scope of just what the specification requires and these; return status and JSON."""
    served = offer(Doubler())
    application = as_asgi(create_router(Offer.of(served)))
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    required = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "headers": []}

    async def visit() -> None:
        messages = iter([{"type": "http.request"}])

        async def receive() -> dict[str, Any]:
            if (message := next(messages, None)) is None:
                await asyncio.Event().wait()
            assert message is not None
            return message

        await application({**required, **scope}, receive, send)

    asyncio.run(visit())
    start, body = sent
    return start["status"], json.loads(body["body"])


@pytest.mark.parametrize(
    "scope",
    [
        {"path": "/v2", "root_path": ""},
        {"path": "/v2"},
        {"path": "/models/v2", "root_path": "/models"},
        {"path": "/models/v2", "root_path": "/models/"},
        {"path": "/models/v2", "raw_path": b"/models/v2", "root_path": "/models"},
        {"path": "/v2", "raw_path": b"/models/v2", "root_path": "/models"},  # as some routers leave it
        {"path": "/v2", "raw_path": b"/v2", "root_path": "/models"},  # as a server behind a proxy that takes it off
        {"path": "/v1/our models/v2", "raw_path": b"/v1/our%20models/v2", "root_path": "/v1/our models"},
        {"path": "/v2/v2", "root_path": "/v2"},
    ],
)
def test_what_it_is_mounted_at_is_taken_off_the_path(scope: dict[str, Any]) -> None:
    """Where the path begins with it, decoded or as it came."""
    status, document = ask(**scope)
    assert (status, document["name"]) == (200, "carpool")


def test_a_path_that_only_begins_alike_is_none_of_ours() -> None:
    """Segments count, not characters."""
    status, document = ask(path="/modelsv2", root_path="/models")
    assert (status, document["error"].partition(":")[0]) == (404, "there is nothing at /modelsv2")


def test_a_path_without_its_raw_form_is_understood() -> None:
    """Servers need not give that."""
    status, document = ask(path="/models/v2/models/what? 50%25", root_path="/models")
    assert status == 404
    assert "what? 50%25" in document["error"]
