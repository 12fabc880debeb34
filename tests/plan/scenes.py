"""Measured models whose times and memory are known exactly, and loads for them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from carpool.cost.model import Measurement, MemoryPoint, fit_cost_model
from carpool.plan.candidates import Candidates
from carpool.plan.scene import Scene
from carpool.plan.search import Search, SearchResult
from carpool.plan.stream import Stream
from carpool.plan.subject import Subject
from carpool.plan.workload import Poisson, Workload
from carpool.signals.objective import Objective

SIZES = (1, 2, 4, 8, 16)
MODEL_BYTES, TOKEN_BYTES = 1_000_000, 1_000


def affine(
    overhead_s: float = 0.004,
    token_s: float = 0.001,
    *,
    lengths: tuple[int, ...] = (1,),
    memory: bool = False,
    limit_bytes: int | None = None,
    sizes: tuple[int, ...] = SIZES,
) -> Subject:
    """Return a model with `t = overhead_s + token_s b len` and memory of 1 MB and 1 kB a token, without any error."""
    shapes = [(size, length) for length in lengths for size in sizes]
    times = [
        Measurement(batch_size=b, length=n, time_s=(t := overhead_s + token_s * b * n), low_s=t, high_s=t)
        for b, n in shapes
    ]
    peaks = [MemoryPoint(batch_size=b, length=n, peak_bytes=MODEL_BYTES + TOKEN_BYTES * b * n) for b, n in shapes]
    cost = fit_cost_model(times, peaks if memory else (), measured_on={})
    return Subject(
        target="m.py:f",
        name="f",
        cost=replace(cost, residual_sd=0.0, measurement_sd=0.0),
        example_lengths=lengths,
        memory_limit_bytes=limit_bytes,
    )


@dataclass(frozen=True)
class Groups:
    """Items that come in groups: one every 0.2 ms, as many as a group has, at even intervals."""

    rate: float
    size: int = 8

    def draw(self, rng: np.random.Generator, window_s: float) -> Stream:
        """Draw one window."""
        starts = np.arange(0.0, window_s - 0.01, self.size / self.rate)
        starts += rng.uniform(0.0, 1e-3, len(starts))
        times_s = (starts[:, None] + 2e-4 * np.arange(self.size)).ravel()
        return Stream(times_s=times_s, lengths=np.ones(len(times_s), dtype=np.int64), window_s=window_s)

    def scaled(self, factor: float) -> Groups:
        """Return the same with groups that follow each other faster."""
        return replace(self, rate=self.rate * factor)


def poisson(rate: float, lengths: tuple[int, ...] = (1,)) -> Workload:
    """Return independent arrivals."""
    return Workload(arrivals=Poisson(rate=rate), lengths=lengths)


def scene(subject: Subject, load: Workload | Groups, *objectives: str, items: int = 600) -> Scene:
    """Return short windows of so many items."""
    return Scene(
        subject=subject,
        load=load,
        objectives=tuple(map(Objective.parse, objectives)),
        window_s=items / load.rate,
    )


def candidates(
    subject: Subject,
    lengths: tuple[int, ...] = (1,),
    *,
    max_batch_size: int | None = None,
    memory_limit_bytes: int | None = None,
) -> Candidates:
    """Return what may be tried for items of such lengths."""
    return Candidates(
        subject=subject,
        lengths=sorted(lengths),
        max_batch_size=max_batch_size,
        memory_limit_bytes=memory_limit_bytes,
    )


def search(
    subject: Subject,
    load: Workload | Groups,
    *objectives: str,
    lengths: tuple[int, ...] = (1,),
    max_workers: int = 1,
    items: int = 600,
    max_batch_size: int | None = None,
    memory_limit_bytes: int | None = None,
) -> SearchResult:
    """Search in short windows, and predict in the same."""
    seen = scene(subject, load, *objectives, items=items)
    tried = candidates(subject, lengths, max_batch_size=max_batch_size, memory_limit_bytes=memory_limit_bytes)
    return Search(scene=seen, full=seen, candidates=tried, max_workers=max_workers, num_runs=5).run()
