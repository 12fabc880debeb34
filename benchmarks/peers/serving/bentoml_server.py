"""BentoML: one worker, adaptive batching.

It has an objective of latency, and no longest wait: what it cannot promise to keep it refuses with 503. The objective
is set so high that it refuses nothing.
"""

from typing import Annotated

import bentoml
import numpy as np
from bentoml.validators import DType, Shape
from numpy.typing import NDArray
from peers.serving.model import MAX_BATCH_SIZE, WORKLOAD, make

OBJECTIVE_MS = 10_000


@bentoml.service(workers=1, traffic={"timeout": 60, "max_concurrency": 1000}, logging={"access": {"enabled": False}})
class Service:
    """The model behind BentoML's batching."""

    def __init__(self) -> None:
        self.model = make()

    if WORKLOAD == "null":

        @bentoml.api(batchable=True, max_batch_size=MAX_BATCH_SIZE, max_latency_ms=OBJECTIVE_MS)
        def p(self, x: Annotated[NDArray[np.float32], DType("float32"), Shape((-1, 128))]) -> NDArray[np.float32]:
            """Sum rows."""
            return self.model(x)

    else:

        @bentoml.api(batchable=True, max_batch_size=MAX_BATCH_SIZE, max_latency_ms=OBJECTIVE_MS)
        def p(self, text: list[str]) -> NDArray[np.float32]:
            """Embed texts."""
            return self.model(text)
