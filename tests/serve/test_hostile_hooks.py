"""Hooks of the user's own that raise what no program expects: a clear refusal, and the server serves on."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from carpool.serve.logs import logging_to
from tests.serve.fakes import Doubler, request, serving
from tests.serve.grpc_rig import grpc_serving, refusal, rows

if TYPE_CHECKING:
    from pathlib import Path

BAD = 13.0
SENT = [KeyboardInterrupt, asyncio.CancelledError, SystemExit, GeneratorExit]


class Hostile(Doubler):
    """A check that raises something of its own at 13."""

    def __init__(self, raised: type[BaseException]) -> None:
        super().__init__()
        self.raised = raised

    def check(self, item: Any) -> None:
        """Refuse it in its own way."""
        if float(item[0]) == BAD:
            raise self.raised("not thirteen")


@pytest.mark.parametrize("raised", SENT)
async def test_http_answers_400_and_serves_on(raised: type[BaseException]) -> None:
    """The one who asked is told what the check said; the next one is answered."""
    async with asyncio.timeout(30), serving(Hostile(raised)) as client:
        refused = await client.post("/v2/models/m/infer", request([BAD, 1.0], shape=[1, 2]))
        plain = await client.post("/predict/m", {"inputs": [[BAD, 1.0]]})
        good = await client.post("/v2/models/m/infer", request([1.0, 2.0], shape=[1, 2]))
    assert (refused.status, plain.status, good.status) == (400, 400, 200)
    assert "not thirteen" in refused.json["error"]


@pytest.mark.parametrize("raised", SENT)
async def test_grpc_answers_invalid_argument_and_serves_on(raised: type[BaseException]) -> None:
    """As over HTTP."""
    async with asyncio.timeout(30), grpc_serving(Hostile(raised)) as caller:
        error = await refusal(caller.infer(rows([[BAD, 1.0]])))
        await caller.infer(rows([[1.0, 2.0]]))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "not thirteen" in (error.details() or "")


async def test_a_model_that_fails_is_a_json_line_with_its_traceback(tmp_path: Path) -> None:
    """The operator sees which line of the model it was."""

    def failing(rows: list[Any]) -> list[Any]:
        raise ZeroDivisionError(f"of {len(rows)}")

    path = tmp_path / "serve.log"
    with logging_to(path, form="json"):
        async with serving(failing) as client:
            answer = await client.post("/predict/m", {"inputs": [1]})
    (line,) = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if "failed" in line]
    assert answer.status == 500
    assert (line["level"], line["logger"]) == ("ERROR", "carpool.runtime")
    assert "batch 0 of 1 item failed: the model raised ZeroDivisionError: of 1" in line["message"]
    assert "test_hostile_hooks.py, line" in line["message"]
    assert "raise ZeroDivisionError" in line["exception"]
