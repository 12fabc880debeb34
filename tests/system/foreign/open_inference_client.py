"""PyPI's open-inference-openapi, as its documentation shows it; run by the Python of an environment that has it."""

import json
import sys

from open_inference.openapi.client import InferenceRequest, OpenInferenceClient
from open_inference.openapi.core.api_error import ApiError

client = OpenInferenceClient(base_url=sys.argv[1])
client.check_server_liveness()  # these raise where the server says no
client.check_server_readiness()
client.check_model_readiness("pair")
values = {"name": "values", "shape": [2, 2], "datatype": "FP32", "data": [1, 2, 3, 4]}
count = {"name": "count", "shape": [2, 1], "datatype": "INT64", "data": [1, 1]}
request = InferenceRequest(id="seven", inputs=[values, count])
answer = client.model_infer("pair", request=request).dict()
told = {
    "server": client.read_server_metadata().dict()["name"],
    "inputs": [tensor["name"] for tensor in client.read_model_metadata("pair").dict()["inputs"]],
    "total": next(output["data"] for output in answer["outputs"] if output["name"] == "total"),
    "id": answer["id"],
}
try:
    client.model_infer("nobody", request=request)
except ApiError as error:
    told["error"] = [error.status_code, str(error.body)]
print(json.dumps(told, default=lambda model: model["__root__"]))  # noqa: T201
