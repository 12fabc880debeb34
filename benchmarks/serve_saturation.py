"""What serving adds to a model: one client's wait, and the share of the model's own rate that survives the network.

Four figures of one run, taken in turns so that a machine that slows down slows all of them:

- *one client*: the median latency of a closed loop of one connection, against the same server without batching. A
  batcher that waits for company which can't come would show here. Which of the two goes first alternates, since the
  heavy load before it may leave the machine slower for a while.
- *saturation*: the rate of 64 connections in a closed loop, batches of up to 32.
- *the limit*: the same model called in a process of its own, with nothing around it: the same sentences tokenised,
  taken 64 at a time (as many as there are connections), sorted by length, run in full batches of 32.
- *in process*: the same batcher with the same policy, called by 64 clients in one process, with no network.

The limit is a fixed way to batch and no upper bound: a full batch may hold more tokens than the processor's caches
like, and a batcher that cuts what waits to a budget of tokens is faster on the same items. Saturation over the limit
can therefore exceed 1, and says how well batches are formed as much as what serving costs. Saturation over *in process*
has the same policy on both sides: that is what HTTP, JSON and the load generator take from the model.

    python benchmarks/serve_saturation.py [--rounds 6] [--seconds 6]
"""

import argparse
import asyncio
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from carpool import Batcher

CARPOOL = str(Path(sys.executable).with_name("carpool"))
TARGET = "demo:minilm"
CONNECTIONS = 64
MAX_BATCH_SIZE = 32
NUM_SENTENCES = 512  # as many different bodies as `carpool bench` sends


def work(way: str, dtype: str | None, num_threads: int | None) -> None:
    """Run the model in this process: for each line that is read, so many seconds of it; write its rate."""
    from carpool.models.target import load_target
    from carpool.models.text import sentences

    model = load_target(TARGET, dtype=dtype, num_threads=num_threads)
    texts = sentences(NUM_SENTENCES, seed=0)
    if way == "limit":
        model.load()
        answer_lines(lambda seconds: run_windows(model, texts, seconds))
        return
    with Batcher(model, max_batch_size=MAX_BATCH_SIZE) as batcher:
        answer_lines(lambda seconds: asyncio.run(run_clients(batcher, texts, seconds)))


def answer_lines(run: Callable[[float], float]) -> None:
    """Warm up, say so, and then answer each line that is read, a number of seconds, by a rate."""
    run(2.0)
    print("ready", flush=True)
    for line in sys.stdin:
        print(run(float(line)), flush=True)


async def run_clients(batcher: Batcher, texts: list[str], seconds: float) -> float:
    """Call a batcher from as many clients as there are connections, each with one call open; return items a second."""
    feed, num_items = itertools.cycle(texts), 0
    started_at = time.perf_counter()

    async def client() -> None:
        nonlocal num_items
        while time.perf_counter() - started_at < seconds:
            await batcher(next(feed))
            num_items += 1

    await asyncio.gather(*(client() for _ in range(CONNECTIONS)))
    return num_items / (time.perf_counter() - started_at)


def run_windows(model: Any, texts: list[str], seconds: float) -> float:
    """Run sorted full batches for a while; return items a second."""
    num_items, started_at = 0, time.perf_counter()
    while True:
        for start in range(0, len(texts), CONNECTIONS):
            window = sorted((model.admit(text) for text in texts[start : start + CONNECTIONS]), key=lambda a: a.length)
            for first in range(0, len(window), MAX_BATCH_SIZE):
                batch = [admitted.payload for admitted in window[first : first + MAX_BATCH_SIZE]]
                model.run(batch)
                num_items += len(batch)
            elapsed_s = time.perf_counter() - started_at
            if elapsed_s > seconds:
                return num_items / elapsed_s


@contextmanager
def model_process(way: str, *flags: str) -> Iterator[subprocess.Popen[str]]:
    """Start the model in a process of its own, to be run in one way."""
    command = [sys.executable, __file__, "--worker", way, *flags]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.terminate()


def ask(process: subprocess.Popen[str], seconds: float) -> float:
    """Run the model of a process for a while; return items a second."""
    assert process.stdin is not None
    assert process.stdout is not None
    print(seconds, file=process.stdin, flush=True)
    return float(process.stdout.readline())


@contextmanager
def server(*flags: str) -> Iterator[dict[str, Any]]:
    """Start `carpool serve`; give what it says when it is ready."""
    command = [CARPOOL, "serve", TARGET, "--port", "0", "--json", *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("}"):
                break
        if not lines:
            sys.exit(f"the server did not start: {process.communicate()[1]}")
        yield json.loads("".join(lines))
        process.terminate()


def load(url: str, connections: int, seconds: float) -> dict[str, float]:
    """Drive a server in a closed loop from a process of its own; return its rate and median latency."""
    command = [CARPOOL, "bench", url, "--json"]
    command += ["--connections", str(connections), "--duration", f"{seconds}s", "--timeout", "60s"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120 + 2 * seconds, check=False)
    if done.returncode != 0:
        sys.exit(f"the load failed: {done.stdout} {done.stderr}")
    found = json.loads(done.stdout)
    return {"rate": found["sustained_rate"], "p50_ms": 1e3 * found["latency_s"]["p50"]["value"]}


def measure(rounds: int, seconds: float, flags: list[str]) -> dict[str, list[float]]:
    """Take all figures, in turns."""
    names = ("limit", "in_process", "saturation", "batched_p50_ms", "unbatched_p50_ms")
    found: dict[str, list[float]] = {name: [] for name in names}
    with ExitStack() as stack:
        limit = stack.enter_context(model_process("limit", *flags))
        in_process = stack.enter_context(model_process("in_process", *flags))
        batched = stack.enter_context(server("--max-batch-size", str(MAX_BATCH_SIZE), *flags))["url"]
        unbatched = stack.enter_context(server("--no-batching", *flags))["url"]
        load(batched, CONNECTIONS, seconds)  # meets every shape once
        one_client = [("batched_p50_ms", batched), ("unbatched_p50_ms", unbatched)]
        for number in range(rounds):
            for name, url in one_client[:: 1 if number % 2 == 0 else -1]:
                found[name].append(load(url, 1, seconds)["p50_ms"])
            found["limit"].append(ask(limit, seconds))
            found["in_process"].append(ask(in_process, seconds))
            found["saturation"].append(load(batched, CONNECTIONS, seconds)["rate"])
    return found


def ratio(found: dict[str, list[float]], above: str, below: str) -> float:
    """Compare within each round, and take the median over the rounds."""
    pairs = zip(found[above], found[below], strict=True)
    return round(statistics.median(one / other for one, other in pairs), 3)


def summarise(found: dict[str, list[float]]) -> dict[str, Any]:
    """Give the ratios, what they are made of, and what they were measured on."""
    return {
        "one_client_p50_ratio": ratio(found, "batched_p50_ms", "unbatched_p50_ms"),
        "saturation_vs_limit": ratio(found, "saturation", "limit"),
        "saturation_vs_in_process": ratio(found, "saturation", "in_process"),
        **{name: round(statistics.median(values), 2) for name, values in found.items()},
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("carpool", "torch", "httptools", "uvloop")},
    }


def main() -> None:
    """Measure, print a table and one line of JSON."""
    parser = argparse.ArgumentParser(description="What serving adds to a model.")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--dtype", help="of the model's weights; by default what suits the machine")
    parser.add_argument("--threads", type=int, help="of one operation; by default one for each core")
    parser.add_argument("--worker", choices=["limit", "in_process"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(arguments.worker, arguments.dtype, arguments.threads)
        return
    given = {"--dtype": arguments.dtype, "--threads": arguments.threads}
    flags = [word for name, value in given.items() if value is not None for word in (name, str(value))]
    found = measure(arguments.rounds, arguments.seconds, flags)
    print(f"{'round':>5}" + "".join(f"{name:>18}" for name in found))
    for number, row in enumerate(zip(*found.values(), strict=True)):
        print(f"{number:5}" + "".join(f"{value:18.2f}" for value in row))
    print(json.dumps(summarise(found)))


if __name__ == "__main__":
    main()
