"""Carpool's server beside others, in one run: rate, latency, CPU, memory, and what is left of the model's own pace.

Two models. The *null model* takes 2 ms and 0.02 ms an item, asleep: what a server loses to its own work, or to batches
that it forms too small, is all that shows. *MiniLM* computes on every core that the server and the load leave it: there
the gain lies in computing less (no padding, better shapes), and a server that burns CPU takes it from the model.

Each server is started alone, asked until it answers right, warmed, and loaded: closed loops by wrk, in which each
connection waits for its answer, then open loops, in which requests come at random times whatever becomes of the
answers. An open loop is what traffic does: a server that falls behind gets no mercy there. The servers take turns,
round after round, so that a machine that slows down slows all of them; ratios are taken within a round, and their
medians shown.

The peers run in environments of their own and serve the models as their users would write them, in bfloat16 as ours.
Where the system allows it, each visit has a network namespace of its own. Limits are the models with nothing around
them: full batches of 64 for the null model, and for MiniLM our own batcher in process, in windows of 64 items.

    python benchmarks/serving.py [--only carpool,mosec] [--workloads null] [--rounds 3] [--seconds 4] [--write]

It takes about 25 minutes in full. With --write it fills its section of benchmarks/README.md and draws
docs/images/serving.png.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rig.about import machine, names, replace
from rig.contenders import CONTENDERS
from rig.results import Results, Round, picture, ratios, rows_behind, tables
from rig.section import section
from rig.workloads import WORKLOADS, Workload

BENCHMARKS = Path(__file__).parent
PICTURE = BENCHMARKS.parent / "docs/images/serving.png"
WAYS = {"null": ("null",), "minilm": ("padded", "alone", "window")}
NEEDS_ISOLATION = {"ray"}  # listens on every address, whatever it is told


def isolation() -> list[str]:
    """Give the command that runs another in a network namespace of its own; empty where the system forbids it."""
    command = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--net", "--map-root-user"]
    try:
        allowed = subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        allowed = False
    return command if allowed else []


def run_module(module: str, *arguments: str, prefix: list[str]) -> dict[str, Any]:
    """Run a module of the rig in a process of its own, and read the document that it prints; a failure once more."""
    command = [*prefix, sys.executable, "-m", module, *arguments]
    environment = os.environ | {"PYTHONPATH": str(BENCHMARKS)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        print(f"{' '.join(arguments[:2])} failed, and is tried once more:\n{done.stderr[-1000:]}", flush=True)
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(arguments[:2])} failed again:\n{done.stderr[-4000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure_limits(workload: str, seconds: float, expected: Path) -> dict[str, dict[str, float]]:
    """Measure a model with nothing around it, and keep its answers to the first items."""
    found: dict[str, dict[str, float]] = {}
    for way in WAYS[workload]:
        keep = ["--expected", str(expected)] if way in {"null", "padded"} else []
        found |= run_module("rig.limits", way, "--seconds", str(seconds), *keep, prefix=[])
    return found


def measure(servers: list[str], workloads: list[str], rounds: int, seconds: float) -> Results:
    """Take all rounds."""
    prefix = isolation()
    found: list[Round] = []
    with tempfile.TemporaryDirectory() as directory:
        for number in range(rounds):
            one = Round({}, {name: {} for name in workloads})
            for name in workloads:
                workload, expected = WORKLOADS[name], Path(directory) / f"{name}.npy"
                one.limits.update(measure_limits(name, seconds / 2, expected))
                base = (found[0] if found else one).limits[workload.basis]["rate"]  # the same load in every round
                arguments = ["--seconds", str(seconds), "--expected", str(expected)]
                for server in _turn(servers, number):
                    one.visits[name][server] = visit(server, workload, base, arguments, prefix)
                one.visits[name] = {server: one.visits[name][server] for server in servers}
            found.append(one)
    return Results(found)


def _turn(servers: list[str], number: int) -> list[str]:
    """Let another server go first in every round."""
    return servers[number % len(servers) :] + servers[: number % len(servers)]


def visit(server: str, workload: Workload, base: float, arguments: list[str], prefix: list[str]) -> dict[str, Any]:
    """Visit one server, and say so."""
    began = time.perf_counter()
    rates = ",".join(f"{share * base:.1f}" for share in workload.rates)
    arguments = [server, workload.name, "--rates", rates, *arguments]
    found = run_module("rig.visit", *arguments, *(["--alone"] if prefix else []), prefix=prefix)
    pace = ", ".join(f"{row['rate']:,.0f}" for row in found["rows"])
    print(f"{workload.name:7} {server:9} {pace:>24} requests/s  ({time.perf_counter() - began:.0f} s)", flush=True)
    return found


def main() -> None:
    """Measure, print tables and one line of JSON."""
    parser = argparse.ArgumentParser(description="Carpool's server beside others.")
    parser.add_argument("--only", type=names(dict(CONTENDERS)), default=list(CONTENDERS), help="servers, by commas")
    parser.add_argument("--workloads", type=names(dict(WORKLOADS)), default=list(WORKLOADS), help="null,minilm")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each row, a whole number")
    parser.add_argument("--write", action="store_true", help="fill the section of README.md, and draw the picture")
    arguments = parser.parse_args()
    servers = arguments.only
    if not isolation() and NEEDS_ISOLATION & set(servers):
        print(f"without a network namespace of its own, left out: {', '.join(sorted(NEEDS_ISOLATION))}")
        servers = [server for server in servers if server not in NEEDS_ISOLATION]
    subprocess.run([str(BENCHMARKS.parent / "tools/need_programs"), "wrk"], check=True)
    for server in servers:
        CONTENDERS[server].prepare()
    about = machine()
    print(about)
    results = measure(servers, arguments.workloads, arguments.rounds, arguments.seconds)
    report(results, about, write=arguments.write)


def report(results: Results, about: str, *, write: bool) -> None:
    """Print what was found, and keep it where asked."""
    console = Console(width=None if sys.stdout.isatty() else 160)
    for table in tables(results):
        console.print(table.to_rich())
    found, behind = ratios(results), rows_behind(results)
    for line in behind:
        print(f"behind: {line}")
    if write:
        replace(BENCHMARKS / "README.md", "serving.py", section(results, found, behind, about))
        picture(results).save(PICTURE)
    rounded = {name: None if value is None else round(value, 3) for name, value in found.items()}
    print(json.dumps({**rounded, "num_rows_behind": len(behind), "machine": about}))


if __name__ == "__main__":
    main()
