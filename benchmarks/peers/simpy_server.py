"""The plainest batching server in simpy: dispatch on idle, up to a cap, one worker; takes items, rate, cap, a, c."""

import json
import random
import sys
import time
from collections.abc import Iterator
from typing import Any

import simpy


def main() -> None:
    """Simulate, and print the seconds that took and the mean latency."""
    num_items, rate, cap, overhead_s, item_s = (float(word) for word in sys.argv[1:])
    env, rng = simpy.Environment(), random.Random(0)
    queue: list[float] = []
    work = simpy.Store(env)
    total_s = 0.0

    def arrive() -> Iterator[Any]:
        for _ in range(int(num_items)):
            yield env.timeout(rng.expovariate(rate))
            queue.append(env.now)
            if not work.items:
                yield work.put(None)

    def serve() -> Iterator[Any]:
        nonlocal total_s
        while True:
            yield work.get()
            while queue:
                batch = queue[: int(cap)]
                del queue[: int(cap)]
                yield env.timeout(overhead_s + item_s * len(batch))
                total_s += sum(env.now - at for at in batch)

    env.process(serve())
    arrivals = env.process(arrive())
    began = time.perf_counter()
    env.run(arrivals)
    env.run()
    print(json.dumps({"took_s": time.perf_counter() - began, "mean_s": total_s / num_items}))


if __name__ == "__main__":
    main()
