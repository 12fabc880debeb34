"""What the Open Inference Protocol is asked besides inference, and inference in bytes, over the routes."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from carpool.serve.access import Access
from carpool.serve.app import create_router
from carpool.serve.control import Control
from carpool.serve.http.asgi import as_asgi
from carpool.serve.offer import Offer
from tests.serve.fakes import Client, Doubler, embed, offer, request, serving

INFER = "/v2/models/m/infer"


async def counted(client: Client, num_items: int) -> dict[str, Any]:
    """Return the model's statistics, once so many items are in them: answers go out before they are counted."""
    while True:
        (model,) = (await client.get("/v2/models/m/stats")).json["model_stats"]
        if model["inference_count"] >= num_items:
            return dict(model)


async def test_tensors_come_and_go_as_bytes() -> None:
    """The header of the answer says how much of it is JSON."""
    head = json.dumps(
        {
            "inputs": [{"name": "input", "shape": [1, 2], "datatype": "FP32", "parameters": {"binary_data_size": 8}}],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    body = head + np.array([1.5, 2], np.float32).tobytes()
    async with serving(Doubler()) as client:
        answer = await client.post(INFER, body, {"Inference-Header-Content-Length": str(len(head))})
        wrong = await client.post(INFER, body, {"Inference-Header-Content-Length": "-1"})
    size = int(answer.headers["inference-header-content-length"])
    assert answer.headers["content-type"] == "application/octet-stream"
    assert json.loads(answer.body[:size])["outputs"][0]["parameters"] == {"binary_data_size": 8}
    assert np.frombuffer(answer.body[size:], np.float32).tolist() == [3, 4]
    assert wrong.status == 400


@pytest.mark.parametrize(("sent", "status"), [(np.inf, 200), (np.nan, 500)])
async def test_infinity_comes_back_as_bytes_and_nan_is_an_error(sent: float, status: int) -> None:
    """Of the item whose result has it, whatever the protocol; a model may be asked about either."""
    tensor = {"name": "input", "shape": [1, 2], "datatype": "FP32", "parameters": {"binary_data_size": 8}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    body = head + np.array([sent, 1], "<f4").tobytes()
    async with serving(Doubler()) as client:
        answer = await client.post("/v2/models/m/infer", body, headers)
    assert answer.status == status
    if status == 200:
        assert np.frombuffer(answer.body[-8:], "<f4").tolist() == [sent, 2]
    else:
        assert answer.json["error"].startswith("the model returned NaN for this item")


async def test_a_large_body_of_bytes_is_answered_in_order() -> None:
    """It is read, and its answer written, on threads."""
    rows = 100 + np.arange(20_000, dtype=np.float32).reshape(-1, 2)
    tensor = {"name": "input", "shape": rows.shape, "datatype": "FP32", "parameters": {"binary_data_size": rows.nbytes}}
    document = {"inputs": [tensor], "outputs": [{"name": "output", "parameters": {"binary_data": True}}]}
    head = json.dumps(document).encode()
    async with serving(Doubler(), max_queue=10_000) as client:
        answer = await client.post(INFER, head + rows.tobytes(), {"Inference-Header-Content-Length": str(len(head))})
    size = int(answer.headers["inference-header-content-length"])
    assert np.array_equal(np.frombuffer(answer.body[size:], np.float32), 2 * rows.ravel())


async def test_statistics_count_what_a_model_has_done() -> None:
    """Of the model, of its version, and of all."""
    async with serving(Doubler()) as client:
        (before,) = (await client.get("/v2/models/stats")).json["model_stats"]
        await client.post(INFER, request([1, 1, 2, 2], shape=[2, 2]))
        after = await counted(client, 2)
        paths = ("/v2/models/m/versions/1/stats", "/v2/models/stats")
        same = [(await client.get(path)).json["model_stats"] for path in paths]
        other = await client.get("/v2/models/m/versions/9/stats")
    assert before["inference_count"] == 0  # the warm-up is not counted
    assert (after["name"], int(after["version"]), after["execution_count"]) == ("m", 1, 1)
    assert after["inference_stats"]["success"]["count"] == after["inference_stats"]["compute_infer"]["count"] == 2
    assert same == [[after], [after]]
    assert other.status == 404


async def test_the_configuration_says_how_a_model_is_run() -> None:
    """In the words of Triton's own."""
    async with serving(embed, max_batch_size=8, max_wait_s=0.002, max_queue=100) as client:
        config = (await client.get("/v2/models/m/config")).json
        assert (await client.get("/v2/models/m/versions/1/config")).json == config
    assert (config["name"], config["max_batch_size"]) == ("m", 8)
    assert config["input"] == [{"name": "input", "data_type": "TYPE_STRING", "dims": [1]}]
    assert config["output"] == [{"name": "output", "data_type": "TYPE_FP32", "dims": [3]}]
    batching = config["dynamic_batching"]
    assert batching["max_queue_delay_microseconds"] == 2000
    assert batching["default_queue_policy"]["max_queue_size"] == 100


async def test_the_server_names_the_extensions_that_it_has() -> None:
    """And none that it has not."""
    async with serving(embed) as client:
        extensions = (await client.get("/v2")).json["extensions"]
    assert {"binary_tensor_data", "statistics", "model_configuration", "classification"} <= set(extensions)
    assert not {"sequence", "system_shared_memory", "cuda_shared_memory", "trace", "logging"} & set(extensions)


async def test_the_repository_is_told_and_changed() -> None:
    """A model that is taken out is not found until it is loaded."""
    served = offer(embed)
    models = Offer.of(served)
    client = Client(served)
    client.app = as_asgi(create_router(models, control=Control(Access())))
    loading = (await client.post("/v2/repository/index", b"")).json
    only_ready = (await client.post("/v2/repository/index", {"ready": True})).json
    models.start()
    ready = (await client.post("/v2/repository/index", {"ready": True})).json
    unloaded = await client.post("/v2/repository/models/m/unload", {"parameters": {"unload_dependents": False}})
    gone = await client.post(INFER, request(["a"], shape=[1, 1], datatype="BYTES"))
    unknown = await client.post("/v2/repository/models/x/unload", b"")
    await models.unload("m")
    models.close(1.0)
    assert (loading[0]["state"], only_ready) == ("LOADING", [])
    assert ready == [{"name": "m", "version": "1", "state": "READY", "reason": ""}]
    assert (unloaded.status, gone.status, unknown.status) == (200, 404, 404)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"parameters": {"file:1/model.onnx": "AAAA"}}, "unknown field `file:1/model.onnx`"),
        ({"parameters": {"config": "{"}}, "is not JSON"),
        ({"parameters": {"config": 1}}, "Expected `str`, got `int`"),
        ([], "Expected `object`, got `array`"),
    ],
)
async def test_a_load_that_cannot_be_meant_is_refused(document: Any, said: str) -> None:
    """Files are not taken over the network."""
    async with serving(embed) as client:
        answer = await client.post("/v2/repository/models/m/load", document)
    assert answer.status == 400
    assert said in answer.json["error"]


@pytest.mark.parametrize("kind", ["system", "cuda"])
async def test_shared_memory_is_told_of_and_refused(kind: str) -> None:
    """Clients that look at it go on; those that would use it are told what to do instead."""
    base = f"/v2/{kind}sharedmemory"
    async with serving(embed) as client:
        assert (await client.get(f"{base}/status")).json == []
        assert (await client.get(f"{base}/region/r/status")).json == []
        assert (await client.post(f"{base}/unregister", b"")).status == 200
        assert (await client.post(f"{base}/region/r/unregister", b"")).status == 200
        refused = await client.post(f"{base}/region/r/register", {"key": "/r", "offset": 0, "byte_size": 64})
    assert refused.status == 400
    assert "region 'r' can't be registered: this server opens no shared memory; send tensors" in refused.json["error"]


async def test_settings_of_traces_and_logs_are_refused_to_change() -> None:
    """And there are none to see."""
    async with serving(embed) as client:
        for path in ("/v2/trace/setting", "/v2/models/m/trace/setting", "/v2/logging"):
            assert (await client.get(path)).json == {}
            refused = await client.post(path, {"log_info": False})
            assert refused.status == 400
            assert "can't be changed over the network: start the server with others" in refused.json["error"]
