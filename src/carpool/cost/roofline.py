"""What holds a batch back: arithmetic, memory, transfer to the device or overhead, from measured peaks and times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from carpool.errors import ConfigError

BoundKind = Literal["compute", "memory", "overhead", "transfer"]

# A device that reaches less than a quarter of both its peaks while it works is held up by something else: many small
# kernels, their launches, and the tails of each. Real kernels of useful size reach a third or more of one of the two.
REACHED = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Peaks:
    """The best that the machine was measured to do.

    Args:
        flops_per_s: Arithmetic of a large matrix product in the model's dtype, FLOP/s.
        bytes_per_s: A large copy, bytes read and written a second.
    """

    flops_per_s: float
    bytes_per_s: float

    def __post_init__(self) -> None:
        """Refuse peaks that nothing can be held against.

        Raises:
            ConfigError: A peak is not above 0.
        """
        for name in ("flops_per_s", "bytes_per_s"):
            value = getattr(self, name)
            if not 0.0 < value < float("inf"):
                raise ConfigError(f"peak {name} is {value!r}; it must be above 0 and finite: measure the peak again")

    @property
    def ridge(self) -> float:
        """Arithmetic intensity in FLOP a byte above which arithmetic, not memory, limits the best possible kernel."""
        return self.flops_per_s / self.bytes_per_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Breakdown:
    """Where the seconds of one batch went; the parts add up to the whole.

    Args:
        host_s: Preparing on the host (tokenise, collate) and finishing there.
        transfer_s: Copies to the device and back.
        launch_s: The device waits for launches and allocation: what a call costs however little it computes.
        compute_s: The device works.
    """

    host_s: float
    transfer_s: float
    launch_s: float
    compute_s: float

    @property
    def total_s(self) -> float:
        """Seconds of the batch."""
        return self.host_s + self.transfer_s + self.launch_s + self.compute_s

    @property
    def overhead_s(self) -> float:
        """Seconds in which neither data moved nor the device worked."""
        return self.host_s + self.launch_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """What limits a batch, and why that is said.

    Args:
        kind: `compute`, `memory`, `overhead` or `transfer`.
        why: One sentence with the figures that decided.
        mfu: Share of peak FLOP/s over the whole batch; None where its FLOP are unknown.
        mbu: Share of peak bytes/s over the whole batch; None where its bytes are unknown.
        intensity: FLOP a byte; None where either is unknown.
    """

    kind: BoundKind
    why: str
    mfu: float | None
    mbu: float | None
    intensity: float | None


def mfu(flops: float, time_s: float, peaks: Peaks) -> float:
    """Return the model FLOP utilisation: `FLOP / (time x peak FLOP/s)`.

    Source: Chowdhery et al., "PaLM", 2022, appendix B.

    >>> mfu(5e9, 0.01, Peaks(flops_per_s=1e12, bytes_per_s=1e11))
    0.5
    """
    return flops / (time_s * peaks.flops_per_s)


def mbu(num_bytes: float, time_s: float, peaks: Peaks) -> float:
    """Return the memory bandwidth utilisation: `bytes that must move / (time x peak bytes/s)`."""
    return num_bytes / (time_s * peaks.bytes_per_s)


def intensity(flops: float, num_bytes: float) -> float:
    """Return the arithmetic intensity, in FLOP a byte moved.

    Source: Williams, Waterman, Patterson, "Roofline", CACM 52(4), 2009.
    """
    return flops / num_bytes


def name_bound(
    breakdown: Breakdown, *, peaks: Peaks | None = None, flops: float | None = None, num_bytes: float | None = None
) -> Bound:
    """Name what limits a batch: the largest part of its time, and on the device the peak that it comes closest to.

    1. Of overhead (host and launches), transfer and compute, the largest part of the measured time counts.
    2. Where that is compute: the larger of the two utilisations *while the device works* names compute or memory, if it
       is at least a quarter of the peak; below that neither limits, and the small pieces of work do: overhead.
    3. Without FLOP, bytes or peaks, the work on the device can't be told apart further, and is called compute.

    Args:
        breakdown: Measured seconds of one batch.
        peaks: Measured peaks of the machine.
        flops: FLOP of the batch.
        num_bytes: Bytes that the batch has to move at least: parameters, inputs, outputs.

    Raises:
        ConfigError: The breakdown has no time in it.
    """
    total_s = breakdown.total_s
    if not total_s > 0.0:
        raise ConfigError(f"the breakdown adds up to {total_s!r} s; it must be above 0: measure a larger batch")
    kind, why = _largest_part(breakdown)
    if kind == "compute" and peaks is not None:
        kind, why = _on_device(why, breakdown.compute_s, peaks, flops, num_bytes)
    return Bound(
        kind=kind,
        why=why,
        mfu=mfu(flops, total_s, peaks) if peaks is not None and flops is not None else None,
        mbu=mbu(num_bytes, total_s, peaks) if peaks is not None and num_bytes is not None else None,
        intensity=intensity(flops, num_bytes) if flops is not None and num_bytes else None,
    )


def _largest_part(breakdown: Breakdown) -> tuple[BoundKind, str]:
    parts: dict[BoundKind, tuple[float, str]] = {
        "compute": (breakdown.compute_s, "the device works"),
        "overhead": (breakdown.overhead_s, "the host prepares, launches or finishes"),
        "transfer": (breakdown.transfer_s, "data moves between host and device"),
    }
    kind = max(parts, key=lambda name: parts[name][0])
    seconds, what = parts[kind]
    return kind, f"for {seconds / breakdown.total_s:.0%} of the time {what}"


def _on_device(
    why: str, compute_s: float, peaks: Peaks, flops: float | None, num_bytes: float | None
) -> tuple[BoundKind, str]:
    """Tell arithmetic, memory and small pieces of work apart, by the peaks reached while the device works."""
    arithmetic = mfu(flops or 0.0, compute_s, peaks)
    memory = mbu(num_bytes or 0.0, compute_s, peaks)
    if flops is None and num_bytes is None:
        return "compute", f"{why}; neither its FLOP nor its bytes are known"
    from_memory = f"{memory:.0%} of the peak bytes/s"
    if memory > 1.0:  # what fits in a cache moves faster than a large copy
        from_memory = f"more than the peak bytes/s of a large copy, as much of it stays in caches ({memory:.0%})"
    reached = f"{why}, at {arithmetic:.0%} of the peak FLOP/s and {from_memory}"
    if max(arithmetic, memory) < REACHED:
        return "overhead", f"{reached}: both below {REACHED:.0%}, so many small pieces of work limit it, not a peak"
    return ("compute" if arithmetic >= memory else "memory"), reached
