"""The load: a closed loop by wrk, and an open one by our own generator."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rig.wire import WireSender

from carpool.loadgen.clock import run_in_loop
from carpool.loadgen.generator import Run, drive_open
from carpool.loadgen.stats import summarise
from carpool.plan.arrivals import poisson
from carpool.signals.objective import Objective

if TYPE_CHECKING:
    from collections.abc import Sequence

SCRIPT = Path(__file__).with_name("load.lua")
MOST_IN_FLIGHT = 512
PATIENCE = 4  # an answer that takes so many times the objective is waited for no longer


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedLoop:
    """What a closed loop found.

    Args:
        num: requests answered.
        rate: of them, a second.
        p50_ms: median latency.
        p99_ms: 99th percentile of it.
        num_failed: answers that were no success, and connections that broke.
    """

    num: int
    rate: float
    p50_ms: float
    p99_ms: float
    num_failed: int


def closed_loop(url: str, bodies: Path, *, connections: int, seconds: float) -> ClosedLoop:
    """Let wrk send the bodies of a file, one a line, over connections that each wait for the answer."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "30s"]
    command += ["-s", str(SCRIPT), url, "--", str(bodies)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60 + 2 * seconds)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return ClosedLoop(
        num=found["num"],
        rate=1e6 * found["num"] / found["duration_us"],
        p50_ms=found["p50_us"] / 1e3,
        p99_ms=found["p99_us"] / 1e3,
        num_failed=found["num_refused"] + found["num_broken"],
    )


def open_loop(url: str, bodies: Sequence[bytes], *, rate: float, seconds: float, objective_s: float) -> dict[str, Any]:
    """Send at Poisson arrivals of a rate, whatever becomes of the answers.

    Args:
        url: where.
        bodies: what, in turn.
        rate: requests a second.
        seconds: for how long.
        objective_s: the longest latency that counts, from the moment when a request was meant to be sent.

    Returns:
        The rate, the share of all requests answered within the objective, the rate of those (goodput), p99, and
        whether the generator was the limit.
    """
    arrivals = poisson(rate, seconds, np.random.default_rng(0))

    async def drive() -> Any:
        sender = WireSender(url, bodies)
        await sender.open(64)
        run = Run(sender, timeout_s=PATIENCE * objective_s)
        try:
            return await drive_open(run, arrivals, window_s=seconds, max_in_flight=MOST_IN_FLIGHT)
        finally:
            sender.close()

    summary = summarise(run_in_loop(drive()), Objective(0.99, objective_s), asked_rate=rate)
    assert summary.attainment is not None
    return {
        "rate": rate,
        "share_within": summary.attainment.share_within,
        "goodput": summary.attainment.goodput,
        "p99_ms": 1e3 * summary.latency_s["p99"].value if summary.latency_s else None,
        "generator_limited": summary.generator_limited,
    }
