"""Ray Serve: one replica, `serve.batch`, the model in a thread so that the replica's loop stays free."""

import asyncio
import signal
from typing import Any

import numpy as np
import ray
from peers.serving.model import MAX_BATCH_SIZE, MAX_WAIT_S, PORT, WORKLOAD, make
from ray import serve

QUIET = {"enable_access_log": False, "log_level": "WARNING"}


@serve.deployment(max_ongoing_requests=1000, logging_config=QUIET)
class Deployment:
    """The model behind Ray Serve's batching."""

    def __init__(self) -> None:
        self.model = make()

    @serve.batch(max_batch_size=MAX_BATCH_SIZE, batch_wait_timeout_s=MAX_WAIT_S)
    async def run(self, items: list[Any]) -> list[Any]:
        """Run a batch."""
        return list(await asyncio.to_thread(self.model, items))

    async def __call__(self, request: Any) -> dict[str, Any]:
        """Answer one request."""
        body = await request.json()
        item = np.asarray(body["x"], np.float32) if WORKLOAD == "null" else body["text"]
        return {"y": (await self.run(item)).tolist()}


if __name__ == "__main__":
    ray.init(
        num_cpus=4,  # proxy, controller and replica may then all be placed on two cores
        include_dashboard=False,
        _node_ip_address="127.0.0.1",
        log_to_driver=False,
        object_store_memory=200 << 20,
    )
    serve.start(http_options={"host": "127.0.0.1", "port": PORT}, logging_config=QUIET)
    application: Any = Deployment
    serve.run(application.bind(), route_prefix="/")
    signal.pause()
