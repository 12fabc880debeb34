"""Measurements made up from a known truth, shared by the tests of the cost model."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from carpool.cost.points import Measurement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
LENGTHS = (8, 16, 32, 64, 128, 256)


def measure(
    truth: Callable[[int, int], float],
    *,
    sizes: Iterable[int] = SIZES,
    lengths: Iterable[int] = (1,),
    noise: float = 0.0,
    seed: int = 0,
) -> list[Measurement]:
    """Measure a known function of batch size and length, with relative normal noise and intervals to match."""
    rng = np.random.default_rng(seed)
    points = []
    for length in lengths:
        for batch_size in sizes:
            time_s = truth(batch_size, length) * float(np.exp(rng.normal(0.0, noise)))
            low_s, high_s = time_s * np.exp(-1.96 * noise), time_s * np.exp(1.96 * noise)
            points.append(
                Measurement(
                    batch_size=batch_size, length=length, time_s=time_s, low_s=float(low_s), high_s=float(high_s)
                )
            )
    return points


def linear(batch_size: int, length: int) -> float:
    """Overhead of 2 ms, then 1 ms an item."""
    return 2e-3 + 1e-3 * batch_size


def encoder(batch_size: int, length: int) -> float:
    """An encoder: a call, small products at low efficiency, tokens, attention."""
    tokens = batch_size * length
    return 3e-3 + 1e-4 * math.sqrt(tokens) + 2e-5 * tokens + 2e-8 * tokens * length
