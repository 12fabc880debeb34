"""The figures of one simulated run, by the same definitions as those of a live server."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from carpool.plan.simulate import Outcome, Run
from carpool.signals import figures

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from carpool.signals.objective import Objective

# A queue grows where workers are busy and items wait so many times as long in the last third of the window as in the
# middle one: in thirds of a steady state the waits are alike.
BUSY, _GROWTH = 0.95, 1.4


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What one window amounts to.

    Args:
        offered: Items a second that arrived.
        throughput: Items a second that were answered in the window.
        goodput: Items a second answered within every objective; within none, all that were answered.
        attainment: Share of all that arrived which was answered within every objective.
        mean_batch_size: Items a batch.
        fill_ratio: Items over the most that the batches could have held.
        padding_waste: Share of the computed tokens that was padding.
        utilisation: Share of the workers' time spent in the model.
        mean_s: Mean latency.
        p50_s: Median latency.
        p95_s: Its 95th percentile.
        p99_s: Its 99th percentile.
        queue_delay_s: Mean time from arrival to dispatch.
        compute_s: Mean time of a batch.
        refused: Share of all that arrived which was not accepted.
        expired: Share of all that arrived whose deadline passed while it waited.
        at_objectives_s: For each objective, the latency at its percentile, of those that were answered.
        shares_within: For each objective, the share of all that arrived which was answered within it; it is kept where
            that share is at least its quantile.
        grows: Whether the queue was still growing at the end.
    """

    offered: float
    throughput: float
    goodput: float
    attainment: float
    mean_batch_size: float
    fill_ratio: float
    padding_waste: float
    utilisation: float
    mean_s: float
    p50_s: float
    p95_s: float
    p99_s: float
    queue_delay_s: float
    compute_s: float
    refused: float
    expired: float
    at_objectives_s: tuple[float, ...]
    shares_within: tuple[float, ...]
    grows: bool


def figures_of(run: Run, objectives: Sequence[Objective] = (), *, transport_s: float = 0.0) -> Figures:
    """Compute the figures of a run.

    Latencies are of the items that arrived in the window, whenever they were answered; rates and the workers' time
    are of the window itself. Where nothing was answered, latencies are infinite.

    Args:
        run: What was simulated.
        objectives: What latencies are held against.
        transport_s: Seconds that every request spends on its way to the batcher and back.
    """
    answered = run.outcomes == Outcome.ANSWERED
    latencies_s = run.latencies_s[answered] + transport_s
    in_window = run.stream.times_s[answered] + run.latencies_s[answered] <= run.stream.window_s
    in_time = latencies_s <= min((objective.latency_s for objective in objectives), default=math.inf)
    ordered_s = np.sort(latencies_s)
    num, window_s, num_batches = len(run.stream), run.stream.window_s, len(run.num_items)
    busy_s = np.clip(np.minimum(run.took_s, window_s - run.dispatched_at), 0.0, None).sum()
    used = figures.utilisation(float(busy_s), window_s, num_workers=run.setup.num_workers)
    return Figures(
        offered=figures.throughput(num, window_s),
        throughput=figures.throughput(num_true(in_window), window_s),
        goodput=figures.throughput(num_true(in_window & in_time), window_s),
        attainment=num_true(in_time) / num if num else 1.0,
        mean_batch_size=figures.mean_batch_size(int(run.num_items.sum()), num_batches),
        fill_ratio=figures.fill_ratio(
            int(run.num_items.sum()), run.setup.policy.max_batch_size, num_batches=max(1, num_batches)
        ),
        padding_waste=figures.padding_waste(int(run.real_tokens.sum()), int(run.padded_tokens.sum())),
        utilisation=used,
        mean_s=_mean(ordered_s),
        p50_s=_at(ordered_s, 0.5),
        p95_s=_at(ordered_s, 0.95),
        p99_s=_at(ordered_s, 0.99),
        queue_delay_s=_mean(run.queue_delay_s[run.batch_of >= 0]),
        compute_s=_mean(run.took_s),
        refused=_share(run, Outcome.REFUSED),
        expired=_share(run, Outcome.EXPIRED),
        at_objectives_s=tuple(_at(ordered_s, objective.quantile) for objective in objectives),
        shares_within=tuple(
            num_true(latencies_s <= objective.latency_s) / num if num else 1.0 for objective in objectives
        ),
        grows=used > BUSY and _waits_grow(run),
    )


def num_true(mask: NDArray[np.bool_]) -> int:
    """Return how many of a mask are true."""
    return int(np.count_nonzero(mask))


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else math.inf


def _at(ordered_s: NDArray[np.float64], quantile: float) -> float:
    """Return a quantile as `signals.figures.percentile` defines it: linear between order statistics."""
    return float(np.quantile(ordered_s, quantile)) if len(ordered_s) else math.inf


def _share(run: Run, outcome: Outcome) -> float:
    return num_true(run.outcomes == outcome) / len(run.stream) if len(run.stream) else 0.0


def _waits_grow(run: Run) -> bool:
    """Tell whether items of the last third of the window waited much longer than those of the middle one."""
    ran = run.batch_of >= 0
    third = np.minimum(run.stream.times_s[ran] * 3 // run.stream.window_s, 2)
    delays_s = run.queue_delay_s[ran]
    middle_s, last_s = delays_s[third == 1], delays_s[third == 2]  # noqa: PLR2004 - thirds are 0, 1 and 2
    return bool(len(middle_s) and len(last_s) and last_s.mean() > _GROWTH * middle_s.mean())
