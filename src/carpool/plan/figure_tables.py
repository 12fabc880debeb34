"""Tables of what is predicted, of whatever kind the model is: figures with their intervals, choices side by side."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from carpool.report.table import Cell, Column, ColumnOf, Table, table_of
from carpool.units import format_count, format_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from carpool.plan.llm_predict import LlmPrediction
    from carpool.plan.llm_search import LlmTried
    from carpool.plan.llm_setup import LlmSetup
    from carpool.plan.llm_what_if import LlmRow
    from carpool.plan.predict import Interval, Prediction
    from carpool.plan.search import Tried
    from carpool.plan.setup import Setup
    from carpool.plan.what_if import WhatIfRow

MS, PERCENT = 1e3, 100.0
# Where the queue grows without end, what is waited says only how long one looked.
_ENDLESS = frozenset({"mean_s", "p50_s", "p95_s", "p99_s", "queue_delay_s"}) | frozenset(
    {"ttft_p50_s", "ttft_p99_s", "latency_p50_s", "latency_p99_s"}
)
# Shown only where there is any of it.
_WHERE_ANY = frozenset({"attainment", "refused", "expired", "padding_waste", "preemptions", "prefix_hits"})

Shown: TypeAlias = tuple[str, str, str, float]
"""A figure of a prediction: its name, words, unit, and what it is multiplied with to be shown."""

RowT = TypeVar("RowT", bound="WhatIfRow | LlmRow")
TriedT = TypeVar("TriedT", bound="Tried | LlmTried")


def figures_table(
    found: Prediction | LlmPrediction, described: str, figures: Iterable[Shown], *, notes: Iterable[str]
) -> Table:
    """Show all that a setup is predicted to do, each figure with its interval.

    Args:
        found: What is predicted.
        described: Of which setup.
        figures: What is told of it.
        notes: What else is to be known.
    """
    rows: list[tuple[Cell, ...]] = []
    for name, words, unit, factor in figures:
        value: Interval = getattr(found, name)
        if name not in _WHERE_ANY or value.high > 0:
            rows.append((words, unit, _number(value.value, factor), span(value, factor)))
    return Table(
        f"Predicted for {described}",
        (Column("figure"), Column("unit"), Column("value", align="right"), Column("90 % interval", align="right")),
        tuple(rows),
        notes=(_how_sure(found), *notes),
    )


def _how_sure(found: Prediction | LlmPrediction) -> str:
    """Say what figures rest on, and what their intervals hold."""
    windows = f"{found.num_runs} simulated windows of {format_duration(found.window_s)}"
    return (
        f"From {windows}. Nine measurements of that length in ten should lie in the interval: it holds chance and the "
        "cost model's error."
    )


def _number(value: float, factor: float) -> str:
    return "none" if not math.isfinite(value) else format_count(value * factor)


def span(value: Interval, factor: float) -> str:
    """Write an interval, multiplied to be in its unit."""
    return f"{_number(value.low, factor)} to {_number(value.high, factor)}"


def choices_table(
    rows: Sequence[RowT], columns: Iterable[ColumnOf[RowT]], *, objectives: Sequence[object], notes: Iterable[str]
) -> Table:
    """Show the same load served in other ways.

    Args:
        rows: The ways.
        columns: What is told of each; `figure` makes them.
        objectives: What is promised; goodput is left out without any, for then it is what is answered.
        notes: What else is to be known.
    """
    told = [one for one in columns if objectives or one[0].title != "goodput"]
    return table_of(
        "The same load served in other ways",
        rows,
        [(Column("choice"), lambda row: row.name), *told],
        notes=tuple(notes),
        highlight=lambda row: row.chosen,
        highlight_label="plan",
    )


def figure(name: str, factor: float = 1.0) -> Callable[[WhatIfRow | LlmRow], Cell]:
    """Read one figure of a row; nothing where there is none, or where it says nothing."""
    return _told(name, lambda value: format_count(value.value * factor))


def intervals_table(rows: Sequence[RowT], figures: Iterable[Shown], *more: ColumnOf[RowT]) -> Table:
    """Show the same rows with the interval of every figure.

    Args:
        rows: The ways to serve the load.
        figures: What is told of each.
        more: What else is told.
    """
    columns = [
        (Column(words, unit, align="right"), _told(name, partial(span, factor=factor)))
        for name, words, unit, factor in figures
    ]
    return table_of("The same with 90 % intervals", rows, [(Column("choice"), lambda row: row.name), *columns, *more])


def _told(name: str, write: Callable[[Interval], str]) -> Callable[[WhatIfRow | LlmRow], Cell]:
    def read(row: WhatIfRow | LlmRow) -> Cell:
        found = row.prediction
        if found is None or (name in _ENDLESS and not found.stable):
            return None
        value: Interval = getattr(found, name)
        return write(value) if math.isfinite(value.value) else None

    return read


def compared_table(
    tried: Sequence[TriedT], chosen: Setup | LlmSetup, columns: Iterable[ColumnOf[TriedT]], *, most: int, note: str
) -> Table:
    """Show what a search compared.

    Args:
        tried: The best first.
        chosen: The plan.
        columns: What is told of each.
        most: How many are shown.
        note: What is to be known of them.
    """
    left_out = len(tried) - most
    return table_of(
        "What was compared, the best first",
        tried[:most],
        list(columns),
        notes=(note, *((f"{left_out} more were compared.",) if left_out > 0 else ())),
        highlight=lambda one: one.setup == chosen,
        highlight_label="plan",
    )
