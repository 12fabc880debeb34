"""What a run of load leaves behind: a line for each request."""

from __future__ import annotations

import csv
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from carpool.loadgen.records import LoadResult

FIELDS = ("intended_at_s", "sent_at_s", "done_at_s", "latency_s", "lag_s", "outcome", "status", "num_bytes")


def write_requests(path: Path, result: LoadResult) -> None:
    """Write a CSV of every request, in the order in which they were meant to be sent.

    Times are seconds from the start of the run; when a request that overflowed was sent is left empty.

    Args:
        path: The file; its directory must be there.
        result: The run.
    """
    columns = (
        result.intended_at,
        result.sent_at,
        result.done_at,
        result.latency_s,
        result.sent_at - result.intended_at,
    )
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(FIELDS)
        for *times, outcome, status, num_bytes in zip(
            *(column.tolist() for column in (*columns, result.outcome, result.status, result.num_bytes)), strict=True
        ):
            writer.writerow([*map(_seconds, times), outcome, status, num_bytes])


def _seconds(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6f}"
