"""mosec: a Rust front, one worker process behind it."""

import os
from typing import Any

import numpy as np
from mosec import Server, Worker
from peers.serving.model import MAX_BATCH_SIZE, MAX_WAIT_S, PORT, WORKLOAD, make

os.environ |= {"MOSEC_PORT": str(PORT), "MOSEC_ADDRESS": "127.0.0.1", "MOSEC_TIMEOUT": "60000"}


class Inference(Worker):
    """The model as mosec's worker."""

    def __init__(self) -> None:
        super().__init__()
        self.model = make()

    def forward(self, data: list[Any]) -> list[Any]:
        """Run a batch of documents."""
        if WORKLOAD == "null":
            results = self.model([np.asarray(one["x"], np.float32) for one in data])
        else:
            results = self.model([one["text"] for one in data])
        return [{"y": result.tolist()} for result in results]


if __name__ == "__main__":
    server = Server()
    server.append_worker(Inference, num=1, max_batch_size=MAX_BATCH_SIZE, max_wait_time=int(1e3 * MAX_WAIT_S))
    server.run()
