"""What a run shows: tables, a picture, and the section of `benchmarks/README.md`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rig.llm.contenders import CONTENDERS
from rig.llm.figures import TPOT_LIMIT_S, TTFT_LIMIT_S
from rig.llm.results import OURS
from rig.llm.work import NUM_SLOTS, SINGLE, num_output, requests

from carpool.report.plot import LineSeries, Panel, Picture, figure
from carpool.report.table import Cell, Column, Table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rig.llm.figures import LoopFigures
    from rig.llm.results import Results

SENTENCES = {
    "vs_vllm": "all at once: output tokens/s over vLLM's",
    "vs_openvino": "all at once: over OpenVINO's with a bf16 KV cache",
    "vs_openvino_u8": "all at once: over OpenVINO's with a u8 KV cache",
    "vs_transformers": "all at once: over transformers' continuous batching",
    "vs_static": "all at once: over static batches by `generate`",
    "vs_limit": "all at once: over the limit (bandwidth, and the best matrix product)",
    "vs_products": "all at once: over the matrix products of these steps alone, by oneDNN",
    "batch_1_vs_best": "one request alone: tokens/s over the best peer's",
    "batch_1_vs_vllm": "one request alone: over vLLM's",
    "deterministic_vs_default": "all at once: what `deterministic` leaves of it",
    "goodput_vs_vllm": "Poisson load: best goodput over vLLM's",
    "goodput_vs_openvino": "Poisson load: over OpenVINO's with a bf16 KV cache",
    "goodput_vs_best": "Poisson load: over the best peer's",
    "p99_itl_vs_best": "Poisson load: p99 gap between tokens over the best peer's, at the highest load both follow",
}


def tables(results: Results) -> list[Table]:
    """The batch, the open loops, and the limits."""
    found = [_batch(results)] if any(one.batch for one in results.rounds) else []
    found += [_loop(results, number) for number in range(len(results.loops))]
    return [*found, _limits(results)]


def _batch(results: Results) -> Table:
    columns = (
        Column("engine"),
        Column("output tokens/s", spec=",.0f"),
        Column("of ours", spec=".2f"),
        Column("CPU", "ms/token", spec=".2f"),
        Column("one alone", "tokens/s", spec=".1f"),
        Column("ready", "s", spec=".1f"),
        Column("peak", "MiB", spec=",.0f"),
        Column("agrees", spec=".0%"),
        Column("first token", spec=".0%"),
        Column("shortfall", "logits", spec=".3f"),
    )
    work = requests(results.num_requests)
    title = (
        f"{len(work)} requests at once: {sum(len(one['prompt']) for one in work):,} prompt and {num_output(work):,} "
        f"output tokens, {NUM_SLOTS} slots; one alone: {SINGLE[0]} and {SINGLE[1]}"
    )
    rows = tuple(_batch_row(results, engine) for engine in results.engines())
    return Table(title, columns, rows, notes=(AGREEMENT_NOTE,))


AGREEMENT_NOTE = (
    "Agrees: the share of tokens that the model in float32, given those before, finds the most likely too; "
    "the shortfall is the mean difference of logits."
)


def _batch_row(results: Results, engine: str) -> tuple[Cell, ...]:
    def of_ours() -> float | None:
        return results.median(lambda one: _share(results.rate(one, engine), results.rate(one, OURS)))

    rate = results.median(lambda one: results.rate(one, engine))
    single_rate = results.median(lambda one: results.single_rate(one, engine))
    cpu_ms = results.median(lambda one: results.cpu_ms(one, engine))
    agreement = results.agreements.get(engine)
    known = (None, None, None) if agreement is None else (agreement.share, agreement.first, agreement.shortfall)
    once = [results.once(engine, name) for name in ("ready_s", "peak_mib")]
    return (CONTENDERS[engine].label, rate, of_ours(), cpu_ms, single_rate, *once, *known)


def _share(value: float | None, of: float | None) -> float | None:
    return value / of if value is not None and of else None


def _loop(results: Results, number: int) -> Table:
    columns = (
        Column("engine"),
        Column("in time", spec=".0%"),
        Column("goodput", "1/s", spec=".2f"),
        Column("unfinished", spec=".0f"),
        Column("TTFT p50", "ms", spec=",.0f"),
        Column("TTFT p99", "ms", spec=",.0f"),
        Column("ITL p50", "ms", spec=",.0f"),
        Column("ITL p99", "ms", spec=",.0f"),
    )
    loop = results.loops[number]
    title = (
        f"Poisson arrivals, {loop.rate:.2f} requests/s ({len(loop.due)} in {results.seconds:g} s); in time: TTFT <= "
        f"{TTFT_LIMIT_S:g} s and TPOT <= {1e3 * TPOT_LIMIT_S:g} ms"
    )
    return Table(title, columns, tuple(_loop_row(results, engine, number) for engine in _online(results)))


def _online(results: Results) -> list[str]:
    return [name for name in results.engines() if any(name in one.load for one in results.rounds)]


def loop_figure(results: Results, engine: str, number: int, get: Callable[[LoopFigures], float]) -> float | None:
    """The median of a figure of an open loop; None where no round reached it, or it has no end."""
    found = results.median(lambda one: get(loop) if (loop := results.loop(one, engine, number)) else None)
    return found if found is not None and math.isfinite(found) else None


def _loop_row(results: Results, engine: str, number: int) -> tuple[Cell, ...]:
    gets: tuple[Callable[[LoopFigures], float], ...] = (
        lambda loop: loop.share_in_time,
        lambda loop: loop.goodput,
        lambda loop: loop.num_unfinished,
        lambda loop: 1e3 * loop.ttft_p50_s,
        lambda loop: 1e3 * loop.ttft_p99_s,
        lambda loop: 1e3 * loop.itl_p50_s,
        lambda loop: 1e3 * loop.itl_p99_s,
    )
    return (CONTENDERS[engine].label, *(loop_figure(results, engine, number, get) for get in gets))


def _limits(results: Results) -> Table:
    columns = (Column("limit"), Column("value", spec=",.1f"), Column("unit"))

    def rate(name: str, scale: float) -> float | None:
        return results.median(lambda one: one.limit[name] / scale if one.limit else None)

    rows = (
        ("memory read by all cores", rate("bytes_per_s", 1e9), "GB/s"),
        ("oneDNN's best product of this model's sizes, bf16", rate("flops_per_s", 1e9), "GFLOP/s"),
        ("this work at these two", results.median(results.best_possible), "output tokens/s"),
        ("this work, its products alone by oneDNN", results.median(results.products_alone), "output tokens/s"),
        ("one request alone at the bandwidth", results.median(results.single_limit), "tokens/s"),
    )
    return Table("What the machine allows", columns, rows)


def picture(results: Results) -> Picture:
    """Draw goodput, TTFT and ITL over the load, an engine a line.

    Raises:
        ConfigError: no open loop was run.
    """
    kinds: tuple[tuple[str, str, Callable[[LoopFigures], float]], ...] = (
        ("requests in time", "requests/s", lambda loop: loop.goodput),
        ("p99 gap between tokens", "ITL p99, ms", lambda loop: 1e3 * loop.itl_p99_s),
        ("median time to the first token", "TTFT p50, ms", lambda loop: 1e3 * loop.ttft_p50_s),
    )
    panels = [_panel(results, *kind) for kind in kinds]
    return figure(panels, title="Generation under Poisson load", columns=3)


def _panel(results: Results, title: str, label: str, get: Callable[[LoopFigures], float]) -> Panel:
    order = list(CONTENDERS)

    def series(engine: str) -> LineSeries:
        found = [(loop.rate, loop_figure(results, engine, i, get)) for i, loop in enumerate(results.loops)]
        points = [(rate, value) for rate, value in found if value is not None]
        return LineSeries(
            label=CONTENDERS[engine].label,
            x=[rate for rate, _ in points],
            y=[value for _, value in points],
            tone=order.index(engine),
            strong=engine == OURS,
        )

    lines = tuple(map(series, _online(results)))
    return Panel(title=title, x_label="requests/s that come", y_label=label, series=lines)


def section(results: Results, found: Mapping[str, float | None], about: str) -> str:
    """Write what `benchmarks/README.md` says of a run."""
    head = f"{about} Medians of {len(results.rounds)} interleaved rounds."
    rows = [f"| {SENTENCES[name]} | {value:.2f} |" for name, value in found.items() if value is not None]
    parts = [head, "\n".join(["| figure | measured |", "|---|---|", *rows])]
    for table in tables(results):
        parts += [f"**{table.title}**", _markdown(table), *table.notes]
    return "\n\n".join(parts)


def _markdown(table: Table) -> str:
    sides = ["---:" if side == "right" else "---" for side in table.alignments()]
    lines = [tuple(column.header for column in table.columns), tuple(sides), *table.formatted()]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
