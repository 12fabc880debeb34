"""Drive one batching library with a model that does nothing; run in that library's own environment.

    python overhead.py carpool|batched|fast_dynamic_batcher SETTING NUM_CALLS

64 clients each await one call after another, so that a batch of 64 is always to be had. What is left once the model
costs nothing is what the library costs: futures, queues, hand-overs between threads, and time spent waiting on timers.
Prints one JSON object: wall and CPU microseconds an item, and the mean batch that the model saw (where it runs here).
"""

import asyncio
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

NUM_CLIENTS = 64
BATCH_SIZES: list[int] = []

Call = Callable[[int], Awaitable[Any]]
Measure = Callable[[Call], Awaitable[tuple[float, float]]]


def do_nothing(items: list[int]) -> list[int]:
    """Return the items."""
    BATCH_SIZES.append(len(items))
    return items


async def drive(call: Call, num_calls: int) -> tuple[float, float]:
    """Let every client make `num_calls` calls, one after the other; return seconds of wall and CPU time an item."""

    async def client() -> None:
        for _ in range(num_calls):
            await call(1)

    BATCH_SIZES.clear()
    wall, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(client() for _ in range(NUM_CLIENTS)))
    num_items = num_calls * NUM_CLIENTS
    return (time.perf_counter() - wall) / num_items, (time.process_time() - cpu) / num_items


async def with_carpool(_: str, measure: Measure) -> tuple[float, float]:
    """Carpool with a batch limit of 64 and its default wait: none."""
    import carpool

    async with carpool.Batcher(do_nothing, max_batch_size=NUM_CLIENTS) as batcher:
        return await measure(batcher)


async def with_batched(setting: str, measure: Measure) -> tuple[float, float]:
    """`batched` with a batch limit of 64; the setting is its timeout in milliseconds."""
    from batched import aio

    return await measure(aio.dynamically(do_nothing, batch_size=NUM_CLIENTS, timeout_ms=float(setting)))


async def with_fast_dynamic_batcher(setting: str, measure: Measure) -> tuple[float, float]:
    """`fast-dynamic-batcher` with a batch limit of 64; the setting is its longest delay in milliseconds.

    Each call blocks a thread of the loop's pool, so the pool is given as many as there are clients.
    """
    from fast_dynamic_batcher.dyn_batcher import DynBatcher

    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(NUM_CLIENTS))
    return await measure(DynBatcher(Echo, max_batch_size=NUM_CLIENTS, max_delay=float(setting) / 1e3).process_batched)


async def main(library: str, setting: str, num_calls: int) -> None:
    """Warm up, measure, and print."""

    async def measure(call: Call) -> tuple[float, float]:
        await drive(call, max(1, num_calls // 10))
        return await drive(call, num_calls)

    drivers = {"carpool": with_carpool, "batched": with_batched, "fast_dynamic_batcher": with_fast_dynamic_batcher}
    wall_s, cpu_s = await drivers[library](setting, measure)
    mean_batch = sum(BATCH_SIZES) / len(BATCH_SIZES) if BATCH_SIZES else None
    print(
        json.dumps({"us_per_item": wall_s * 1e6, "cpu_us_per_item": cpu_s * 1e6, "mean_batch": mean_batch}), flush=True
    )


try:
    from fast_dynamic_batcher.inference_template import InferenceModel

    class Echo(InferenceModel):  # type: ignore[misc]
        """The model that does nothing, as this library wants it: a class that its own process imports."""

        def infer(self, inputs: list[Any]) -> list[Any]:
            """Return the items."""
            return list(inputs)
except ImportError:
    pass

if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
    for process in multiprocessing.active_children():
        process.kill()
    os._exit(0)  # a peer's threads would keep this process alive
