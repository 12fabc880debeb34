"""The figures of a window that was measured, by the same names and definitions as those that are predicted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from carpool.signals import figures
from carpool.verify.scrape import batch_figures

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from carpool.plan.setup import Setup
    from carpool.signals.objective import Objective
    from carpool.verify.window import Window

NAN = float("nan")


def measured_figures(window: Window, setup: Setup, objectives: Sequence[Objective] = ()) -> Mapping[str, float]:
    """Compute what `carpool.plan.figures.Figures` holds from a window that was served.

    Latencies are the clients', from when a request was meant to be sent to its whole answer; what batches were like is
    the server's own account. NaN stands for what nothing is known about: there was no answer, or no batch.

    Args:
        window: what was measured.
        setup: what served it.
        objectives: what latencies are held against.
    """
    load, counts = window.load, window.counts
    latencies_s = load.latency_s[load.ok]
    in_window = load.done_at[load.ok] <= load.window_s
    in_time = latencies_s <= min((objective.latency_s for objective in objectives), default=float("inf"))
    num = len(load.outcome)
    return {
        "offered": figures.throughput(num, load.window_s),
        "throughput": figures.throughput(_count(in_window), load.window_s),
        "goodput": figures.throughput(_count(in_window & in_time), load.window_s),
        "attainment": _share(_count(in_time), num),
        "utilisation": figures.utilisation(_busy_s(window, setup), load.window_s, num_workers=setup.num_workers),
        "mean_s": float(latencies_s.mean()) if len(latencies_s) else NAN,
        "p50_s": _percentile(latencies_s, 50),
        "p95_s": _percentile(latencies_s, 95),
        "p99_s": _percentile(latencies_s, 99),
        "refused": _share(counts.num_refused, num),
        "expired": _share(counts.num_expired, num),
        **_of_batches(window),
    }


def _busy_s(window: Window, setup: Setup) -> float:
    """Return the workers' time within the window: what the server counts, less what it needed for the rest after it.

    While a queue is left over, every worker is busy.
    """
    load = window.load
    rest_s = max(0.0, float(load.done_at.max(initial=0.0)) - load.window_s)
    return max(0.0, window.counts.busy_s - rest_s * setup.num_workers)


def shares_within(window: Window, objectives: Sequence[Objective]) -> tuple[float, ...]:
    """Return for each objective the share of all requests that were answered within it."""
    load = window.load
    latencies_s = load.latency_s[load.ok]
    return tuple(_share(_count(latencies_s <= one.latency_s), len(load.outcome)) for one in objectives)


def _of_batches(window: Window) -> dict[str, float]:
    found = batch_figures(window.counts)
    names = ("mean_batch_size", "fill_ratio", "padding_waste", "queue_delay_s", "compute_s")
    values = {name: getattr(found, name) for name in names}
    return {name: NAN if value is None else value for name, value in values.items()}


def _percentile(latencies_s: NDArray[np.float64], q: float) -> float:
    return figures.percentile(latencies_s.tolist(), q) if len(latencies_s) else NAN


def _count(mask: NDArray[np.bool_]) -> int:
    return int(np.count_nonzero(mask))


def _share(num: float, whole: int) -> float:
    return num / whole if whole else 1.0
