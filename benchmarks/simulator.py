"""What simulating an item costs, beside the same server written in simpy, in one run on one core.

One million requests reach one server whose batches take `5 ms + 1 ms a item`. Each item has to be made, queued, chosen,
and accounted for; each batch costs a choice and two events. So the cost an item falls as batches grow, and rises with
mixed lengths, where the former weighs how to cut what waits into batches of like length. What is simulated is the very
batch former of the live server, with everything that it can do; simpy's server has one rule, take what is there up to a
cap, which is the same policy for items of one length: both must find the same mean latency.

    python benchmarks/simulator.py
"""

import json
import platform
import subprocess
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from envs import environment

from carpool.core import AffineCost, Policy
from carpool.plan.setup import Setup
from carpool.plan.simulate import simulate
from carpool.plan.stream import Stream

SCRIPT = Path(__file__).parent / "peers" / "simpy_server.py"
NUM_ITEMS, CAP, OVERHEAD_S, ITEM_S = 1_000_000, 32, 0.005, 0.001
MEAN_LENGTH = 50


def rate_at(utilisation: float) -> float:
    """Return the arrivals a second that are this share of what full batches can do."""
    return utilisation * CAP / (OVERHEAD_S + CAP * ITEM_S)


def ours(utilisation: float, *, mixed: bool = False, deadline_s: float | None = None) -> tuple[float, float]:
    """Simulate; return the seconds that took and the mean latency."""
    rng = np.random.default_rng(0)
    times_s = np.cumsum(rng.exponential(1 / rate_at(utilisation), NUM_ITEMS))
    lengths = rng.integers(5, 2 * MEAN_LENGTH - 4, NUM_ITEMS) if mixed else np.ones(NUM_ITEMS, np.int64)
    buckets = tuple(range(8, 105, 8)) if mixed else ()
    stream = Stream(
        times_s=times_s,
        lengths=lengths,
        window_s=float(times_s[-1]),
        deadlines_s=None if deadline_s is None else np.full(NUM_ITEMS, deadline_s),
    )
    cost = AffineCost(overhead_s=OVERHEAD_S, token_s=ITEM_S / (MEAN_LENGTH if mixed else 1))
    began = time.perf_counter()
    run = simulate(stream, Setup(policy=Policy(max_batch_size=CAP, length_buckets=buckets)), cost)
    return time.perf_counter() - began, float(run.latencies_s.mean())


def simpys(utilisation: float) -> tuple[float, float]:
    """Let simpy do the same in a process of its own."""
    python = str(environment("simpy", ["simpy==4.1.1"]))
    values = [str(value) for value in (NUM_ITEMS, rate_at(utilisation), CAP, OVERHEAD_S, ITEM_S)]
    done = subprocess.run([python, str(SCRIPT), *values], capture_output=True, text=True, timeout=600, check=True)
    found = json.loads(done.stdout)
    return found["took_s"], found["mean_s"]


def main() -> None:
    """Measure, print a table and one line of JSON."""
    rows = {}
    for utilisation in (0.3, 0.6, 0.9):
        rows[f"utilisation {utilisation}, one length"] = ours(utilisation)
        rows[f"utilisation {utilisation}, one length, simpy"] = simpys(utilisation)
    rows["utilisation 0.6, mixed lengths"] = ours(0.6, mixed=True)
    rows["utilisation 0.6, one length, deadlines"] = ours(0.6, deadline_s=60.0)
    print(f"{'1,000,000 requests, at most ' + str(CAP) + ' in a batch':48}{'seconds':>9}{'mean latency':>15}")
    for name, (took_s, mean_s) in rows.items():
        print(f"{name:48}{took_s:9.2f}{mean_s * 1e3:12.2f} ms")
    seconds = {name: row[0] for name, row in rows.items()}
    summary = {
        "million_s": round(seconds["utilisation 0.6, one length"], 2),
        "million_mixed_lengths_s": round(seconds["utilisation 0.6, mixed lengths"], 2),
        "million_deadlines_s": round(seconds["utilisation 0.6, one length, deadlines"], 2),
        "vs_simpy": round(seconds["utilisation 0.6, one length, simpy"] / seconds["utilisation 0.6, one length"], 2),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "carpool": version("carpool"),
        "peers": ["simpy==4.1.1"],
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
