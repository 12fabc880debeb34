"""What the library itself costs an item, beside PyPI's `batched` and `fast-dynamic-batcher`, in one run.

A model that does nothing is called through each library by 64 asyncio clients, each with one call open, with a
batch limit of 64. Per item that leaves: making a future and waking its client (about 1.6 us in CPython 3.11, the floor
of any asyncio library), queueing, hand-over to the thread that runs the model and back (shared by the 64), and whatever
time the library spends on timers. Carpool hands over two locks' worth of work a batch and waits on no timer.

Peers are measured as documented (`batched`: timeout 5 ms; `fast-dynamic-batcher`: 100 ms is its default, and 1 ms, its
best, is what counts here) and, for `batched`, also with a timeout of 1 us, where its loop never sleeps: nearly as fast
as it can go, at the price of a whole core while idle. Runs are interleaved, and medians are compared.

    python benchmarks/batcher_overhead.py
"""

import json
import platform
import statistics
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from envs import environment

SCRIPT = Path(__file__).parent / "peers" / "overhead.py"
ROUNDS = 5
PEERS = {"batched": ["batched==0.1.5"], "fast_dynamic_batcher": ["fast-dynamic-batcher==1.1.0", "pydantic==2.12.5"]}
# name: (library, setting, calls a client)
CONTENDERS = {
    "carpool": ("carpool", "default", 400),
    "batched, timeout 5 ms (default)": ("batched", "5", 100),
    "batched, timeout 1 us (never idle)": ("batched", "0.001", 400),
    "fast-dynamic-batcher, delay 1 ms": ("fast_dynamic_batcher", "1", 10),
}


def measure(python: str, library: str, setting: str, num_calls: int) -> dict[str, float]:
    """Run one contender once, in its own process."""
    command = [python, str(SCRIPT), library, setting, str(num_calls)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0:
        sys.exit(f"{library} failed: {done.stderr.strip().splitlines()[-1:]}")
    result: dict[str, float] = json.loads(done.stdout)
    return result


def main() -> None:
    """Measure all contenders, print a table and one line of JSON."""
    pythons = {name: str(environment(name, pins)) for name, pins in PEERS.items()} | {"carpool": sys.executable}
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in CONTENDERS}
    for _ in range(ROUNDS):
        for name, (library, setting, num_calls) in CONTENDERS.items():
            runs[name].append(measure(pythons[library], library, setting, num_calls))
    medians = {name: statistics.median(run["us_per_item"] for run in runs[name]) for name in runs}
    ours = medians["carpool"]
    print(f"{'':36}{'us/item':>9}{'CPU us':>9}{'batch':>7}{'ratio':>8}")
    for name, results in runs.items():
        cpu = statistics.median(run["cpu_us_per_item"] for run in results)
        batch = results[-1]["mean_batch"]
        print(f"{name:36}{medians[name]:9.1f}{cpu:9.1f}{batch or float('nan'):7.1f}{medians[name] / ours:8.1f}")
    summary = {
        "vs_batched": round(medians["batched, timeout 5 ms (default)"] / ours, 2),
        "vs_batched_never_idle": round(medians["batched, timeout 1 us (never idle)"] / ours, 2),
        "vs_fast_dynamic_batcher": round(medians["fast-dynamic-batcher, delay 1 ms"] / ours, 2),
        "us_per_item": round(ours, 2),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "carpool": version("carpool"),
        "peers": [pins[0] for pins in PEERS.values()],
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
