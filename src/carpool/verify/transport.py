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
            where the server was given no profile.
        num_requests: answers that this is the mean of.
    """

    transport_s: float
    pace: float | None
    num_requests: int


def overheads(window: Window, call_spread: Sequence[float] = (), *, rest_s: float = 0.0) -> Overheads:
    """Learn from a window what the way to the batcher and back takes, and how fast batches run.

    Args:
        window: what was measured.
        call_spread: quantiles, evenly spaced from 0 to 1, of the time of single calls over the median of their shape:
            what a cost model promises is a median, and the mean of calls is more.
        rest_s: what rests add to a batch on average, as the profile has it, where that is not to count as pace.

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
    profiled_s = counts.profiled_s and counts.profiled_s + rest_s * counts.num_batches
    return Overheads(
        transport_s=max(0.0, float(load.latency_s[load.ok].mean()) - counts.latency_s / counts.num_items),
        pace=counts.predicted_busy_s / profiled_s / mean_of(call_spread) if profiled_s else None,
        num_requests=num,
    )


def added_by_rests_s(rests_s: Sequence[float], idle_penalties: Sequence[tuple[float, float]]) -> float:
    """Return what rests before calls add to them on average.

    Args:
        rests_s: how long each is.
        idle_penalties: seconds of rest, and seconds that the next call takes longer for it, both rising.

    >>> added_by_rests_s((0.0, 0.02), [(0.01, 0.001), (0.03, 0.003)])
    0.001
    """
    idle_s, extra_s = zip((0.0, 0.0), *idle_penalties, strict=True)
    return float(np.mean(np.interp(rests_s, idle_s, extra_s)))


def mean_of(quantiles: Sequence[float]) -> float:
    """Return the mean of a distribution that is given by its evenly spaced quantiles; 1 where there are none.

    >>> mean_of((0.5, 1.0, 2.5))
    1.25
    """
    if len(quantiles) <= 1:
        return float(quantiles[0]) if len(quantiles) else 1.0
    return float(np.trapezoid(quantiles, dx=1 / (len(quantiles) - 1)))
