"""Triton: the real server, from the wheel of pytriton, with the model in Python behind it."""

from typing import Any

import numpy as np
from peers.serving.model import MAX_BATCH_SIZE, MAX_WAIT_S, PORT, WORKLOAD, make
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

model = make()

if WORKLOAD == "null":

    @batch
    def infer(x: Any) -> dict[str, Any]:
        """Sum rows: (n, 128) to (n, 1)."""
        return {"y": model(x)[:, None]}

    inputs, outputs = Tensor(name="x", dtype=np.float32, shape=(128,)), Tensor(name="y", dtype=np.float32, shape=(1,))
else:

    @batch
    def infer(x: Any) -> dict[str, Any]:
        """Embed texts: (n, 1) of bytes to (n, 384)."""
        return {"y": model([text.decode() for text in x[:, 0]])}

    inputs, outputs = Tensor(name="x", dtype=bytes, shape=(1,)), Tensor(name="y", dtype=np.float32, shape=(384,))

if __name__ == "__main__":
    addresses = TritonConfig(
        http_port=PORT,
        http_address="127.0.0.1",
        grpc_port=PORT + 1,
        grpc_address="127.0.0.1",
        allow_metrics=False,
        log_verbose=0,
    )
    batching = ModelConfig(
        max_batch_size=MAX_BATCH_SIZE, batcher=DynamicBatcher(max_queue_delay_microseconds=int(1e6 * MAX_WAIT_S))
    )
    with Triton(config=addresses) as triton:
        triton.bind(model_name="m", infer_func=infer, inputs=[inputs], outputs=[outputs], strict=False, config=batching)
        triton.serve()
