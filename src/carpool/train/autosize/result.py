"""What a search for the micro-batch found: each probe, the peak of memory over sizes, and the times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from carpool.cost.memory import MemoryFit
from carpool.cost.model import CostModel
from carpool.units import counted, format_bytes, format_count, format_sizes

Outcome = Literal["fits", "does not fit", "too slow", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Training steps that were really made with one size of micro-batch.

    Args:
        size: items of the micro-batch.
        outcome: `fits`; `does not fit` in memory; `too slow`, not done in time; `failed` for another reason.
        peak_bytes: the most memory held during the steps; None where they were not completed.
        reason: why it does not fit, or failed.
        seconds: what the probe took in all, with the start of its process.
    """

    size: int
    outcome: Outcome
    peak_bytes: int | None = None
    reason: str = ""
    seconds: float = 0.0

    @property
    def fits(self) -> bool:
        """Whether the size can be trained with."""
        return self.outcome == "fits"

    @property
    def is_too_large(self) -> bool:
        """Whether it was too much, in memory or in time."""
        return self.outcome in {"does not fit", "too slow"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long a forward and backward pass over a micro-batch takes.

    Args:
        size: items of the micro-batch.
        pass_s: median seconds.
        low_s: lower end of the median's 95 % interval.
        high_s: upper end.
    """

    size: int
    pass_s: float
    low_s: float
    high_s: float

    @property
    def items_per_s(self) -> float:
        """Items a second when such passes follow one another."""
        return self.size / self.pass_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """Times over sizes of micro-batch, from 1 or so to the largest that fits.

    Args:
        timings: by size, ascending.
        update_s: median seconds of what a window does once: the optimiser's step, and clearing the gradients.
        cost: seconds of a forward and backward pass over so many items, fitted; None where only one size was timed.
        best_size: the smallest micro-batch that is as good as the fastest a sample: what an effective batch is best
            cut into.
    """

    timings: tuple[Timing, ...]
    update_s: float
    cost: CostModel | None
    best_size: int

    @property
    def best(self) -> Timing:
        """The timing of the best size."""
        return next(timing for timing in self.timings if timing.size == self.best_size)


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroBatch:
    """The largest micro-batch that fits in memory, on all ranks, and what is known of the others.

    Args:
        size: items; the smallest that any rank found.
        peak_bytes: the most memory that this rank held with it: where the ranks agreed on less than this one found,
            what is predicted.
        limit_bytes: the most that was allowed.
        limit_source: who says so.
        too_large: the smallest size that is known not to fit; None where the largest that was asked for fits.
        exact_within: share by which a larger size might fit, `(too_large - 1) / size - 1` on this rank; 0 where none.
        probes: in the order in which they were made.
        memory: the peak over sizes, a straight line through those that fit; None where only one was measured.
        throughput: times over sizes; None where they were not asked for, or could not be taken.
        not_timed: why they could not; empty otherwise.
        num_items: items of one pass over the data.
        usual_bytes: the peak with it in a process that keeps what it frees, as the C library does unless told otherwise
            (`give_back_freed_memory`); None where no times were taken.
        device: that the model computes on, as PyTorch names it.
        measure: what the bytes are, in words.
    """

    size: int
    peak_bytes: int
    limit_bytes: int
    limit_source: str
    too_large: int | None
    exact_within: float
    probes: tuple[Probe, ...]
    memory: MemoryFit | None
    throughput: Throughput | None
    not_timed: str
    num_items: int
    usual_bytes: int | None
    device: str
    measure: str

    @property
    def best_throughput(self) -> int:
        """The micro-batch that trains fastest, which may be smaller than the largest that fits."""
        return self.size if self.throughput is None else self.throughput.best_size

    def __str__(self) -> str:
        peak, limit = format_sizes(self.peak_bytes, self.limit_bytes)
        text = f"micro-batch {format_count(self.size)}: {peak} of {limit} ({self.limit_source})"
        if self.throughput is not None:
            best = self.throughput.best
            text += f"; {format_count(best.size)} is fastest, {format_count(best.items_per_s)} items/s"
        return f"{text}; {counted(len(self.probes), 'probe')}"


def describe(probe: Probe) -> str:
    """Say what came of a probe, in a line.

    Args:
        probe: what was found.

    >>> describe(Probe(size=8, outcome="fits", peak_bytes=3 * 1024**2))
    'micro-batch 8 fits: 3 MiB'
    """
    peak = "" if probe.peak_bytes is None else format_bytes(probe.peak_bytes)
    said = peak if probe.fits else probe.reason
    return f"micro-batch {format_count(probe.size)} {probe.outcome}: {said}"
