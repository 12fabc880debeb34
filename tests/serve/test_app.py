"""The application over ASGI: routes, states, refusals, and clients that come and go."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from tests.serve.fakes import Doubler, embed, hold, let_wait, request, serving

INFER = "/v2/models/m/infer"


async def test_rows_go_in_and_come_out_in_order() -> None:
    """Each row is an item; the answer has them as they were sent."""
    async with serving(Doubler()) as client:
        answer = await client.post(INFER, request([1, 2, 3, 4, 5, 6], shape=[3, 2]))
    assert answer.status == 200
    (output,) = answer.json["outputs"]
    assert output == {"name": "output", "shape": [3, 2], "datatype": "FP32", "data": [2, 4, 6, 8, 10, 12]}


async def test_the_rows_of_a_request_run_together() -> None:
    """They join the queue at once, so an idle model takes them in one batch."""
    model = Doubler()
    async with serving(model) as client:
        while model.entered.acquire(blocking=False):
            continue
        await client.post(INFER, request([1] * 8, shape=[4, 2]))
    assert model.entered.acquire(blocking=False)
    assert not model.entered.acquire(blocking=False)


async def test_as_many_batches_run_at_a_time_as_there_are_workers() -> None:
    """A second worker takes what comes while the first one is busy."""
    model = Doubler()
    async with serving(model, num_workers=2) as client:
        held = await hold(client, model)
        other = asyncio.create_task(client.post(INFER, request([2, 2], shape=[1, 2])))
        await asyncio.to_thread(model.entered.acquire)
        model.gate.set()
        answers = [(await held).status, (await other).status]
    assert answers == [200, 200]


async def test_requests_that_wait_share_a_batch() -> None:
    """What comes while the model is busy runs together."""
    model = Doubler()
    async with serving(model) as client:
        held = await hold(client, model)
        others = [asyncio.create_task(client.post(INFER, request([n, n], shape=[1, 2]))) for n in range(3)]
        await let_wait(client, 3)
        model.gate.set()
        answers = await asyncio.gather(held, *others)
    assert [answer.json["outputs"][0]["data"] for answer in answers] == [[2, 2], [0, 0], [2, 2], [4, 4]]
    assert model.entered.acquire(blocking=False)
    assert not model.entered.acquire(blocking=False)


async def test_a_body_beyond_the_limit_is_not_read() -> None:
    """By what it declares, or by what comes."""
    async with serving(Doubler(), max_body_bytes=100) as client:
        declared = await client.send("POST", INFER, [b"{}"], {"Content-Length": "101"})
        streamed = await client.send("POST", INFER, [b"x" * 60, b"x" * 60, b"x" * 60])
        just = await client.send("POST", INFER, [b" " * 50, b" " * 50])
    assert (declared.status, streamed.status, just.status) == (413, 413, 400)
    assert (
        "more than the 100 B that are read: send less at once, or allow more with --max-body" in declared.json["error"]
    )


async def test_a_body_in_parts_is_one_body() -> None:
    """However it was cut."""
    async with serving(embed) as client:
        parts = [b'{"inputs":[{"name":"input","shape":[1,1],', b'"datatype":"BYTES","data":["ab', b'c"]}]}']
        answer = await client.send("POST", INFER, parts)
    assert answer.json["outputs"][0]["data"] == [3, 1, 0.1]


async def test_an_item_that_the_model_refuses_fails_its_request_alone() -> None:
    """With the row named."""
    async with serving(Doubler()) as client:
        answer = await client.post(INFER, request([1, 1, -1, 1], shape=[2, 2]))
    assert answer.status == 400
    assert answer.json["error"].startswith("item 1 of 2:")
    assert "-1 is negative" in answer.json["error"]


async def test_an_item_that_breaks_the_model_fails_its_request_alone() -> None:
    """Those who shared its batch are answered, and no traceback leaks."""
    model = Doubler()
    async with serving(model) as client:
        held = await hold(client, model)
        good = asyncio.create_task(client.post(INFER, request([2, 2], shape=[1, 2])))
        bad = asyncio.create_task(client.post(INFER, request([3, 3, 13, 3], shape=[2, 2])))
        await let_wait(client, 3)
        model.gate.set()
        answers = await asyncio.gather(held, good, bad)
    assert [answer.status for answer in answers] == [200, 200, 500]
    assert "item 1 of 2: " in answers[2].json["error"]
    assert "13 brings bad luck" in answers[2].json["error"]
    assert "Traceback" not in answers[2].json["error"]


async def test_a_full_queue_refuses_and_says_when_to_come_back() -> None:
    """Nothing that was accepted suffers."""
    model = Doubler()
    async with serving(model, max_queue=2) as client:
        await client.post(INFER, request([1, 1], shape=[1, 2]))  # shows how long a batch takes
        held = await hold(client, model)
        waiting = asyncio.create_task(client.post(INFER, request([1, 1] * 2, shape=[2, 2])))
        await let_wait(client, 2)
        refused = await client.post(INFER, request([1, 1], shape=[1, 2]))
        model.gate.set()
        answers = await asyncio.gather(held, waiting)
    assert refused.status == 429
    assert int(refused.headers["retry-after"]) >= 1
    assert [answer.status for answer in answers] == [200, 200]


async def test_a_request_joins_the_queue_whole_or_not_at_all() -> None:
    """Rows that fit are taken back when the rest does not."""
    model = Doubler()
    async with serving(model, max_queue=3) as client:
        held = await hold(client, model)
        waiting = asyncio.create_task(client.post(INFER, request([1, 1] * 2, shape=[2, 2])))
        await let_wait(client, 2)
        refused = await client.post(INFER, request([7, 7] * 2, shape=[2, 2]))
        await let_wait(client, 2)
        model.gate.set()
        await asyncio.gather(held, waiting)
    assert refused.status == 429
    assert [7.0, 7.0] not in model.seen


async def test_a_request_of_more_rows_than_sixteen_queues_hold_is_told_to_split() -> None:
    """What is larger than a queue is fed in parts; what is far larger is no request."""
    async with serving(Doubler(), max_queue=2) as client:
        fed = await client.post(INFER, request([1] * 64, shape=[32, 2]))
        answer = await client.post(INFER, request([1] * 66, shape=[33, 2]))
    assert fed.json["outputs"][0]["data"] == [2.0] * 64
    assert answer.status == 400
    assert "33 rows, of 1 to 32 that one request may have: split it" in answer.json["error"]


@pytest.mark.parametrize("own", [True, False])
async def test_a_request_whose_time_has_passed_is_answered_504(own: bool) -> None:
    """By its own timeout or the server's, while the model is busy with another."""
    model = Doubler()
    async with serving(model, request_timeout_s=0.0 if own else 0.02) as client:
        model.gate.set()
        held = await hold(client, model)
        parameters = {"timeout": 20_000} if own else {}
        late = await client.post(INFER, request([7, 7], shape=[1, 2], parameters=parameters))
        model.gate.set()
        await held
    assert late.status == 504
    assert [7.0, 7.0] not in model.seen


async def test_a_client_that_goes_away_takes_its_items_with_it() -> None:
    """They are never computed, and those beside them are."""
    model = Doubler()
    async with serving(model) as client:
        held = await hold(client, model)
        gone = asyncio.Event()
        body = b'{"inputs":[{"name":"input","shape":[1,2],"datatype":"FP32","data":[7,7]}]}'
        leaving = asyncio.create_task(client.send("POST", INFER, [body], gone=gone))
        staying = asyncio.create_task(client.post(INFER, request([3, 3], shape=[1, 2])))
        await let_wait(client, 2)
        gone.set()
        left = await leaving
        await let_wait(client, 1)
        model.gate.set()
        answers = await asyncio.gather(held, staying)
    assert left.status == 0  # nobody was left to answer
    assert [answer.status for answer in answers] == [200, 200]
    assert [7.0, 7.0] not in model.seen


async def test_a_client_that_goes_away_in_its_batch_does_not_harm_the_others() -> None:
    """Its result is dropped; theirs arrive."""
    model = Doubler()
    async with serving(model) as client:
        held = await hold(client, model)
        gone = asyncio.Event()
        body = b'{"inputs":[{"name":"input","shape":[1,2],"datatype":"FP32","data":[7,7]}]}'
        leaving = asyncio.create_task(client.send("POST", INFER, [body], gone=gone))
        staying = asyncio.create_task(client.post(INFER, request([3, 3], shape=[1, 2])))
        await let_wait(client, 2)
        model.gate.set()
        await held
        model.gate.clear()
        gone.set()
        await leaving
        model.gate.set()
        answer = await staying
    assert answer.json["outputs"][0]["data"] == [6, 6]


async def test_a_client_that_goes_away_before_its_body_is_whole_is_let_go() -> None:
    """There is nothing to answer."""
    async with serving(Doubler()) as client:

        async def receive() -> dict[str, Any]:
            return {"type": "http.disconnect"}

        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": INFER, "headers": [], "query_string": b"", "root_path": ""}
        await client.app(scope, receive, send)
    assert sent == []


async def test_higher_priority_goes_sooner() -> None:
    """Where the model can take but one at a time."""
    model = Doubler()
    async with serving(model, max_batch_size=1) as client:
        held = await hold(client, model)
        model.seen.clear()
        low = asyncio.create_task(client.post(INFER, request([2, 2], shape=[1, 2])))
        await let_wait(client, 1)
        urgent = request([3, 3], shape=[1, 2], parameters={"priority": 1})
        high = asyncio.create_task(client.post(INFER, urgent))
        await let_wait(client, 2)
        model.gate.set()
        await asyncio.gather(held, low, high)
    assert model.seen == [[1, 1], [3, 3], [2, 2]]


async def test_tenants_share_the_model() -> None:
    """One that comes later with little is not put behind all that another sent."""
    model = Doubler()
    async with serving(model, max_batch_size=1) as client:
        held = await hold(client, model)
        model.seen.clear()
        many = asyncio.create_task(client.post(INFER, request([2, 2] * 3, shape=[3, 2]), {"X-Tenant": "a"}))
        await let_wait(client, 3)
        few = asyncio.create_task(client.post(INFER, request([3, 3], shape=[1, 2]), {"X-Tenant": "b"}))
        await let_wait(client, 4)
        model.gate.set()
        await asyncio.gather(held, many, few)
    assert model.seen.index([3, 3]) < 3


async def test_metrics_count_the_traffic_and_not_the_warm_up() -> None:
    """One page for all models."""
    async with serving(Doubler()) as client:
        await client.post(INFER, request([1, 1, 1, 1], shape=[2, 2]))
        page = await client.get("/metrics")
        async with asyncio.timeout(30):  # an answer goes out before its batch is counted
            while 'carpool_items_total{model="m",version="1"} 2.0' not in page.body.decode():
                page = await client.get("/metrics")
    assert page.headers["content-type"].startswith("text/plain")


async def test_a_large_body_is_read_whole() -> None:
    """On a thread, which changes nothing for the client."""
    async with serving(Doubler()) as client:
        rows = 100 + np.arange(8000).reshape(-1, 2) / 8
        answer = await client.post(INFER, request(rows.ravel().tolist(), shape=[4000, 2]))
    assert answer.json["outputs"][0]["data"] == (2 * rows.ravel()).tolist()
