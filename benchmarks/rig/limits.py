"""What a model reaches with nothing around it; prints JSON. Each way runs in a process of its own.

    python -m rig.limits null|padded|alone|window --seconds 2 [--expected FILE.npy]

- *null*: the null model on batches of 1, 32 and 64.
- *padded*: MiniLM as the peers' users write it, padded to the longest of a batch: batches of 1 and of 32 in the order
  of arrival.
- *alone*: MiniLM as ours loads it, one item at a time.
- *window*: the same behind its batcher, in windows of 64 items, cut into batches as the server would.

With --expected it also writes the answers to the first items, which every server must give.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rig.workloads import WORKLOADS

from carpool.models.demo import minilm_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

NUM_EXPECTED = 64
WINDOW = 64


def pace(calls: Iterable[Callable[[], int]], seconds: float) -> dict[str, float]:
    """Make calls, each of which gives the number of its items, for a while; tell items a second and the median time."""
    times_s, num_items = [], 0
    started_at = at = time.perf_counter()
    for call in calls:
        num_items += call()
        now = time.perf_counter()
        times_s.append(now - at)
        at = now
        if now - started_at > seconds:
            break
    return {"rate": num_items / (at - started_at), "p50_ms": 1e3 * statistics.median(times_s)}


def in_batches(model: Callable[[Sequence[Any]], Any], items: Sequence[Any], size: int) -> Iterable[Callable[[], int]]:
    """Give calls of a model on one batch after another, for ever."""

    def call(first: int) -> Callable[[], int]:
        return lambda: len(model(items[first : first + size]))

    return itertools.cycle([call(first) for first in range(0, len(items) - size + 1, size)])


def plain_model(workload: str) -> Callable[[Sequence[Any]], Any]:
    """Make the model that the peers serve."""
    with tempfile.NamedTemporaryFile() as counts:
        counts.write(bytes(16))
        counts.flush()
        os.environ |= {"WORKLOAD": workload, "PORT": "0", "COUNTS": counts.name, "MINILM": str(minilm_directory())}
        from peers.serving.model import make

        return make()


def measure_plain(workload: str, sizes: Sequence[int], name: str, seconds: float) -> dict[str, dict[str, float]]:
    """Run the peers' model on batches of several sizes, in the order of arrival."""
    model, items = plain_model(workload), WORKLOADS[workload].items()
    items = [np.asarray(item, np.float32) for item in items] if workload == "null" else items
    found = {}
    for size in sizes:
        pace(in_batches(model, items, size), seconds / 2)
        found[f"{name}_{size}"] = pace(in_batches(model, items, size), seconds)
    return found


def measure_alone(seconds: float) -> dict[str, dict[str, float]]:
    """Run our MiniLM on one item at a time, tokenised each time."""
    from carpool.models.target import load_target

    model = load_target("demo:minilm")
    model.load()
    texts = WORKLOADS["minilm"].items()

    def run(one: Sequence[str]) -> Sequence[str]:
        model.run([model.admit(text).payload for text in one])
        return one

    pace(in_batches(run, texts, 1), seconds)
    return {"own_1": pace(in_batches(run, texts, 1), seconds)}


def measure_window(seconds: float) -> dict[str, dict[str, float]]:
    """Run our MiniLM in process behind its batcher, given as many items at a time as there are connections."""
    from carpool import Batcher
    from carpool.models.target import load_target

    texts = WORKLOADS["minilm"].items()
    with Batcher(load_target("demo:minilm")) as batcher:
        pace(in_batches(batcher.map, texts, WINDOW), 2 * seconds)
        return {"own_window": pace(in_batches(batcher.map, texts, WINDOW), 2 * seconds)}


def write_expected(workload: str, path: Path) -> None:
    """Write what the plain model answers to the first items, one at a time, so that nothing is padded."""
    model = plain_model(workload)
    np.save(path, np.asarray([np.ravel(model([item])[0]) for item in WORKLOADS[workload].items()[:NUM_EXPECTED]]))


def main() -> None:
    """Measure one way."""
    parser = argparse.ArgumentParser(description="What a model reaches with nothing around it.")
    parser.add_argument("way", choices=["null", "padded", "alone", "window"])
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--expected", type=Path)
    arguments = parser.parse_args()
    workload = "null" if arguments.way == "null" else "minilm"
    if arguments.expected:
        write_expected(workload, arguments.expected)
    seconds = arguments.seconds
    ways: dict[str, Callable[[], dict[str, dict[str, float]]]] = {
        "null": lambda: measure_plain("null", (1, 32, 64), "batch", seconds),
        "padded": lambda: measure_plain("minilm", (1, 32), "padded", seconds),
        "alone": lambda: measure_alone(seconds),
        "window": lambda: measure_window(seconds),
    }
    print(json.dumps(ways[arguments.way]()))


if __name__ == "__main__":
    main()
