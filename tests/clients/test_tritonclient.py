"""NVIDIA's tritonclient against the server, unchanged: over HTTP and gRPC, blocking and in asyncio."""

from __future__ import annotations

import queue
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio
from tritonclient.utils import InferenceServerException

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.system.server import Running

PROTOCOLS = SimpleNamespace(http=tritonclient.http, grpc=tritonclient.grpc)


def address_of(server: Running, protocol: str) -> str:
    """Give the address as these clients want it: without a scheme."""
    return server.grpc if protocol == "grpc" else server.url.removeprefix("http://")


@pytest.fixture(params=["http", "grpc"])
def client(request: pytest.FixtureRequest, server: Running) -> Iterator[Any]:
    """Connect a blocking client; it knows the module of its protocol as `protocol`."""
    protocol = getattr(PROTOCOLS, request.param)
    client = protocol.InferenceServerClient(address_of(server, request.param))
    client.protocol = protocol
    yield client
    client.close()


@pytest.fixture(params=["http", "grpc"])
async def async_client(request: pytest.FixtureRequest, server: Running) -> AsyncIterator[Any]:
    """Connect an asyncio client; it knows the module of its protocol as `protocol`."""
    protocol = getattr(PROTOCOLS, request.param)
    async with protocol.aio.InferenceServerClient(address_of(server, request.param)) as client:
        client.protocol = protocol
        yield client


def inputs_of(protocol: Any, values: Any, count: int = 1) -> list[Any]:
    """Write the two inputs of `pair`."""
    rows = np.array(values, np.float32)
    first = protocol.InferInput("values", list(rows.shape), "FP32")
    first.set_data_from_numpy(rows)
    second = protocol.InferInput("count", [len(rows), 1], "INT64")
    second.set_data_from_numpy(np.full((len(rows), 1), count, np.int64))
    return [first, second]


def texts_of(protocol: Any, texts: list[str]) -> list[Any]:
    """Write the input of a model of texts."""
    tensor = protocol.InferInput("input", [len(texts), 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[text.encode()] for text in texts], object))
    return [tensor]


def slow_of(protocol: Any) -> list[Any]:
    """Write an input that takes half a second."""
    tensor = protocol.InferInput("input", [1, 1], "FP32")
    tensor.set_data_from_numpy(np.ones((1, 1), np.float32))
    return [tensor]


def plain(answer: Any) -> Any:
    """Give a document, or a message as the same document."""
    if not hasattr(answer, "DESCRIPTOR"):
        return answer
    from google.protobuf.json_format import MessageToDict

    return MessageToDict(answer, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


# ----------------------------------------------------------------------------------------------------- inference


def test_infer(client: Any) -> None:
    """Several inputs and outputs, several rows, an id."""
    result = client.infer("pair", inputs_of(client.protocol, [[1, 2], [3, 4]]), request_id="seven")
    assert result.as_numpy("total").tolist() == [[4], [8]]
    assert result.as_numpy("word").tolist() == [[b"done"], [b"done"]]
    assert plain(result.get_response())["id"] == "seven"


def test_infer_of_chosen_outputs_and_classes(client: Any) -> None:
    """Only what was asked for comes back; classes as value and position."""
    wanted = [client.protocol.InferRequestedOutput("total", class_count=1)]
    result = client.infer("pair", inputs_of(client.protocol, [[1, 2]]), outputs=wanted)
    assert result.as_numpy("total").tolist() == [[b"4.000000:0"]]
    assert result.as_numpy("word") is None


def test_infer_of_texts(client: Any) -> None:
    """BYTES, with letters beyond ASCII."""
    result = client.infer("upper", texts_of(client.protocol, ["straße", "né"]))
    assert [row[0].decode() for row in result.as_numpy("output")] == ["STRASSE", "NÉ"]


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("binary_back", [True, False])
def test_http_infer_in_json_and_in_binary(server: Running, binary: bool, binary_back: bool) -> None:
    """The two ways to send, and the two to be answered, in every combination."""
    http = tritonclient.http
    tensor = http.InferInput("input", [2, 1], "BYTES")
    tensor.set_data_from_numpy(np.array([["a"], ["b"]], object), binary_data=binary)
    wanted = [http.InferRequestedOutput("output", binary_data=binary_back)]
    with http.InferenceServerClient(address_of(server, "http")) as client:
        result = client.infer("upper", [tensor], outputs=wanted)
    assert [bytes(row[0], "utf-8") if isinstance(row[0], str) else row[0] for row in result.as_numpy("output")] == [
        b"A",
        b"B",
    ]


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_infer_compressed(client: Any, algorithm: str) -> None:
    """Both ways that the clients can compress."""
    options = (
        {"compression_algorithm": algorithm}
        if client.protocol is tritonclient.grpc
        else {"request_compression_algorithm": algorithm, "response_compression_algorithm": algorithm}
    )
    result = client.infer("pair", inputs_of(client.protocol, [[1, 2]] * 100), **options)
    assert result.as_numpy("total").tolist() == [[4]] * 100


def test_http_async_infer(server: Running) -> None:
    """Requests side by side, on the client's own green threads."""
    http = tritonclient.http
    with http.InferenceServerClient(address_of(server, "http"), concurrency=4) as client:
        asked = [client.async_infer("pair", inputs_of(http, [[n, 0]])) for n in range(8)]
        assert [one.get_result().as_numpy("total").item() for one in asked] == [n + 1 for n in range(8)]


def test_grpc_async_infer(server: Running) -> None:
    """Requests side by side, each with a callback."""
    grpc = tritonclient.grpc
    answers: queue.Queue[Any] = queue.Queue()
    with grpc.InferenceServerClient(server.grpc) as client:
        for n in range(8):
            client.async_infer("pair", inputs_of(grpc, [[n, 0]]), lambda result, error: answers.put((result, error)))
        got = [answers.get(timeout=30) for _ in range(8)]
    assert [error for _, error in got] == [None] * 8
    assert sorted(result.as_numpy("total").item() for result, _ in got) == [n + 1 for n in range(8)]


def test_grpc_async_infer_cancelled(server: Running) -> None:
    """The client's call is cancelled; the callback is told."""
    grpc = tritonclient.grpc
    answers: queue.Queue[Any] = queue.Queue()
    with grpc.InferenceServerClient(server.grpc) as client:
        asked = client.async_infer("slow", slow_of(grpc), lambda result, error: answers.put((result, error)))
        asked.cancel()
        result, error = answers.get(timeout=30)
    assert result is None
    assert "CANCELLED" in error.status()


def test_grpc_stream_infer(server: Running) -> None:
    """Answers and errors come in the order of the requests, and the stream outlives the errors."""
    grpc = tritonclient.grpc
    answers: queue.Queue[Any] = queue.Queue()
    with grpc.InferenceServerClient(server.grpc) as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        for n in (1, -1, 3):
            client.async_stream_infer("pair", inputs_of(grpc, [[n, 0]]), request_id=str(n))
        client.async_stream_infer("nobody", inputs_of(grpc, [[1, 1]]))
        got = [answers.get(timeout=30) for _ in range(4)]
        client.stop_stream()
    assert [None if result is None else result.as_numpy("total").item() for result, _ in got] == [2, None, 4, None]
    assert got[0][0].get_response().parameters["triton_final_response"].bool_param
    assert "it is negative" in str(got[1][1])
    assert "there is no model 'nobody'" in str(got[3][1])


def test_grpc_stream_cancelled(server: Running) -> None:
    """Nothing is waited for, and the server goes on."""
    grpc = tritonclient.grpc
    answers: queue.Queue[Any] = queue.Queue()
    with grpc.InferenceServerClient(server.grpc) as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        for _ in range(5):
            client.async_stream_infer("slow", slow_of(grpc))
        client.stop_stream(cancel_requests=True)
        assert "CANCELLED" in answers.get(timeout=30)[1].status()
        assert client.infer("pair", inputs_of(grpc, [[1, 2]])).as_numpy("total").item() == 4


async def test_infer_in_asyncio(async_client: Any) -> None:
    """The same answers from the asyncio clients."""
    assert await async_client.is_server_live()
    assert await async_client.is_model_ready("pair")
    result = await async_client.infer("pair", inputs_of(async_client.protocol, [[1, 2], [3, 4]]))
    assert result.as_numpy("total").tolist() == [[4], [8]]
    with pytest.raises(InferenceServerException, match="there is no model 'nobody'"):
        await async_client.infer("nobody", inputs_of(async_client.protocol, [[1, 2]]))


async def test_grpc_stream_infer_in_asyncio(server: Running) -> None:
    """An iterator of requests in, an iterator of answers out."""
    grpc = tritonclient.grpc

    async def requests() -> AsyncIterator[dict[str, Any]]:
        for n in (1, -1, 3):
            yield {"model_name": "pair", "inputs": inputs_of(grpc, [[n, 0]])}

    async with grpc.aio.InferenceServerClient(server.grpc) as client:
        got = [answer async for answer in client.stream_infer(requests())]
    assert [None if result is None else result.as_numpy("total").item() for result, _ in got] == [2, None, 4]
    assert "it is negative" in str(got[1][1])


# ------------------------------------------------------------------------------------------------ errors and limits


@pytest.mark.parametrize(
    ("model", "inputs", "status", "message"),
    [
        ("nobody", "pair", ("404", "StatusCode.NOT_FOUND"), "there is no model 'nobody'"),
        ("upper", "pair", ("400", "StatusCode.INVALID_ARGUMENT"), "this model takes 'input'"),
        ("pair", "negative", ("400", "StatusCode.INVALID_ARGUMENT"), "it is negative"),
    ],
)
def test_errors_have_a_status_and_a_message(
    client: Any, model: str, inputs: str, status: tuple[str, str], message: str
) -> None:
    """As the clients show them to their users."""
    with pytest.raises(InferenceServerException, match=message) as failed:
        client.infer(model, inputs_of(client.protocol, [[-1, 2]] if inputs == "negative" else [[1, 2]]))
    assert failed.value.status() == status[client.protocol is tritonclient.grpc]


def test_a_version_that_there_is_not(client: Any) -> None:
    """The message names those that there are."""
    with pytest.raises(InferenceServerException, match="no version '9': it has 1"):
        client.infer("pair", inputs_of(client.protocol, [[1, 2]]), model_version="9")


def test_a_timeout_of_the_client(server: Running) -> None:
    """The deadline of the call is up before the model is done; whoever notices first says so."""
    grpc = tritonclient.grpc
    with (
        grpc.InferenceServerClient(server.grpc) as client,
        pytest.raises(InferenceServerException, match=r"(?i)deadline"),
    ):
        client.infer("slow", slow_of(grpc), client_timeout=0.1)


def test_a_timeout_in_the_parameters(client: Any) -> None:
    """Microseconds; far too few are refused or given up as a deadline that passed."""
    with pytest.raises(InferenceServerException, match=r"deadline|in time") as failed:
        client.infer("slow", slow_of(client.protocol), timeout=1)
    assert failed.value.status() in ("504", "StatusCode.DEADLINE_EXCEEDED")


def test_a_priority_is_taken(client: Any) -> None:
    """Level 1, the first to go."""
    result = client.infer("pair", inputs_of(client.protocol, [[1, 2]]), priority=1)
    assert result.as_numpy("total").item() == 4


def test_sequences_are_refused(client: Any) -> None:
    """No state is kept between requests, and a client that counts on it is told."""
    with pytest.raises(InferenceServerException, match="no state is kept"):
        client.infer("pair", inputs_of(client.protocol, [[1, 2]]), sequence_id=5, sequence_start=True)


# --------------------------------------------------------------------------------------- about server and models


def test_health(client: Any) -> None:
    """Live, ready, and each model by name."""
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("pair")
    assert client.is_model_ready("pair", "1")
    assert not client.is_model_ready("nobody")


def test_metadata(client: Any) -> None:
    """What the server and a model say of themselves, over both protocols alike."""
    server, model = plain(client.get_server_metadata()), plain(client.get_model_metadata("pair"))
    assert (server["name"], "statistics" in server["extensions"]) == ("carpool", True)
    shapes = {one["name"]: (one["datatype"], [int(size) for size in one["shape"]]) for one in model["inputs"]}
    assert shapes == {"values": ("FP32", [-1, 2]), "count": ("INT64", [-1, 1])}


def test_configuration(client: Any) -> None:
    """What batching it has, and what a row is made of."""
    config = plain(client.get_model_config("pair"))
    config = config.get("config", config)
    assert (config["max_batch_size"], config["backend"]) == (8, "carpool")
    assert [(one["name"], one["data_type"]) for one in config["input"]] == [
        ("values", "TYPE_FP32"),
        ("count", "TYPE_INT64"),
    ]
    assert "dynamic_batching" in config


def test_statistics(client: Any) -> None:
    """Three more rows are three more successes; the counts of the parts agree."""

    def told() -> dict[str, Any]:
        (stats,) = plain(client.get_inference_statistics("upper"))["model_stats"]
        return dict(stats)

    before = told()
    client.infer("upper", texts_of(client.protocol, ["a", "b", "c"]))
    after = told()
    assert int(after["inference_count"]) - int(before["inference_count"]) == 3
    assert int(after["execution_count"]) > int(before["execution_count"])
    counts = {
        int(after["inference_stats"][part]["count"])
        for part in ("success", "queue", "compute_input", "compute_infer", "compute_output")
    }
    assert len(counts) == 1
    assert {one["name"] for one in plain(client.get_inference_statistics())["model_stats"]} >= {"upper", "pair"}


def test_repository(client: Any) -> None:
    """The index; a model taken out and brought back."""
    index = plain(client.get_model_repository_index())
    models = index if isinstance(index, list) else index["models"]
    assert {one["name"] for one in models} == {"pair", "embed", "upper", "slow", "lm"}
    client.unload_model("embed")
    assert not client.is_model_ready("embed")
    client.load_model("embed")
    assert client.is_model_ready("embed")
    with pytest.raises(InferenceServerException, match="no model 'nobody'"):
        client.load_model("nobody")


def test_shared_memory_is_refused_and_there_is_none(client: Any) -> None:
    """Asking and undoing go well, so that clients which clean up first go on; setting up does not."""
    client.unregister_system_shared_memory()
    client.unregister_cuda_shared_memory()
    for status in (client.get_system_shared_memory_status(), client.get_cuda_shared_memory_status()):
        assert not plain(status) or not plain(status)["regions"]
    with pytest.raises(InferenceServerException, match="opens no shared memory"):
        client.register_system_shared_memory("mine", "/mine", 64)
    with pytest.raises(InferenceServerException, match="opens no shared memory"):
        client.register_cuda_shared_memory("mine", b"aGFuZGxl", 0, 64)
    inputs = inputs_of(client.protocol, [[1, 2]])
    inputs[0].set_shared_memory("mine", 8)
    with pytest.raises(InferenceServerException, match="shared memory"):
        client.infer("pair", inputs)


def test_settings_are_read_and_not_changed(client: Any) -> None:
    """Traces and logs are set where the server is started."""
    client.get_trace_settings()
    client.get_log_settings()
    with pytest.raises(InferenceServerException, match="start the server with others"):
        client.update_trace_settings(settings={"trace_level": ["TIMESTAMPS"]})
    with pytest.raises(InferenceServerException, match="start the server with others"):
        client.update_log_settings({"log_verbose_level": 1})
