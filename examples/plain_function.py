"""Search a table of vectors with a plain function over a list: no framework, only numpy.

One query alone reads the whole table from memory; a batch of queries reads it once for all of them, and that is what
batching saves here.

Run it::

    python examples/plain_function.py

Measure what batching buys, and serve it::

    carpool profile examples/plain_function.py:nearest
    carpool serve examples/plain_function.py:nearest
"""

import asyncio

import numpy as np
from numpy.typing import NDArray

import carpool
from carpool.units import counted

WIDTH, NUM_ROWS = 128, 50_000
TABLE = np.random.default_rng(0).standard_normal((NUM_ROWS, WIDTH), dtype=np.float32)


def nearest(queries: list[NDArray[np.float32]]) -> list[int]:
    """For each query, the row of the table with the largest inner product.

    Args:
        queries: vectors of 128 numbers.
    """
    products = np.asarray(queries, dtype=np.float32) @ TABLE.T  # (B, NUM_ROWS)
    return [int(row) for row in products.argmax(axis=1)]


def check(query: NDArray[np.float32]) -> None:
    """Refuse a query before it can join, and fail, a batch.

    Args:
        query: what a caller sent.

    Raises:
        ValueError: it is not a vector of 128 numbers.
    """
    if np.shape(query) != (WIDTH,):
        raise ValueError(f"a query has {WIDTH} numbers, this one has the shape {np.shape(query)}")


# The optional parts of a target are attributes of the function.
nearest.check = check  # type: ignore[attr-defined]
nearest.examples = list(TABLE[:256] + 0.1)  # type: ignore[attr-defined]


async def main() -> None:
    """Send queries one by one from many tasks, and one that is refused alone."""
    async with carpool.Batcher(nearest, max_batch_size=64) as batcher:
        rows = await asyncio.gather(*(batcher(TABLE[row]) for row in range(200)))
        try:
            await batcher([1.0, 2.0])
        except carpool.InvalidItem as error:
            print(f"refused: {error}")
        totals = batcher.metrics.totals()
    batches = counted(totals.num_batches, "batch")
    print(f"{len(rows)} queries in {batches}; all found themselves: {rows == list(range(200))}")


if __name__ == "__main__":
    asyncio.run(main())
