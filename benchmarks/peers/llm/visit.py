"""One visit to an engine: start it, warm it, give it work, write what it did as JSON.

    python -m peers.llm.visit ENGINE batch|load --orders ORDERS.json --out FOUND.json

The orders name the model, the limits, and the requests; see `rig.llm.visits`, which writes them.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import threading
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peers.llm.engine import Engine, Request, Settings
from peers.llm.open_loop import drive

if TYPE_CHECKING:
    from collections.abc import Sequence


def start(engine: str, settings: Settings) -> Engine:
    """Start an engine by the name of its module."""
    started: Engine = importlib.import_module(f"peers.llm.{engine}_engine").start(settings)
    return started


def requests_of(document: Sequence[dict[str, Any]]) -> list[Request]:
    """Read requests."""
    return [Request(**fields) for fields in document]


def cpu_s() -> float:
    """CPU seconds of all processes of this session, which is the visit's own; of this one where there is no /proc."""
    ticks, session = 0, os.getsid(0)
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        if int(fields[3]) == session:
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK") if ticks else time.process_time()


def timed(engine: Engine, requests: Sequence[Request]) -> dict[str, Any]:
    """Let an engine answer requests that are all there; tell seconds, those of CPU, and tokens."""
    began_at, cpu_before_s = time.perf_counter(), cpu_s()
    tokens = engine.generate(requests)
    seconds, used_s = time.perf_counter() - began_at, cpu_s() - cpu_before_s
    for request, got in zip(requests, tokens, strict=True):
        if len(got) != request.num_output:
            message = f"{len(got)} tokens came where {request.num_output} were asked for"
            raise RuntimeError(message)
    return {"seconds": seconds, "cpu_s": used_s, "tokens": tokens}


def batch(engine: Engine, orders: dict[str, Any]) -> dict[str, Any]:
    """Give all requests at once, then a single one."""
    engine.generate(requests_of(orders["warm"]))
    found = timed(engine, requests_of(orders["requests"]))
    single = requests_of(orders["single"])
    engine.generate([Request(request.prompt[::-1], 8) for request in single])
    return {"batch": found, "single": timed(engine, single)}


def load(engine: Engine, orders: dict[str, Any]) -> dict[str, Any]:
    """Give requests one after another at each of some rates, rising, up to one that leaves too many unanswered."""
    warm = requests_of(orders["warm"])
    drive(engine, warm, [0.0] * len(warm), patience_s=orders["start_limit_s"])
    loops: list[list[list[float]]] = []
    for loop in orders["loops"]:
        requests = requests_of(loop["requests"])
        loops.append(drive(engine, requests, loop["due"], patience_s=orders["patience_s"]))
        if any(len(record) < request.num_output for record, request in zip(loops[-1], requests, strict=True)):
            break  # what it still works on would slow the next loop
    return {"loops": loops}


def end_with(failure: threading.ExceptHookArgs) -> None:
    """End the visit with what a thread failed of."""
    traceback.print_exception(failure.exc_value)
    os._exit(1)


def main() -> None:
    """Make one visit."""
    parser = argparse.ArgumentParser(description="Measure one engine once.")
    parser.add_argument("engine")
    parser.add_argument("job", choices=["batch", "load"])
    parser.add_argument("--orders", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    threading.excepthook = end_with  # a thread of the engine's that dies would leave its requests waiting
    orders = json.loads(arguments.orders.read_text(encoding="utf-8"))
    began_at = time.perf_counter()
    engine = start(arguments.engine, Settings(**orders["settings"], online=arguments.job == "load"))
    ready_s = time.perf_counter() - began_at
    found = {"batch": batch, "load": load}[arguments.job](engine, orders)
    arguments.out.write_text(json.dumps({"ready_s": ready_s, **found}), encoding="utf-8")
    os._exit(0)  # an engine that was cut off in the middle of its work may not end by itself


if __name__ == "__main__":
    main()
