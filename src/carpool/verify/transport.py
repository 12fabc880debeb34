"""What a request spends outside the batcher: its way to the server, being read and written, and its way back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from carpool.errors import ConnectionFailed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carpool.verify.window import Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Overheads:
    """What a window says of all that is not the model's own time.

    Args:
        transport_s: mean of a request's latency as its client sees it, less what the server counts from arrival to the
            end of the batch. The generator's lateness is in it, for it is in the clients' latencies too.
        pace: how many times as long the batches took as such calls took on average when the model was profiled; None
            where the server was given no cost model.
        num_requests: answers that this is the mean of.
    """

    transport_s: float
    pace: float | None
    num_requests: int


def overheads(window: Window, call_spread: Sequence[float] = ()) -> Overheads:
    """Learn from a window what the way to the batcher and back takes, and how fast batches run.

    Args:
        window: what was measured.
        call_spread: quantiles, evenly spaced from 0 to 1, of the time of single calls over the median of their shape:
            what a cost model promises is a median, and the mean of calls is more.

    Raises:
        ConnectionFailed: nothing was answered.
    """
    load, counts = window.load, window.counts
    num = int(load.ok.sum())
    if not num or not counts.num_items:
        failures = ", ".join(f"{kind}: {detail}" for kind, detail in load.details.items()) or "none was sent"
        raise ConnectionFailed(
            f"none of {len(load.outcome)} requests was answered ({failures}): see that the model takes them"
        )
    return Overheads(
        transport_s=max(0.0, float(load.latency_s[load.ok].mean()) - counts.latency_s / counts.num_items),
        pace=counts.predicted_busy_s / counts.predicted_s / mean_of(call_spread) if counts.predicted_s else None,
        num_requests=num,
    )


def mean_of(quantiles: Sequence[float]) -> float:
    """Return the mean of a distribution that is given by its evenly spaced quantiles; 1 where there are none.

    >>> mean_of((0.5, 1.0, 2.5))
    1.25
    """
    if len(quantiles) <= 1:
        return float(quantiles[0]) if len(quantiles) else 1.0
    return float(np.trapezoid(quantiles, dx=1 / (len(quantiles) - 1)))
