"""What serving adds to a model: one client's wait, and the share of the model's own rate that survives the network.

Three figures of one run, taken in turns so that a machine that slows down slows all of them:

- *one client*: the median latency of a closed loop of one connection, against the same server without batching. A
  batcher that waits for company which can't come would show here.
- *saturation*: the rate of 64 connections in a closed loop, batches of up to 32.
- *the limit*: the same model called in a process of its own, with nothing around it: the same sentences tokenised,
  taken 64 at a time (as many as there are connections), sorted by length, run in full batches of 32.

On a machine whose cores all work for the model, the server's own work (HTTP, JSON, tokens) and the load generator's
take their time from it, and both are counted against the server. Where a batch of mixed lengths is padded, sorting by
length is worth more than everything else; the server can only sort what waits at one moment.

    python benchmarks/serve_saturation.py [--rounds 5] [--seconds 4]
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

CARPOOL = str(Path(sys.executable).with_name("carpool"))
TARGET = "demo:minilm"
CONNECTIONS = 64
MAX_BATCH_SIZE = 32
NUM_SENTENCES = 512  # as many different bodies as `carpool bench` sends


def limit_worker(dtype: str | None, num_threads: int | None) -> None:
    """Run the model alone: for each line that is read, so many seconds of it; write its rate."""
    from carpool.models.target import load_target
    from carpool.models.text import sentences

    model = load_target(TARGET, dtype=dtype, num_threads=num_threads)
    model.load()
    texts = sentences(NUM_SENTENCES, seed=0)
    run_windows(model, texts, 1.0)
    print("ready", flush=True)
    for line in sys.stdin:
        print(run_windows(model, texts, float(line)), flush=True)


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
def limit_process(*flags: str) -> Iterator[subprocess.Popen[str]]:
    """Start the model in a process of its own."""
    command = [sys.executable, __file__, "--limit-worker", *flags]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.terminate()


def ask_limit(process: subprocess.Popen[str], seconds: float) -> float:
    """Run the model alone for a while; return items a second."""
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
    found: dict[str, list[float]] = {"limit": [], "saturation": [], "batched_p50_ms": [], "unbatched_p50_ms": []}
    with ExitStack() as stack:
        alone = stack.enter_context(limit_process(*flags))
        batched = stack.enter_context(server("--max-batch-size", str(MAX_BATCH_SIZE), *flags))["url"]
        unbatched = stack.enter_context(server("--no-batching", *flags))["url"]
        load(batched, CONNECTIONS, seconds)  # meets every shape once
        for _ in range(rounds):
            found["batched_p50_ms"].append(load(batched, 1, seconds / 2)["p50_ms"])
            found["unbatched_p50_ms"].append(load(unbatched, 1, seconds / 2)["p50_ms"])
            found["limit"].append(ask_limit(alone, seconds))
            found["saturation"].append(load(batched, CONNECTIONS, seconds)["rate"])
    return found


def summarise(found: dict[str, list[float]]) -> dict[str, Any]:
    """Compare within each round, and take the median over the rounds."""
    pairs = zip(found["batched_p50_ms"], found["unbatched_p50_ms"], strict=True)
    shares = zip(found["saturation"], found["limit"], strict=True)
    return {
        "one_client_p50_ratio": round(statistics.median(batched / unbatched for batched, unbatched in pairs), 3),
        "saturation_vs_limit": round(statistics.median(served / limit for served, limit in shares), 3),
        **{name: round(statistics.median(values), 2) for name, values in found.items()},
        "machine": platform.machine(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("carpool", "torch", "uvicorn", "starlette")},
    }


def main() -> None:
    """Measure, print a table and one line of JSON."""
    parser = argparse.ArgumentParser(description="What serving adds to a model.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--dtype", help="of the model's weights; by default what suits the machine")
    parser.add_argument("--threads", type=int, help="of one operation; by default one for each core")
    parser.add_argument("--limit-worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.limit_worker:
        limit_worker(arguments.dtype, arguments.threads)
        return
    given = {"--dtype": arguments.dtype, "--threads": arguments.threads}
    flags = [word for name, value in given.items() if value is not None for word in (name, str(value))]
    found = measure(arguments.rounds, arguments.seconds, flags)
    print(f"{'round':>5}{'limit/s':>10}{'served/s':>10}{'share':>8}{'one client ms':>15}{'unbatched ms':>14}")
    columns = (found["limit"], found["saturation"], found["batched_p50_ms"], found["unbatched_p50_ms"])
    for number, (limit, served, batched, unbatched) in enumerate(zip(*columns, strict=True)):
        print(f"{number:5}{limit:10.1f}{served:10.1f}{served / limit:8.2f}{batched:15.2f}{unbatched:14.2f}")
    print(json.dumps(summarise(found)))


if __name__ == "__main__":
    main()
