"""What a run of load amounts to: rates, percentiles with confidence, failures by kind, and whether to believe it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from carpool.loadgen.records import CENSORED, OK, OPEN, OVERFLOW, TIMEOUT
from carpool.signals.figures import Estimate, estimate_percentile, goodput, percentile, throughput
from carpool.units import format_duration

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from carpool.loadgen.records import LoadResult
    from carpool.signals.objective import Objective

# Above these the figures say more about the generator than about the server.
LAG_SHARE = 0.10
CPU_SHARE = 0.90
LEAST_LAG_S = 1e-3

PERCENTILES: Mapping[str, int] = MappingProxyType({"p50": 50, "p95": 95, "p99": 99})

MEANINGS: Mapping[str, str] = MappingProxyType(
    {
        TIMEOUT: "no answer in time; its latency counts as at least the limit",
        OPEN: "unanswered when the run was stopped; its latency counts as at least its age",
        OVERFLOW: "not sent, because too many were unanswered already: the server is far behind",
        "not connected": "nothing accepted the connection: the server stopped, or its backlog was full",
        "closed before answering": "the server closed the connection without an answer",
        "closed mid-answer": "the server closed the connection within an answer",
        "connection reset": "the connection broke",
        "not HTTP": "what came back was not HTTP",
        "tls": "the TLS handshake failed",
        "http 400": "the server did not understand the body",
        "http 422": "the server did not take the body",
        "http 404": "the server has nothing at this path",
        "http 429": "the server refused the work because its queue is full",
        "http 500": "the server failed",
        "http 503": "the server is not ready, or stops; others refuse work so when they are full",
        "http 504": "the server gave up waiting",
    }
)


@dataclass(frozen=True, slots=True)
class Failure:
    """One kind of failure: how often, what it means, and the first one's own words."""

    kind: str
    count: int
    meaning: str
    example: str


@dataclass(frozen=True, slots=True)
class Attainment:
    """How an objective fared: failures count against it.

    Args:
        quantile: The share that it wants.
        latency_s: Within this many seconds.
        share_within: The share of all requests that were answered with success within it.
        met: Whether that share is at least the quantile.
        goodput: Requests a second that were answered with success within it.
    """

    quantile: float
    latency_s: float
    share_within: float
    met: bool
    goodput: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A run of load in figures.

    Args:
        loop: "open" or "closed".
        connections: Clients of a closed loop.
        window_s: Length of the time in which requests were being sent.
        num_requests: Requests that were meant to be sent in it.
        num_ok: Those answered with success.
        num_failed: The others.
        offered_rate: Requests a second that were meant to be sent.
        asked_rate: The rate that was asked for, which random arrivals keep to on average; None where there was none.
        sustained_rate: Successes that were complete within the window, a second.
        latency_s: By name (p50, p95, p99), from the intended times, of successes and of those that had no answer in
            time, each with its 95 % confidence interval; empty where there are none.
        mean_s: Mean latency; NaN where there is none.
        max_s: Longest latency; NaN where there is none.
        num_censored: Latencies among them that are lower bounds.
        failures: By kind, the most frequent first.
        attainment: How the objective fared; None without one.
        bytes_received: Of all answers.
        lag_p50_s: Median lateness of the generator in sending.
        lag_p99_s: 99th percentile of it.
        lag_limit_s: Most that this may be for the figures to be the server's.
        lag_limit_basis: What that limit is, in words.
        cpu_share: Of one core, used by the generator.
        generator_limited: Whether the generator, and not the server, may be what the figures show.
        evidence: Why that is so.
        interrupted: Whether the run was stopped before its end.
    """

    loop: str
    connections: int | None
    window_s: float
    num_requests: int
    num_ok: int
    num_failed: int
    offered_rate: float
    asked_rate: float | None
    sustained_rate: float
    latency_s: Mapping[str, Estimate]
    mean_s: float
    max_s: float
    num_censored: int
    failures: tuple[Failure, ...]
    attainment: Attainment | None
    bytes_received: int
    lag_p50_s: float
    lag_p99_s: float
    lag_limit_s: float
    lag_limit_basis: str
    cpu_share: float
    generator_limited: bool
    evidence: tuple[str, ...]
    interrupted: bool


def summarise(result: LoadResult, objective: Objective | None = None, *, asked_rate: float | None = None) -> Summary:
    """Fold a run into figures.

    Args:
        result: The run.
        objective: What the latencies are held against.
        asked_rate: Requests a second that the arrivals were drawn up for.
    """
    latencies_s = timed_latencies_s(result)
    ordered = sorted(latencies_s.tolist())
    latency_s = {name: estimate_percentile(ordered, q) for name, q in PERCENTILES.items()} if ordered else {}
    lag_p50_s, lag_p99_s = _lags(result)
    lag_limit_s, lag_limit_basis = _lag_limit(latency_s, objective)
    evidence = _evidence(lag_p99_s, lag_limit_s, lag_limit_basis, result.cpu_share)
    window_s = max(result.window_s, 1e-9)
    num, num_ok = len(result.outcome), int(result.ok.sum())
    return Summary(
        loop="open" if result.connections is None else "closed",
        connections=result.connections,
        window_s=result.window_s,
        num_requests=num,
        num_ok=num_ok,
        num_failed=num - num_ok,
        offered_rate=num / window_s,
        asked_rate=asked_rate,
        sustained_rate=throughput(int((result.ok & (result.done_at <= result.window_s)).sum()), window_s),
        latency_s=latency_s,
        mean_s=float(latencies_s.mean()) if ordered else float("nan"),
        max_s=float(ordered[-1]) if ordered else float("nan"),
        num_censored=int(np.isin(result.outcome, list(CENSORED)).sum()),
        failures=_failures(result),
        attainment=_attain(result, objective, window_s) if objective else None,
        bytes_received=int(result.num_bytes.sum()),
        lag_p50_s=lag_p50_s,
        lag_p99_s=lag_p99_s,
        lag_limit_s=lag_limit_s,
        lag_limit_basis=lag_limit_basis,
        cpu_share=result.cpu_share,
        generator_limited=bool(evidence),
        evidence=evidence,
        interrupted=result.interrupted,
    )


def timed_latencies_s(result: LoadResult) -> NDArray[np.float64]:
    """Give the latencies that percentiles are taken of.

    Successes, and those that had no answer in time, whose latency is a lower bound. A refusal is quick and would
    flatter the server, so it counts as a failure only.
    """
    latencies: NDArray[np.float64] = result.latency_s[timed(result)]
    return latencies


def timed(result: LoadResult) -> NDArray[np.bool_]:
    """Say which requests have a latency that percentiles are taken of [n]."""
    return result.ok | np.isin(result.outcome, list(CENSORED))


def _failures(result: LoadResult) -> tuple[Failure, ...]:
    """Count the failures by kind."""
    counts = Counter(str(kind) for kind in result.outcome if kind != OK)
    return tuple(
        Failure(kind, count, MEANINGS.get(kind, "an answer other than success"), result.details.get(kind, ""))
        for kind, count in counts.most_common()
    )


def _attain(result: LoadResult, objective: Objective, window_s: float) -> Attainment:
    """Hold the run against the objective."""
    within = result.ok & (result.latency_s <= objective.latency_s)
    share = float(within.mean()) if within.size else 0.0
    good = goodput(result.latency_s.tolist(), result.ok.tolist(), objective.latency_s, window_s)
    return Attainment(objective.quantile, objective.latency_s, share, share >= objective.quantile, good)


def _lags(result: LoadResult) -> tuple[float, float]:
    """Give the median and the 99th percentile of the generator's own lateness, seconds."""
    lag = result.lag_s.tolist()
    return (percentile(lag, 50), percentile(lag, 99)) if lag else (0.0, 0.0)


def _lag_limit(latency_s: Mapping[str, Estimate], objective: Objective | None) -> tuple[float, str]:
    """Choose how late the generator may be, and say what that is."""
    p99_s = latency_s["p99"].value if latency_s else 0.0
    name, held_against_s = ("objective", objective.latency_s) if objective else ("p99 latency", p99_s)
    if LAG_SHARE * held_against_s > LEAST_LAG_S:
        return LAG_SHARE * held_against_s, f"{LAG_SHARE:.0%} of the {name}"
    return LEAST_LAG_S, "allowed in any case"


def _evidence(lag_p99_s: float, lag_limit_s: float, lag_limit_basis: str, cpu_share: float) -> tuple[str, ...]:
    """Say what speaks for the generator being the limit."""
    found = []
    if lag_p99_s > lag_limit_s:
        found.append(
            f"1% of its requests left more than {format_duration(lag_p99_s)} after their time "
            f"(limit {format_duration(lag_limit_s)}, {lag_limit_basis}): "
            "lower the rate, or run it on a machine of its own"
        )
    if cpu_share > CPU_SHARE:
        found.append(
            f"it used {cpu_share:.0%} of one core (limit {CPU_SHARE:.0%}): its single loop can't send faster; "
            "share the rate between several generators"
        )
    return tuple(found)
