"""The section of `benchmarks/README.md` that a run fills, as ratios to our own figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rig.contenders import CONTENDERS
from rig.results import OURS
from rig.workloads import WORKLOADS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rig.results import Results


def section(results: Results, ratios: Mapping[str, float | None], behind: Sequence[str], machine: str) -> str:
    """Write the section in Markdown."""
    parts = [f"{machine} Medians of {len(results.rounds)} interleaved rounds.", _headline(ratios)]
    for workload in results.workloads():
        parts += [f"### {_titles[workload]}", _table(results, workload), _notes(results, workload)]
    parts.append("Rows in which a peer is ahead: " + ("; ".join(behind) if behind else "none") + ".")
    return "\n\n".join(parts)


_titles = {"null": "The null model", "minilm": "MiniLM"}
_sentences = {
    "null_128_vs_best_peer": "null model, 128 connections: rate over the best peer's",
    "null_128_vs_limit": "the same over the limit (full batches of 64 in process)",
    "null_32_vs_mosec": "null model, 32 connections: rate over mosec's",
    "minilm_64_vs_best_peer": "MiniLM, 64 connections: rate over the best peer's",
    "minilm_64_vs_limit": "the same over our own rate in process, in windows of 64",
    "one_client_overhead_ms": "one client, null model: p50 less the model's own, ms",
    "minilm_one_client_overhead_ms": "one client, MiniLM: p50 less the model's own, ms",
}


def _headline(ratios: Mapping[str, float | None]) -> str:
    rows = [f"| {_sentences[name]} | {value:.2f} |" for name, value in ratios.items() if value is not None]
    return "\n".join(["| figure | measured |", "|---|---|", *rows])


def _table(results: Results, workload: str) -> str:
    load = WORKLOADS[workload]
    at = [str(number) for number in load.connections]
    header = ["server", *(f"rate at {number}" for number in at), *(f"p99 at {number}" for number in at), "mean batch"]
    header += ["CPU us/request", "MiB idle", "ready s", *(f"in time at {share:g}" for share in load.rates)]
    lines = [_line(header), "|---|" + "---:|" * (len(header) - 1)]
    return "\n".join([*lines, *(_line(_cells(results, workload, server)) for server in results.servers(workload))])


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cells(results: Results, workload: str, server: str) -> list[str]:
    load = WORKLOADS[workload]
    rows = [results.row(workload, server, number) for number in load.connections]
    ours = [results.row(workload, _reference(results, workload), number) for number in load.connections]
    rates = [f"{row['rate'] / our['rate']:.2f}" for row, our in zip(rows, ours, strict=True)]
    p99s = [f"{row['p99_ms'] / our['p99_ms']:.1f}" for row, our in zip(rows, ours, strict=True)]
    batches = " / ".join(f"{row['mean_batch']:.0f}" for row in rows)
    once = [results.of_visit(workload, server, name) for name in ("memory_mib", "ready_s")]
    in_time = [results.opened(workload, server, number)["share_within"] for number in range(len(load.rates))]
    cpu = f"{rows[-1]['cpu_us']:,.0f}"
    return [
        CONTENDERS[server].label,
        *rates,
        *p99s,
        batches,
        cpu,
        f"{once[0]:,.0f}",
        f"{once[1]:.1f}",
        *(f"{share:.0%}" for share in in_time),
    ]


def _reference(results: Results, workload: str) -> str:
    servers = results.servers(workload)
    return OURS if OURS in servers else servers[0]


def _notes(results: Results, workload: str) -> str:
    load = WORKLOADS[workload]
    reference = _reference(results, workload)
    rows = [results.row(workload, reference, number) for number in load.connections]
    rates = ", ".join(f"{row['rate']:,.0f}" for row in rows)
    p99s = ", ".join(f"{row['p99_ms']:.1f}" for row in rows)
    limit = results.median(lambda one: one.limits[load.basis]["rate"]) or 0.0
    return (
        f"Rates are shares and p99s are multiples of {CONTENDERS[reference].label}'s, which are {rates} requests/s and "
        f"{p99s} ms; CPU at {load.connections[-1]} connections. *In time*: the share of an open loop's requests "
        f"(Poisson arrivals) answered within {1e3 * load.objective_s:g} ms, at these multiples of {limit:,.0f} "
        f"requests/s, {_basis[workload]}."
    )


_basis = {"null": "the limit", "minilm": "what the plain padded model does in process"}
