"""What it costs to run a batch in a process of its own, beside a thread of this one.

A worker that is a process is sent its batch as a pickle over a pipe (large arrays in shared memory) and sends the
results back the same way. That costs two pickles each way, two copies of the data each way, and two switches between
processes: a fixed time a batch, some a row, and some a byte. A thread pays none of it, but takes turns with the server
for the interpreter.

The model does nothing but add up its rows, so what is measured is the way there and back. Medians of many calls, thread
and process in turn; the last line is JSON.

    python benchmarks/workers.py
"""

from __future__ import annotations

import functools
import json
import statistics
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from carpool.models.target import wrap
from carpool.runtime.execute import run_checked
from carpool.runtime.process.remote import RemoteModel

if TYPE_CHECKING:
    from collections.abc import Callable

NUM_CALLS = 400
NUM_LARGE_CALLS = 12
WIDTH = 128
SIZES = (1, 8, 32, 64)
LARGE_BYTES = 100_000_000


def total(rows: list[Any]) -> list[Any]:
    """Add up each row: all the work there is."""
    return list(np.asarray(rows).sum(axis=1))


def echo(rows: list[Any]) -> list[Any]:
    """Send everything back."""
    return rows


def seconds(calls: list[Callable[[], object]], num_calls: int) -> list[float]:
    """Return the median time of each of some calls, which take turns."""
    taken: list[list[float]] = [[] for _ in calls]
    for _ in range(num_calls):
        for call, times in zip(calls, taken, strict=True):
            begin = time.perf_counter()
            call()
            times.append(time.perf_counter() - begin)
    return [statistics.median(times) for times in taken]


def measure() -> dict[str, float]:
    """Return the figures, in microseconds where they say so."""
    figures: dict[str, float] = {}
    here, begin = wrap(total), time.perf_counter()
    assert here.recipe is not None, "wrap notes how a model is made"
    there = RemoteModel(here, here.recipe)
    there.load()
    here.load()
    figures["start_ms"] = 1e3 * (time.perf_counter() - begin)
    for size in SIZES:
        rows = list(np.random.default_rng(0).random((size, WIDTH), dtype=np.float32))
        by_thread = functools.partial(run_checked, here.run, rows, size)
        thread_s, process_s = seconds([by_thread, functools.partial(there.run_checked, rows, size)], NUM_CALLS)
        figures[f"thread_{size}_us"], figures[f"process_{size}_us"] = 1e6 * thread_s, 1e6 * process_s
    there.close()
    large = wrap(echo)
    assert large.recipe is not None, "wrap notes how a model is made"
    there = RemoteModel(large, large.recipe)
    there.load()
    array = [np.ones(LARGE_BYTES // 4, np.float32)]
    figures["large_ms"] = 1e3 * seconds([lambda: there.run_checked(array, 1)], NUM_LARGE_CALLS)[0]
    there.close()
    return figures


def main() -> None:
    """Measure, and say what came of it."""
    figures = measure()
    print(f"starting a process that loads numpy and a function: {figures['start_ms']:.0f} ms")
    for size in SIZES:
        thread_us, process_us = figures[f"thread_{size}_us"], figures[f"process_{size}_us"]
        print(f"a batch of {size:2} x {WIDTH} float32: thread {thread_us:.0f} us, process {process_us:.0f} us")
    first, last = (figures[f"process_{size}_us"] - figures[f"thread_{size}_us"] for size in (SIZES[0], SIZES[-1]))
    item_us = (last - first) / (SIZES[-1] - SIZES[0])
    print(f"a process costs {first:.0f} us a batch and {item_us:.2f} us an item more")
    print(f"an array of {LARGE_BYTES / 1e6:.0f} MB there and back: {figures['large_ms']:.0f} ms")
    print(
        json.dumps(
            {"batch_us": round(first, 1), "item_us": round(item_us, 2), **{k: round(v, 1) for k, v in figures.items()}}
        )
    )


if __name__ == "__main__":
    main()
