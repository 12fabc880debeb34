"""What the visits amount to: medians over the rounds, ratios within each, tables, a picture."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rig.contenders import CONTENDERS
from rig.workloads import WORKLOADS

from carpool.report.plot import LineSeries, Panel, Picture, figure
from carpool.report.table import Cell, Column, Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

OURS = "carpool"
FIGURES = ("rate", "p50_ms", "p99_ms", "mean_batch", "cpu_us", "num_failed")


@dataclass(frozen=True, slots=True)
class Round:
    """One round.

    Args:
        limits: of the models in process, by their names.
        visits: what each visit found, by workload and server.
    """

    limits: dict[str, dict[str, float]]
    visits: dict[str, dict[str, dict[str, Any]]]

    def row(self, workload: str, server: str, connections: int) -> dict[str, float]:
        """Give what a server did at a load."""
        rows: list[dict[str, float]] = self.visits[workload][server]["rows"]
        return next(row for row in rows if row["connections"] == connections)


@dataclass(frozen=True, slots=True)
class Results:
    """All rounds of a run."""

    rounds: list[Round]

    def workloads(self) -> list[str]:
        """The workloads that were run."""
        return list(self.rounds[0].visits)

    def servers(self, workload: str) -> list[str]:
        """The servers that were visited, ours first."""
        return list(self.rounds[0].visits[workload])

    def median(self, get: Callable[[Round], float | None]) -> float | None:
        """The median of a figure over the rounds that have it."""
        values = [value for value in map(get, self.rounds) if value is not None]
        return statistics.median(values) if values else None

    def row(self, workload: str, server: str, connections: int) -> dict[str, float]:
        """Medians of what a server did at a load."""

        def median(name: str) -> float:
            return statistics.median(one.row(workload, server, connections)[name] for one in self.rounds)

        return {name: median(name) for name in FIGURES}

    def of_visit(self, workload: str, server: str, name: str) -> float:
        """The median of a figure that each visit has once."""
        values: list[float] = [one.visits[workload][server][name] for one in self.rounds]
        return statistics.median(values)

    def opened(self, workload: str, server: str, number: int) -> dict[str, float]:
        """Medians of an open loop; nothing in time where it was not tried, since half of a slower one was late."""
        loops = [one.visits[workload][server]["open"] for one in self.rounds]
        tried = [one[number] if number < len(one) else {"share_within": 0.0, "goodput": 0.0} for one in loops]
        return {name: statistics.median(one[name] for one in tried) for name in ("share_within", "goodput")}


def ratios(results: Results) -> dict[str, float | None]:
    """The figures that matter, each a median over the rounds of a ratio within the round; None where it was not run."""
    return {
        "null_128_vs_best_peer": _vs_best_peer(results, "null", 128),
        "null_128_vs_limit": _vs_limit(results, "null", 128, "batch_64"),
        "null_32_vs_mosec": _vs_peer(results, "null", 32, "mosec"),
        "minilm_64_vs_best_peer": _vs_best_peer(results, "minilm", 64),
        "minilm_64_vs_limit": _vs_limit(results, "minilm", 64, "own_window"),
        "one_client_overhead_ms": _overhead_ms(results, "null", "batch_1"),
        "minilm_one_client_overhead_ms": _overhead_ms(results, "minilm", "own_1"),
    }


def rows_behind(results: Results) -> list[str]:
    """Name the rows in which a peer is ahead of us, in rate or in p99, by the medians."""
    behind = []
    for workload, connections, server in _all_rows(results):
        ours, theirs = results.row(workload, OURS, connections), results.row(workload, server, connections)
        for name, sign in (("rate", 1), ("p99_ms", -1)):
            if sign * theirs[name] > sign * ours[name]:
                behind.append(f"{workload} {connections} {name}: {server} {theirs[name]:.4g}, ours {ours[name]:.4g}")
    return behind


def _all_rows(results: Results) -> Iterable[tuple[str, int, str]]:
    for workload in results.workloads():
        servers = results.servers(workload)
        if OURS in servers:
            for connections in WORKLOADS[workload].connections:
                yield from ((workload, connections, server) for server in servers if server != OURS)


def _vs_best_peer(results: Results, workload: str, connections: int) -> float | None:
    return results.median(lambda one: _over(one, workload, connections, set(CONTENDERS) - {OURS}))


def _vs_peer(results: Results, workload: str, connections: int, peer: str) -> float | None:
    return results.median(lambda one: _over(one, workload, connections, {peer}))


def _over(one: Round, workload: str, connections: int, peers: set[str]) -> float | None:
    """Our rate over the best of some peers'."""
    visits = one.visits.get(workload, {})
    present = peers & set(visits)
    if OURS not in visits or not present:
        return None
    best = max(one.row(workload, peer, connections)["rate"] for peer in present)
    return one.row(workload, OURS, connections)["rate"] / best


def _vs_limit(results: Results, workload: str, connections: int, limit: str) -> float | None:
    def share(one: Round) -> float | None:
        if OURS not in one.visits.get(workload, {}):
            return None
        return one.row(workload, OURS, connections)["rate"] / one.limits[limit]["rate"]

    return results.median(share)


def _overhead_ms(results: Results, workload: str, limit: str) -> float | None:
    def overhead(one: Round) -> float | None:
        if OURS not in one.visits.get(workload, {}):
            return None
        return one.row(workload, OURS, 1)["p50_ms"] - one.limits[limit]["p50_ms"]

    return results.median(overhead)


def tables(results: Results) -> list[Table]:
    """The closed loops and the open ones of each workload, and the limits."""
    found = [table for name in results.workloads() for table in (_closed(results, name), _open(results, name))]
    names = results.rounds[0].limits
    columns = (Column("in process"), Column("items/s", spec=",.0f"), Column("p50", "ms"))
    rows = tuple((name, *(results.median(_limit(name, part)) for part in ("rate", "p50_ms"))) for name in names)
    return [*found, Table("Limits: the model with nothing around it", columns, rows)]


def _limit(name: str, part: str) -> Callable[[Round], float | None]:
    return lambda one: one.limits[name][part]


def _closed(results: Results, workload: str) -> Table:
    columns = (
        Column("connections"),
        Column("server"),
        Column("requests/s", spec=",.0f"),
        Column("p50", "ms", spec=".2f"),
        Column("p99", "ms", spec=".2f"),
        Column("mean batch", spec=".1f"),
        Column("CPU", "us/request", spec=",.0f"),
        Column("failed", spec=".0f"),
    )
    rows: list[tuple[Cell, ...]] = []
    for connections in WORKLOADS[workload].connections:
        for server in results.servers(workload):
            row = results.row(workload, server, connections)
            rows.append((connections, CONTENDERS[server].label, *(row[name] for name in FIGURES)))
    return Table(f"{workload}: closed loops", columns, tuple(rows))


def _open(results: Results, workload: str) -> Table:
    load = WORKLOADS[workload]
    shares = [f"within at {share:g} x {load.basis}" for share in load.rates]
    columns = (
        Column("server"),
        Column("idle", "MiB", spec=",.0f"),
        Column("ready", "s", spec=".1f"),
        *(Column(title, spec=".1%") for title in shares),
        Column("best goodput", "1/s", spec=",.0f"),
    )
    rows: list[tuple[Cell, ...]] = []
    for server in results.servers(workload):
        loops = [results.opened(workload, server, number) for number in range(len(load.rates))]
        idle, ready = (results.of_visit(workload, server, name) for name in ("memory_mib", "ready_s"))
        goodput = max(loop["goodput"] for loop in loops)
        rows.append((CONTENDERS[server].label, idle, ready, *(loop["share_within"] for loop in loops), goodput))
    title = f"{workload}: idle, start, and open loops (answers within {1e3 * load.objective_s:g} ms)"
    return Table(title, columns, tuple(rows))


def picture(results: Results) -> Picture:
    """Draw rate and p99 over the connections, a row of panels a workload."""
    titles = {"null": "a model of 2 ms + 0.02 ms an item", "minilm": "MiniLM, sentences of 5 to 60 words"}
    panels = [
        _panel(results, workload, name, label, f"{titles[workload]}: {what}")
        for workload in results.workloads()
        for name, label, what in (("rate", "requests/s", "rate"), ("p99_ms", "p99, ms", "p99"))
    ]
    return figure(panels, title="Serving over HTTP, closed loops")


def _panel(results: Results, workload: str, name: str, label: str, title: str) -> Panel:
    connections = WORKLOADS[workload].connections
    batching = [server for server in CONTENDERS if server != "fastapi"]

    def series(server: str) -> LineSeries:
        values = [results.row(workload, server, number)[name] for number in connections]
        unbatched = server == "fastapi"
        return LineSeries(
            label=CONTENDERS[server].label,
            x=connections,
            y=values,
            tone=None if unbatched else batching.index(server),
            style="dashed" if unbatched else "line",
            strong=server == OURS,
        )

    lines = tuple(series(server) for server in results.servers(workload))
    return Panel(title=title, x_label="connections", y_label=label, series=lines, x_scale="log2", y_scale="log10")
