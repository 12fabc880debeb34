"""A check as plain data, fit for JSON."""

from __future__ import annotations

from dataclasses import asdict
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from carpool.loadgen.stats import summarise
from carpool.verify.reasons import doubts, missed, reasons, verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from carpool.verify.beside import Beside
    from carpool.verify.check import Check
    from carpool.verify.trial import Observed

SCHEMA_VERSION = 1
# What the errors that are judged are called in `errors_pct`, by the name of the figure.
ERRORS: Mapping[str, str] = MappingProxyType(
    {"throughput": "throughput", "mean_batch_size": "mean_batch", "p50_s": "p50", "p99_s": "p99"}
)


def as_document(check: Check, rows: Sequence[Beside]) -> dict[str, Any]:
    """Give everything that a check found.

    Args:
        check: the plan beside what came of it.
        rows: every figure of it.
    """
    findings, options = check.findings, check.options
    return {
        "schema_version": SCHEMA_VERSION,
        "plan": check.file,
        "workload": check.workload.describe(),
        "setup": check.setup,
        "duration_s": options.duration_s,
        "num_windows": len(findings.observed),
        "seed": options.seed,
        "profile": {"created_at": check.profile.created_at, "measured_again": check.measured_again},
        "alone": findings.alone,
        "as_profiled": options.as_profiled,
        "errors_pct": {ERRORS[row.name]: row.error_pct for row in rows if row.name in ERRORS},
        "agrees": not missed(rows),
        "figures": {row.name: _figure(row) for row in rows},
        "windows": [_window(one) for one in findings.observed],
        "verdict": verdict(rows)[1],
        "reasons": reasons(check, rows),
        "doubts": doubts(check),
        "interrupted": check.interrupted,
    }


def _figure(row: Beside) -> dict[str, Any]:
    return {
        "predicted": row.predicted.value,
        "low": row.predicted.low,
        "high": row.predicted.high,
        "measured": row.measured,
        "median": row.value,
        "errors_pct": row.errors_pct,
        "error_pct": row.error_pct,
        "inside": row.inside,
    }


def _window(observed: Observed) -> dict[str, Any]:
    window, summary = observed.window, summarise(observed.window.load)
    return {
        "num_requests": summary.num_requests,
        "num_ok": summary.num_ok,
        "overheads": observed.overheads,
        "server_cores": window.server_cores,
        "generator_cores": window.load.cpu_share,
        "other_load_cores": window.other_load_cores,
        "send_lag_p99_s": summary.lag_p99_s,
        "steps": {one.name: asdict(one) for one in observed.steps},
    }
