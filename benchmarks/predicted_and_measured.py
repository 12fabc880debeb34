"""Predicted beside measured: how far a plan's figures are from those of the server that runs it.

MiniLM on one thread, so that on a machine with two cores the other one is left for the server's network and the load
generator. Batches of up to 32 leave as soon as the model is free. For each case the model is measured anew, the windows
are predicted, and only then is the load sent (`carpool verify --profile-again`).

Load is named by utilisation, the share of time that the model is busy, since that is what makes queues long: at 0.3
latency is mostly the model's own time, at 0.8 mostly waiting, and there a batch that takes 1 % longer makes the queue
several per cent longer. The rate for each is found by simulation. A trace is played at the speed that gives utilisation
0.5; its lengths beyond the model's longest are cut.

    python benchmarks/predicted_and_measured.py [--duration 20] [--runs 3] [--trace FILE] [--out DIR]
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from carpool.config.toml_text import to_toml
from carpool.core import Policy
from carpool.plan.predict import predict
from carpool.plan.process import Replay
from carpool.plan.setup import Setup
from carpool.plan.subject import Subject
from carpool.plan.trace import read_trace
from carpool.plan.workload import Poisson, Workload
from carpool.plan.workload_table import to_table
from carpool.profile.artefact import load_profile

CARPOOL = str(Path(sys.executable).with_name("carpool"))
TARGET, MAX_BATCH_SIZE, NUM_THREADS = "demo:minilm", 32, 1
POISSON_UTILISATIONS, TRACE_UTILISATION = (0.3, 0.6, 0.8), 0.5
TRACE = Path(__file__).parents[1] / "tests" / "data" / "azure_conversation.csv"
JUDGED = ("throughput", "mean_batch_size", "p50_s", "p99_s")
SETUP = Setup(policy=Policy(max_batch_size=MAX_BATCH_SIZE))
HALVINGS = 12


def carpool(*words: str) -> None:
    """Run a command of ours, and stop where it fails."""
    done = subprocess.run([CARPOOL, *words], check=False)
    if done.returncode != 0:
        sys.exit(f"carpool {' '.join(words)} exited with {done.returncode}")


def at_utilisation(subject: Subject, workload: Workload, wanted: float) -> Workload:
    """Scale a load until it keeps the model busy for a share of the time, by halving the range of its rate."""
    workload, _ = workload.clipped(subject.max_length)
    low, high = 0.0, 1.0
    while utilisation(subject, workload.scaled(high)) < wanted:
        low, high = high, 2 * high
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if utilisation(subject, workload.scaled(middle)) < wanted else (low, middle)
    return workload.scaled((low + high) / 2)


def utilisation(subject: Subject, workload: Workload) -> float:
    """Simulate about two thousand items."""
    return predict(subject, workload, SETUP, window_s=2000 / workload.rate, num_runs=3).utilisation.value


def plan_text(workload: Workload, profile: Path) -> str:
    """Write the carpool.toml of a case."""
    return to_toml(
        {
            "schema_version": 1,
            "profile": str(profile),
            "model": {"target": TARGET, "num_threads": NUM_THREADS},
            "policy": {"max_batch_size": MAX_BATCH_SIZE},
            "workload": to_table(workload),
        }
    )


def check(name: str, workload: Workload, profile: Path, out: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Verify one case; return what it found."""
    out.mkdir(parents=True, exist_ok=True)
    plan = out / "carpool.toml"
    plan.write_text(plan_text(workload, profile), encoding="utf-8")
    print(f"{name}: {workload.describe()}", flush=True)
    words = ["--duration", f"{arguments.duration}s", "--runs", str(arguments.runs), "--out", str(out)]
    carpool("verify", str(plan), *words, "--profile-again", f"{arguments.profile}s", "--seed", str(arguments.seed))
    found: dict[str, Any] = json.loads((out / "verify.json").read_text(encoding="utf-8"))
    return found


def row(name: str, found: dict[str, Any]) -> str:
    """Write a case as a row of a Markdown table: predicted (interval), measured, error."""
    cells = [name, f"{found['figures']['offered']['predicted']:.0f}"]
    for figure in JUDGED:
        one = found["figures"][figure]
        scale = 1e3 if figure.endswith("_s") else 1
        predicted, low, high, median = (scale * one[key] for key in ("predicted", "low", "high", "median"))
        held = f"{sum(one['inside'])}/{len(one['inside'])}"
        cells.append(f"{predicted:.3g} ({low:.3g} to {high:.3g}), {median:.3g}, {one['error_pct']:.1f} %, {held}")
    paces = [window["overheads"]["pace"] for window in found["windows"]]
    return " | ".join([*cells, f"{statistics.median(paces):.2f}"])


def main() -> None:
    """Measure, print a table and one line of JSON."""
    parser = argparse.ArgumentParser(description="How far predictions are from measurements.")
    parser.add_argument("--duration", type=float, default=20.0, help="seconds of a window")
    parser.add_argument("--runs", type=int, default=3, help="windows of a case")
    parser.add_argument("--profile", type=float, default=30.0, help="seconds to measure the model before each case")
    parser.add_argument("--trace", type=Path, default=TRACE)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="where to keep profile, plans and pages; by default nowhere")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        out = (arguments.out or Path(scratch)).resolve()
        sizes = ["--batch-sizes", f"1..{MAX_BATCH_SIZE}", "--lengths", "16,32,64,128,256"]
        carpool("profile", TARGET, "--threads", str(NUM_THREADS), "--no-memory", *sizes, "--out", str(out))
        profile = out / "profile.json"
        subject = Subject.of(load_profile(profile))
        sentences = Workload(arrivals=Poisson(rate=10.0), lengths=subject.example_lengths)
        loads = {f"Poisson, {share:g}": at_utilisation(subject, sentences, share) for share in POISSON_UTILISATIONS}
        trace = Workload(arrivals=Replay(trace=read_trace(arguments.trace)))
        loads[f"trace, {TRACE_UTILISATION:g}"] = at_utilisation(subject, trace, TRACE_UTILISATION)
        found = {
            name: check(name, load, profile, out / name.replace(", ", "-"), arguments) for name, load in loads.items()
        }
    print("load | items/s | throughput | mean batch | p50, ms | p99, ms | pace")
    for name, one in found.items():
        print(row(name, one))
    errors = {name: one["errors_pct"] for name, one in found.items()}
    print(json.dumps({"errors_pct": errors, "machine": platform.machine(), "runs": arguments.runs}))


if __name__ == "__main__":
    main()
