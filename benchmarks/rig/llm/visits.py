"""Visits to engines: each a process that is given its orders, watched, and stopped with all that it started."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import psutil
from rig.llm.contenders import BENCHMARKS, CONTENDERS
from rig.llm.figures import TPOT_LIMIT_S, TTFT_LIMIT_S
from rig.llm.work import LONGEST_OUTPUT, MAX_LENGTH, NUM_REQUESTS, NUM_SLOTS, Loop, requests, single, warm_up
from rig.processes import running

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rig.processes import Server

Job = Literal["batch", "load"]
START_LIMIT_S = 600.0  # some compile
BATCH_LIMIT_S = 600.0
PATIENCE_S = TTFT_LIMIT_S + LONGEST_OUTPUT * TPOT_LIMIT_S  # what is not there so long after the last arrival is late
LOOK_EVERY_S = 0.25


def visit_batch(engine: str, num_requests: int = NUM_REQUESTS) -> dict[str, Any]:
    """Give an engine all requests at once, then one alone.

    Returns:
        `ready_s`, `peak_mib`, and for `batch` and `single` the `seconds`, `cpu_s` and `tokens`.
    """
    orders = {"requests": requests(num_requests), "single": single()}
    return _visit(engine, "batch", orders, limit_s=START_LIMIT_S + BATCH_LIMIT_S)


def visit_load(engine: str, loops: Sequence[Loop]) -> dict[str, Any]:
    """Give an engine requests as they come, loop after loop, up to one that it can't finish.

    Returns:
        `ready_s`, `peak_mib` and `loops`: for each loop and request the instants at which tokens came.
    """
    written = [{"requests": one.requests, "due": one.due} for one in loops]
    orders = {"loops": written, "patience_s": PATIENCE_S, "start_limit_s": START_LIMIT_S}
    limit_s = START_LIMIT_S + sum(one.due[-1] + PATIENCE_S for one in loops)
    return _visit(engine, "load", orders, limit_s=limit_s)


def _visit(engine: str, job: Job, orders: dict[str, Any], *, limit_s: float) -> dict[str, Any]:
    """Make a visit; once more where it failed."""
    try:
        return _try(engine, job, orders, limit_s)
    except RuntimeError as error:
        print(f"{error}\nIt is tried once more.", flush=True)
        return _try(engine, job, orders, limit_s)


def _try(engine: str, job: Job, orders: dict[str, Any], limit_s: float) -> dict[str, Any]:
    contender = CONTENDERS[engine]
    settings = {
        "num_slots": NUM_SLOTS,
        "max_length": MAX_LENGTH,
        "model": str(contender.model()),
        "kv": contender.kv,
        "deterministic": contender.deterministic,
    }
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        written, out, log = directory / "orders.json", directory / "found.json", directory / "log"
        written.write_text(json.dumps({"settings": settings, "warm": warm_up(), **orders}), encoding="utf-8")
        command = [str(contender.python()), "-m", "peers.llm.visit", contender.module, job]
        command += ["--orders", str(written), "--out", str(out)]
        with running(command, environment=contender.environment(), log=log, cwd=BENCHMARKS) as process:
            peak_bytes = _watch(process, limit_s)
        if not out.exists():
            last_words = "\n".join(log.read_text(errors="replace").splitlines()[-25:])
            message = (
                f"{contender.label} did not finish ({job}, at most {limit_s:.0f} s); its last words:\n{last_words}"
            )
            raise RuntimeError(message)
        found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return found | {"peak_mib": peak_bytes / 2**20}


def _watch(process: Server, limit_s: float) -> int:
    """Wait until it ends or its time is up; give the most memory that was seen."""
    peak_bytes, ends_at = 0, time.monotonic() + limit_s
    while process.running() and time.monotonic() < ends_at:
        time.sleep(LOOK_EVERY_S)
        peak_bytes = max(peak_bytes, _resident(process))
    return peak_bytes


def _resident(process: Server) -> int:
    """Memory that its processes have resident, pages that they share counted once for each."""
    total = 0
    for one in process.processes():
        try:
            total += one.memory_info().rss
        except psutil.Error:
            continue
    return total
