"""Inference over gRPC, against a server that really listens: answers, refusals, deadlines, cancellation, streams."""

from __future__ import annotations

import asyncio
import dataclasses
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING

import grpc
import grpc.aio
import pytest
from grpc import StatusCode

from carpool.serve.access import Access
from carpool.serve.grpc.messages import (
    ModelInferRequest,
    ModelReadyRequest,
    ModelReadyResponse,
    ServerLiveRequest,
    ServerLiveResponse,
    ServerReadyRequest,
    ServerReadyResponse,
)
from carpool.serve.grpc.server import Certificate
from tests.serve.fakes import Doubler
from tests.serve.grpc_rig import Caller, floats, grpc_serving, hold, one_answer, refusal, rows, until

if TYPE_CHECKING:
    from pathlib import Path

KEY = "a-key-of-16-characters"


async def test_a_request_is_answered_raw_with_its_id() -> None:
    """Name, version, id, shape and bytes."""
    async with grpc_serving(Doubler()) as caller:
        answer = await caller.infer(rows([[1, 2], [3, 4]], id="seven"))
    assert (answer.model_name, answer.model_version, answer.id) == ("m", "1", "seven")
    assert (answer.outputs[0].name, answer.outputs[0].datatype) == ("output", "FP32")
    assert floats(answer) == [[2, 4], [6, 8]]


async def test_typed_contents_are_answered_in_typed_contents() -> None:
    """Who can't write raw bytes need not read them."""
    request = ModelInferRequest(model_name="m", model_version="1")
    tensor = request.inputs.add(name="input", datatype="FP32", shape=[1, 2])
    tensor.contents.fp32_contents.extend([1, 2])
    async with grpc_serving(Doubler()) as caller:
        answer = await caller.infer(request)
    assert list(answer.outputs[0].contents.fp32_contents) == [2, 4]
    assert not answer.raw_output_contents


async def test_health_is_told() -> None:
    """Live, ready, and ready for a model; one that there is not is not ready."""
    async with grpc_serving(Doubler()) as caller:
        assert (await caller.call("ServerLive", ServerLiveRequest(), ServerLiveResponse)).live
        assert (await caller.call("ServerReady", ServerReadyRequest(), ServerReadyResponse)).ready
        for name, version, ready in (("m", "", True), ("m", "1", True), ("m", "2", False), ("x", "", False)):
            asked = ModelReadyRequest(name=name, version=version)
            assert (await caller.call("ModelReady", asked, ModelReadyResponse)).ready == ready


@pytest.mark.parametrize(
    ("request_", "code", "message"),
    [
        (b"\xff\xff\xff", StatusCode.INVALID_ARGUMENT, "the message of 3 bytes is no ModelInferRequest"),
        (b"", StatusCode.NOT_FOUND, "there is no model '' here"),
        (rows([[1, 2]], model="x"), StatusCode.NOT_FOUND, "there is no model 'x' here: use one of m"),
        (rows([[1, 2]], model_version="7"), StatusCode.NOT_FOUND, "has no version '7': it has 1"),
        (rows([[1, 2, 3]]), StatusCode.INVALID_ARGUMENT, "has the shape [1, 3]: [-1, 2] is expected"),
        (rows([[-1, 2]]), StatusCode.INVALID_ARGUMENT, "-1 is negative"),
        (rows([[13, 2]]), StatusCode.INTERNAL, "13 brings bad luck"),
    ],
)
async def test_a_request_that_can_t_be_answered_gets_a_status(
    request_: ModelInferRequest | bytes, code: StatusCode, message: str
) -> None:
    """The code as Triton has it, and a message that says what to do."""
    async with grpc_serving(Doubler()) as caller:
        error = await refusal(caller.infer(request_))
        assert floats(await caller.infer(rows([[1, 2]]))) == [[2, 4]]  # the server is none the worse for it
    assert error.code() is code
    assert message in str(error.details())


async def test_a_message_that_is_too_large_is_refused_unread() -> None:
    """The limit is that of a body over HTTP, and a little more for what stands around the tensors."""
    async with grpc_serving(Doubler(), max_message_bytes=100_000) as caller:
        error = await refusal(caller.infer(rows([[1, 2]] * 50_000)))
        assert floats(await caller.infer(rows([[1, 2]] * 4000)))[-1] == [2, 4]
    assert error.code() is StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in str(error.details())


async def test_a_full_queue_says_when_to_come_back() -> None:
    """By the trailing metadata that gRPC's own retries read."""
    model = Doubler()
    async with grpc_serving(model, max_queue=1, max_batch_size=1) as caller:
        await caller.infer(rows([[0, 0]]))  # shows how long a batch takes
        hold(model)
        running = asyncio.ensure_future(caller.infer(rows([[1, 2]])))
        await asyncio.to_thread(model.entered.acquire)
        waiting = asyncio.ensure_future(caller.infer(rows([[3, 4]])))
        await until(lambda: caller.served.batcher.num_waiting)
        error = await refusal(caller.infer(rows([[5, 6]])))
        model.gate.set()
        assert [floats(await answer) for answer in (running, waiting)] == [[[2, 4]], [[6, 8]]]
    assert error.code() is StatusCode.UNAVAILABLE
    metadata = dict(error.trailing_metadata())
    assert int(metadata["grpc-retry-pushback-ms"]) == int(metadata["retry-after-ms"]) > 0


async def test_the_deadline_of_the_call_is_that_of_its_rows() -> None:
    """What waits longer than its client is never computed."""
    model = Doubler()
    async with grpc_serving(model, max_batch_size=1) as caller:
        hold(model)
        running = asyncio.ensure_future(caller.infer(rows([[1, 2]])))
        await asyncio.to_thread(model.entered.acquire)
        error = await refusal(caller.infer(rows([[3, 4]]), timeout=0.05))
        model.gate.set()
        await running
        await caller.infer(rows([[5, 6]]))
    assert error.code() is StatusCode.DEADLINE_EXCEEDED
    assert model.seen == [[1, 2], [5, 6]]


async def test_a_timeout_in_the_parameters_is_a_deadline_too() -> None:
    """Microseconds, as in Triton; the answer tells of it."""
    model = Doubler()
    late = rows([[3, 4]])
    late.parameters["timeout"].int64_param = 20_000
    async with grpc_serving(model, max_batch_size=1) as caller:
        hold(model)
        running = asyncio.ensure_future(caller.infer(rows([[1, 2]])))
        await asyncio.to_thread(model.entered.acquire)
        error = await refusal(caller.infer(late))
        model.gate.set()
        await running
    assert error.code() is StatusCode.DEADLINE_EXCEEDED
    assert model.seen == [[1, 2]]


async def test_a_deadline_in_the_past_is_refused() -> None:
    """By the client's own library, or by us: in either case nothing is computed."""
    model = Doubler()
    async with grpc_serving(model) as caller:
        hold(model)
        error = await refusal(caller.infer(rows([[1, 2]]), timeout=-1))
        model.gate.set()
    assert error.code() is StatusCode.DEADLINE_EXCEEDED
    assert model.seen == []


async def test_a_call_that_is_cancelled_leaves_the_queue() -> None:
    """Nothing is computed for a client that has gone."""
    model = Doubler()
    async with grpc_serving(model, max_batch_size=1) as caller:
        hold(model)
        running = asyncio.ensure_future(caller.infer(rows([[1, 2]])))
        await asyncio.to_thread(model.entered.acquire)
        leaving = asyncio.ensure_future(caller.infer(rows([[3, 4]])))
        await until(lambda: caller.served.batcher.num_waiting)
        leaving.cancel()
        await until(lambda: not caller.served.batcher.num_waiting)
        model.gate.set()
        await running
    assert model.seen == [[1, 2]]


async def test_more_calls_than_there_may_be_are_refused() -> None:
    """A limit on calls is for gRPC what one on connections is for HTTP."""
    model = Doubler()
    async with grpc_serving(model, max_calls=1) as caller:
        hold(model)
        running = asyncio.ensure_future(caller.infer(rows([[1, 2]])))
        await asyncio.to_thread(model.entered.acquire)
        error = await refusal(caller.infer(rows([[3, 4]])))
        model.gate.set()
        await running
    assert error.code() is StatusCode.RESOURCE_EXHAUSTED


async def test_a_key_is_asked_for_where_there_are_keys() -> None:
    """In the metadata, as in the headers of HTTP; health needs none."""
    async with grpc_serving(Doubler(), access=Access({KEY: "team"})) as caller:
        error = await refusal(caller.infer(rows([[1, 2]])))
        for metadata in ((("authorization", f"Bearer {KEY}"),), (("x-api-key", KEY),)):
            assert floats(await caller.infer(rows([[1, 2]]), metadata=metadata)) == [[2, 4]]
        stream = caller.stream()
        with suppress(grpc.aio.AioRpcError):  # it may be refused before anything is sent
            await stream.write(rows([[1, 2]]).SerializeToString())
        assert await stream.code() is StatusCode.UNAUTHENTICATED
        assert (await caller.call("ServerLive", ServerLiveRequest(), ServerLiveResponse)).live
    assert error.code() is StatusCode.UNAUTHENTICATED
    assert "send `Authorization: Bearer KEY`" in str(error.details())


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    """Make a certificate for localhost, and its key."""
    options = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    names = "-addext subjectAltName=DNS:localhost -keyout key.pem -out certificate.pem"
    subprocess.run(["openssl", *options.split(), *names.split()], cwd=tmp_path, check=True, capture_output=True)
    return Certificate(chain=(tmp_path / "certificate.pem").read_bytes(), key=(tmp_path / "key.pem").read_bytes())


async def test_calls_are_encrypted_where_there_is_a_certificate(certificate: Certificate) -> None:
    """Who trusts it is answered; who speaks in the clear is not, and disturbs nobody."""
    trusting = grpc.ssl_channel_credentials(root_certificates=certificate.chain)
    named = [("grpc.ssl_target_name_override", "localhost")]
    async with grpc_serving(Doubler(), certificate=certificate) as caller:
        plain = await refusal(caller.infer(rows([[1, 2]]), timeout=5))
        async with grpc.aio.secure_channel(caller.address, trusting, options=named) as channel:
            secure = dataclasses.replace(caller, channel=channel)
            assert floats(await secure.infer(rows([[1, 2]]))) == [[2, 4]]
    assert plain.code() is StatusCode.UNAVAILABLE


# ------------------------------------------------------------------------------------------------------------ streams


async def test_a_stream_outlives_the_requests_that_can_t_be_answered() -> None:
    """Each gets its error, by id; the next one is answered."""
    async with grpc_serving(Doubler()) as caller:
        stream = caller.stream()
        for request in (rows([[-1, 2]], id="bad"), rows([[13, 1]], id="worse"), rows([[1, 2]], id="good")):
            await stream.write(request.SerializeToString())
        await stream.write(b"\xff\xff")
        await stream.done_writing()
        bad, worse, good, garbled = [await one_answer(stream) for _ in range(4)]
        assert await stream.code() is StatusCode.OK
    assert (bad.infer_response.id, bad.error_message) == ("bad", "m refuses this item: -1 is negative")
    assert (worse.infer_response.id, "13 brings bad luck" in worse.error_message) == ("worse", True)
    assert (good.infer_response.id, good.error_message, floats(good.infer_response)) == ("good", "", [[2, 4]])
    assert good.infer_response.parameters["triton_final_response"].bool_param
    assert "is no ModelInferRequest" in garbled.error_message


async def test_requests_of_a_stream_are_batched() -> None:
    """They run side by side, so that they share batches."""
    model = Doubler()
    async with grpc_serving(model, max_batch_size=8) as caller:
        hold(model)
        stream = caller.stream()
        for number in range(9):
            await stream.write(rows([[number, 0]]).SerializeToString())
            if not number:
                await asyncio.to_thread(model.entered.acquire)
        await until(lambda: caller.served.batcher.num_waiting == 8)
        model.gate.set()
        answers = [floats((await one_answer(stream)).infer_response) for _ in range(9)]
        stream.cancel()
    assert answers == [[[2 * number, 0]] for number in range(9)]
    assert model.entered.acquire(blocking=False)  # the other eight, in one batch
    assert not model.entered.acquire(blocking=False)


async def test_a_stream_that_is_cancelled_withdraws_what_waits() -> None:
    """Nothing is computed for a client that has gone."""
    model = Doubler()
    async with grpc_serving(model, max_batch_size=1) as caller:
        hold(model)
        stream = caller.stream()
        for number in range(5):
            await stream.write(rows([[number, 0]]).SerializeToString())
        await asyncio.to_thread(model.entered.acquire)
        await until(lambda: caller.served.batcher.num_waiting == 4)
        stream.cancel()
        await until(lambda: not caller.served.batcher.num_waiting)
        model.gate.set()
        assert floats(await caller.infer(rows([[7, 7]]))) == [[14, 14]]
    assert model.seen == [[0, 0], [7, 7]]


async def test_two_hundred_streams_at_once_are_all_answered() -> None:
    """Each with its own answers, in its own order."""

    async def talk(caller: Caller, number: int) -> list[float]:
        stream = caller.stream()
        for step in range(3):
            await stream.write(rows([[number, step]]).SerializeToString())
        await stream.done_writing()
        return [value for _ in range(3) for value in floats((await one_answer(stream)).infer_response)[0]]

    async with grpc_serving(Doubler(), max_batch_size=64) as caller:
        answers = await asyncio.gather(*(talk(caller, number) for number in range(100, 300)))
    assert answers == [[2.0 * number, 0, 2.0 * number, 2, 2.0 * number, 4] for number in range(100, 300)]


async def test_a_server_that_stops_answers_what_it_has_and_ends_idle_streams() -> None:
    """A stream that is open and says nothing keeps it from nothing."""
    model = Doubler()
    async with grpc_serving(model) as caller:
        hold(model)
        stream = caller.stream()
        await stream.write(rows([[1, 2]], id="last").SerializeToString())
        await asyncio.to_thread(model.entered.acquire)
        draining = asyncio.ensure_future(caller.server.drain(30))
        refused = await refusal(caller.infer(rows([[3, 4]])))
        assert refused.code() in (StatusCode.UNAVAILABLE, StatusCode.CANCELLED)  # before, or after word of it is there
        model.gate.set()
        assert (await one_answer(stream)).infer_response.id == "last"
        assert await draining
        assert await stream.code() is StatusCode.UNAVAILABLE
        assert "the server is stopping" in await stream.details()


async def test_a_server_that_stops_in_a_hurry_says_that_something_was_given_up() -> None:
    """What is under way when the time has passed is cancelled."""
    model = Doubler()
    async with grpc_serving(model) as caller:
        hold(model)
        running = asyncio.ensure_future(caller.infer(rows([[1, 2]])))
        await asyncio.to_thread(model.entered.acquire)
        draining = asyncio.ensure_future(caller.server.drain(30))
        await asyncio.sleep(0)
        caller.server.hurry()
        assert not await draining
        await refusal(running)
        model.gate.set()
