"""KServe's inference clients, as its documentation shows them; run by the Python of an environment that has them."""

import asyncio
import json
import sys

import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, InferResponse
from kserve.inference_client import RESTConfig


def request(*, binary: bool) -> InferRequest:
    """Write a request of two inputs, as bytes or as typed values."""
    values = InferInput("values", [2, 2], "FP32")
    values.set_data_from_numpy(np.array([[1, 2], [3, 4]], np.float32), binary_data=binary)
    count = InferInput("count", [2, 1], "INT64")
    count.set_data_from_numpy(np.array([[1], [1]], np.int64), binary_data=binary)
    return InferRequest(model_name="pair", infer_inputs=[values, count], request_id="seven")


def totals(response: InferResponse) -> list[float]:
    """Read one output."""
    found: list[float] = next(o for o in response.outputs if o.name == "total").as_numpy().reshape(-1).tolist()
    return found


async def over_rest(url: str) -> dict[str, object]:
    """Ask over REST."""
    client = InferenceRESTClient(RESTConfig(protocol="v2", timeout=30))
    told: dict[str, object] = {
        "live": await client.is_server_live(url),
        "ready": await client.is_server_ready(url),
        "model ready": await client.is_model_ready(url, "pair"),
        "JSON": totals(await client.infer(url, request(binary=False), model_name="pair")),
        "binary": totals(await client.infer(url, request(binary=True), model_name="pair")),
    }
    try:
        await client.infer(url, request(binary=False), model_name="nobody")
    except Exception as error:  # noqa: BLE001 - whichever it raises is told
        told["error"] = str(error)
    return told


async def over_grpc(address: str) -> dict[str, object]:
    """Ask over gRPC."""
    client = InferenceGRPCClient(url=address)
    told: dict[str, object] = {
        "live": await client.is_server_live(),
        "ready": await client.is_server_ready(),
        "model ready": await client.is_model_ready("pair"),
        "typed": totals(await client.infer(request(binary=False))),
        "raw": totals(await client.infer(request(binary=True))),
    }
    try:
        await client.is_model_ready("pair", headers=(("x-tenant", "a"),))
        await client.infer(InferRequest(model_name="nobody", infer_inputs=request(binary=True).inputs))
    except Exception as error:  # noqa: BLE001 - whichever it raises is told
        told["error"] = str(error)
    await client.close()
    return told


async def main() -> None:
    """Ask both ways, and print what came back."""
    print(json.dumps({"REST": await over_rest(sys.argv[1]), "gRPC": await over_grpc(sys.argv[2])}))  # noqa: T201


asyncio.run(main())
