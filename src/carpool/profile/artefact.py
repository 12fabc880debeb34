"""The profile as it is written to a file: everything that was measured, on what, and what could not be and why."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, ClassVar, Protocol, TypeVar

from carpool.config import document
from carpool.config.document import Migrations
from carpool.cost.model import CostModel
from carpool.cost.roofline import Bound
from carpool.errors import ConfigError
from carpool.profile.breakdown import CallParts
from carpool.profile.machine import Machine
from carpool.profile.measure import DropKind
from carpool.profile.memory import Probe
from carpool.profile.mix import MixPoint
from carpool.profile.peaks import MeasuredPeaks
from carpool.profile.quality import Quality

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfilePoint:
    """One measured shape.

    Args:
        batch_size: Items in the batch.
        length: Padded tokens of each; 1 where lengths mean nothing.
        time_s: Median seconds of the call.
        low_s: Lower end of its confidence interval.
        high_s: Upper end.
        confidence: Probability that the interval covers the median.
        num_samples: Independent samples.
        num_calls: Timed calls in them.
        items_per_s: Batch size over time.
        speedup: Throughput beside that of single items of the same length; None where those were not measured.
        overhead_share: Share of the time that the fitted model says is the call's own; None without a fit.
        mfu: Share of the measured peak FLOP/s; None where the FLOP are unknown.
        mbu: Share of the measured peak bytes/s; None where the bytes are unknown.
        memory_bytes: Peak of memory, probed or by the fit to the probes; None where unknown.
        joules_per_item: Energy, where a counter could be read.
    """

    batch_size: int
    length: int
    time_s: float
    low_s: float
    high_s: float
    confidence: float
    num_samples: int
    num_calls: int
    items_per_s: float
    speedup: float | None = None
    overhead_share: float | None = None
    mfu: float | None = None
    mbu: float | None = None
    memory_bytes: int | None = None
    joules_per_item: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A shape that was asked for and has no time, and why: the budget, memory, or an error of the model."""

    batch_size: int
    length: int
    kind: DropKind
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Knee:
    """The smallest batch size whose throughput is within 5 % of the best that was measured, at one length.

    Args:
        length: Padded tokens of each item.
        batch_size: The knee.
        time_s: Seconds of such a batch: as measured, or by the fit where that size was not measured.
        items_per_s: Its throughput.
        speedup: Beside single items, as measured or by the fit.
        overhead_share: What is left of the call's own cost.
    """

    length: int
    batch_size: int
    time_s: float
    items_per_s: float
    speedup: float
    overhead_share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryFound:
    """What the probes of memory found.

    Args:
        what: What a peak is of.
        limit_bytes: The most that a shape was allowed; None where memory was not probed.
        limit_source: Who says so.
        probes: Every shape that was probed, or was to be.
        unavailable: Why memory was not probed; empty where it was.
    """

    what: str = ""
    limit_bytes: int | None = None
    limit_source: str = ""
    probes: tuple[Probe, ...] = ()
    unavailable: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class IdlePenalty:
    """What a pause adds to the call that follows it.

    Args:
        idle_s: Seconds that the model was idle.
        extra_s: By how many seconds the next call is longer than one that follows another at once.
    """

    idle_s: float
    extra_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyFound:
    """Whether joules were counted.

    Args:
        source: What counted them; empty where nothing did.
        unavailable: Why not; empty where they were.
    """

    source: str = ""
    unavailable: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """Whether the figures of a profile can be relied on.

    Args:
        trusted: Whether nothing speaks against it.
        times_sure: Whether nothing speaks against what was measured; it may be sure where what the fit predicts is not.
        reasons: What does, each with its figures; empty where it is trusted.
        remedy: What to do about it; empty where it is trusted.
    """

    trusted: bool = True
    times_sure: bool = True
    reasons: tuple[str, ...] = ()
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Everything that `carpool profile` found out about one model on one machine.

    Args:
        trust: Whether to rely on it: look here first.
        target: The TARGET that was profiled.
        name: The model's short name.
        kind: `function`, `torch`, `encoder` or `onnx`.
        num_parameters: Of the model; None where unknown.
        created_at: When, in UTC, as ISO 8601.
        took_s: Seconds that all of it took, loading not counted.
        budget_s: Seconds that it was given.
        complete: False where it was broken off: what is there was measured before.
        machine: What the figures hold for.
        batch_sizes: Batch sizes that were asked for.
        lengths: Padded lengths that were measured.
        typical_length: The one nearest to the mean of the model's own examples; single figures are for it.
        length_buckets: Lengths that batches are padded to, ascending; empty where items have no length.
        ragged: Whether items of different lengths run side by side without padding.
        token_buckets: What a ragged batch's tokens are rounded up to in all, ascending.
        preferred_tokens: Tokens that a ragged batch is held to where nobody says how many; None for no limit.
        preferred_workers: Workers that the model is served with where nobody says how many; one of them was measured.
        example_lengths: Tokens of the model's own examples, in no order.
        max_length: The most tokens that an item may have; None where there is no limit.
        call_spread: How single calls scatter: quantiles, evenly spaced from 0 to 1, of a call's time over its shape's
            median; empty where there were too few.
        points: The measured shapes, ascending by length and batch size.
        skipped: The others.
        other_load_cores: Cores' worth of time that other programs used while it was timed, in the busier phase.
        drift: How much slower the machine was in the later half of the samples: 0.02 is 2 %.
        cost_model: The fit; None where there were too few points.
        knees: One for each length of the fit.
        peaks: What the machine can do; None where it was broken off before.
        bound: What limits a batch at the knee; None where it is not known, or the times are not sure.
        breakdown: Calls taken apart, at the typical length.
        memory: Peaks of memory.
        quality: Whether batching changes results; None where it was not looked at.
        energy: Whether joules were counted.
        mix: Items of mixed lengths, in order of arrival and sorted.
        sentences: What all that means, in words.
        idle_penalties: How much longer calls take after the model was idle, ascending by the pause.
    """

    MIGRATIONS: ClassVar[Migrations] = {}

    schema_version: int = 1
    trust: Trust
    target: str
    name: str
    kind: str
    num_parameters: int | None
    created_at: str
    took_s: float
    budget_s: float
    complete: bool
    machine: Machine
    batch_sizes: tuple[int, ...]
    lengths: tuple[int, ...]
    typical_length: int
    points: tuple[ProfilePoint, ...]
    skipped: tuple[Skipped, ...]
    drift: float
    other_load_cores: float
    cost_model: CostModel | None
    knees: tuple[Knee, ...]
    peaks: MeasuredPeaks | None
    bound: Bound | None
    breakdown: tuple[CallParts, ...]
    memory: MemoryFound
    quality: Quality | None
    energy: EnergyFound
    mix: tuple[MixPoint, ...]
    sentences: tuple[str, ...]
    length_buckets: tuple[int, ...] = ()
    ragged: bool = False
    token_buckets: tuple[int, ...] = ()
    preferred_tokens: int | None = None
    preferred_workers: int = 1
    example_lengths: tuple[int, ...] = ()
    max_length: int | None = None
    call_spread: tuple[float, ...] = ()
    idle_penalties: tuple[IdlePenalty, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether the model itself failed at some shape."""
        return any(one.kind == "error" for one in self.skipped)

    @property
    def has_lengths(self) -> bool:
        """Whether items have lengths."""
        return self.lengths != (1,)

    @property
    def knee(self) -> Knee | None:
        """The knee at the typical length."""
        return next((knee for knee in self.knees if knee.length == self.typical_length), None)

    def is_measured(self, batch_size: int, length: int) -> bool:
        """Tell whether a shape was measured; what is said of any other is the fit's estimate."""
        return any(point.batch_size == batch_size for point in self.at(length))

    def at(self, length: int) -> list[ProfilePoint]:
        """Return the points of one length, ascending by batch size."""
        return [point for point in self.points if point.length == length]

    def figures(self) -> Iterator[tuple[str, float, float]]:
        """Give the figures that everything is predicted from, each with what it must be above."""
        for point in self.points:
            yield f"time_s of {point.batch_size} x {point.length}", point.time_s, 0.0
        yield "drift", self.drift, -1.0
        model = self.cost_model
        if model is not None:
            yield "the number of points behind the cost model", float(len(self.points)), 0.0
            for size, length in zip(model.largest_batch_sizes, model.lengths, strict=True):
                yield f"the cost model at {size} x {length}", model.surface.time_s(size, length), 0.0


class _Checkable(Protocol):
    @property
    def target(self) -> str: ...

    def figures(self) -> Iterator[tuple[str, float, float]]: ...


ProfileT = TypeVar("ProfileT", bound=_Checkable)


def load_profile(path: Path | str) -> Profile:
    """Read a profile.

    Args:
        path: The file, as `save_profile` wrote it.

    Raises:
        ConfigError: It cannot be read, or was changed.
        SchemaError: It is not a profile, or one of an unknown version.
    """
    return checked(document.read(path, Profile), str(path))


def checked(profile: ProfileT, source: str) -> ProfileT:
    """Return a profile, of any kind of model, whose figures can be true.

    Args:
        profile: What was read.
        source: Where from, for the message.

    Raises:
        ConfigError: A figure can't be; the file was changed.
    """
    for what, value, least in profile.figures():
        if not (isfinite(value) and value > least):
            raise ConfigError(
                f"{source}: {what} is {value:g}; it must be above {least:g} and finite: the file was changed, so "
                f"measure again by `carpool profile {profile.target}`"
            )
    return profile


def save_profile(path: Path | str, profile: document.Document) -> None:
    """Write a profile of any kind of model, whole or not at all.

    Raises:
        ConfigError: It cannot be written there.
    """
    document.write(path, profile)
