"""LitServe: one worker process, its dynamic batching."""

from collections.abc import Sequence
from typing import Any

import litserve
import numpy as np
from fastapi import Request
from peers.serving.model import MAX_BATCH_SIZE, MAX_WAIT_S, PORT, WORKLOAD, make


class Api(litserve.LitAPI):
    """The model behind LitServe's hooks."""

    def setup(self, device: str) -> None:
        """Load the model in the worker."""
        del device
        self.model = make()

    def decode_request(self, request: Request) -> Any:  # so annotated, it is handed the document of a JSON body
        """Give the item of a request."""
        return np.asarray(request["x"], np.float32) if WORKLOAD == "null" else request["text"]

    def batch(self, inputs: Sequence[Any]) -> list[Any]:
        """Leave the items as a list."""
        return list(inputs)

    def predict(self, x: Any) -> Any:
        """Run a batch."""
        return self.model(x)

    def unbatch(self, output: Any) -> list[Any]:
        """Give a result an item."""
        return list(output)

    def encode_response(self, output: Any) -> dict[str, Any]:
        """Give the document of one result."""
        return {"y": output.tolist()}


if __name__ == "__main__":
    server = litserve.LitServer(
        Api(max_batch_size=MAX_BATCH_SIZE, batch_timeout=MAX_WAIT_S, api_path="/p"),
        accelerator="cpu",
        workers_per_device=1,
        timeout=60,
    )
    server.run(
        host="127.0.0.1",
        port=PORT,
        log_level="warning",
        generate_client_file=False,
        num_api_servers=1,
        access_log=False,
    )
