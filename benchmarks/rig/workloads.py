"""What is asked of every server: two models, the items sent to them, and at which loads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from carpool.models.demo import NULL_WIDTH
from carpool.models.text import sentences

if TYPE_CHECKING:
    from numpy.typing import NDArray

NUM_BODIES = {"null": 256, "minilm": 2048}


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A model and its load.

    Args:
        name: of the model.
        connections: of the closed loops, ascending.
        max_batch_size: that every server is given.
        max_wait_s: that every server is given, or what it has nearest to that.
        objective_s: longest latency that counts in the open loop.
        rates: of the open loop, ascending, as shares of the in-process limit that `basis` names.
        basis: a figure of `rig.limits`.
        warm_s: seconds of load before anything is measured.
    """

    name: str
    connections: tuple[int, ...]
    max_batch_size: int
    max_wait_s: float
    objective_s: float
    rates: tuple[float, ...]
    basis: str
    warm_s: float

    def items(self) -> list[Any]:
        """Items as JSON writes them: lists of 128 floats, or sentences of 5 to 60 words."""
        num = NUM_BODIES[self.name]
        if self.name == "minilm":
            return list(sentences(num, min_words=5, max_words=60))
        rows = np.random.default_rng(0).standard_normal((num, NULL_WIDTH), dtype=np.float32)
        return [[round(float(value), 4) for value in row] for row in rows]

    def is_answer(self, got: NDArray[np.float32], expected: NDArray[np.float32]) -> bool:
        """Tell whether a server's answer is the right one, up to what bfloat16 and padding change.

        Args:
            got: numbers of one answer.
            expected: what the model in this process gives: one sum, or 384 numbers of length one.
        """
        if got.shape != expected.shape:
            return False
        if self.name == "null":
            return bool(np.allclose(got, expected, rtol=1e-4, atol=1e-3))
        return float(got @ expected / (np.linalg.norm(got) * np.linalg.norm(expected))) > LEAST_COSINE


LEAST_COSINE = 0.995

WORKLOADS = {
    "null": Workload(
        name="null",
        connections=(1, 32, 128),
        max_batch_size=64,
        max_wait_s=0.002,
        objective_s=0.025,
        rates=(0.1, 0.4),
        basis="batch_64",
        warm_s=1.0,
    ),
    "minilm": Workload(
        name="minilm",
        connections=(1, 16, 64),
        max_batch_size=32,
        max_wait_s=0.005,
        objective_s=0.25,
        rates=(0.5, 1.1),
        basis="padded_32",
        warm_s=4.0,
    ),
}
