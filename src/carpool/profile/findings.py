"""What has been found so far: filled phase by phase, and turned into a profile at whatever point measuring ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from carpool.cost.model import CostModel, Measurement, fit_cost_model
from carpool.cost.roofline import Bound, Peaks, mbu, mfu, name_bound
from carpool.errors import CarpoolError
from carpool.models.model import ModelInfo
from carpool.profile.artefact import EnergyFound, IdlePenalty, Knee, MemoryFound, Profile, ProfilePoint, Skipped, Trust
from carpool.profile.breakdown import CallParts
from carpool.profile.calls import Energy
from carpool.profile.energy import LEAST_SECONDS
from carpool.profile.machine import Machine
from carpool.profile.measure import Sweep, Timing
from carpool.profile.memory import memory_points
from carpool.profile.mix import MixPoint
from carpool.profile.options import ProfileOptions
from carpool.profile.peaks import MeasuredPeaks
from carpool.profile.quality import Quality
from carpool.profile.sentences import sentences_about
from carpool.profile.shape import Shape
from carpool.profile.trust import judge
from carpool.profile.work import Work

if TYPE_CHECKING:
    from carpool.cost.points import MemoryPoint


SIZES_TO_FIT = 2


@dataclass(slots=True)
class Findings:
    """Everything measured so far.

    Args:
        info: The model.
        machine: The machine.
        options: What was asked for.
        lengths: Padded lengths that are measured.
        typical_length: The one nearest to the mix's mean.
        length_buckets: What batches are padded to.
        ragged: Whether they are not padded.
        token_buckets: What their tokens are then rounded up to in all.
        preferred_tokens: What a ragged batch is held to where nobody says how much.
        preferred_workers: How many workers it is served with where nobody says how many.
        example_lengths: Of the mix, in no order.
        idle_penalties: What pauses add to calls.
        work: Work of a shape; none is known at first.
        sweep: Times.
        memory: Peaks of memory.
        energy: Whether joules are counted.
        peaks: What the machine can do.
        cost_model: The fit, once there is one.
        quality: Whether batching changes results.
        parts: Calls taken apart.
        mix: Items of mixed lengths.
        energy_counts: Joules by shape.
        complete: Whether every phase came to its end.
        took_s: Seconds of all of it.
        other_load_cores: Cores that other programs used while it was timed, in the busier phase.
    """

    info: ModelInfo
    machine: Machine
    options: ProfileOptions
    lengths: tuple[int, ...]
    typical_length: int
    length_buckets: tuple[int, ...] = ()
    ragged: bool = False
    token_buckets: tuple[int, ...] = ()
    preferred_tokens: int | None = None
    preferred_workers: int = 1
    example_lengths: tuple[int, ...] = ()
    sweep: Sweep = field(default_factory=Sweep)
    memory: MemoryFound = field(default_factory=MemoryFound)
    energy: EnergyFound = field(default_factory=EnergyFound)
    peaks: MeasuredPeaks | None = None
    cost_model: CostModel | None = None
    quality: Quality | None = None
    parts: list[CallParts] = field(default_factory=list)
    mix: list[MixPoint] = field(default_factory=list)
    idle_penalties: tuple[IdlePenalty, ...] = ()
    work: Callable[[Shape], Work] = lambda _: Work()
    energy_counts: dict[Shape, Energy] = field(default_factory=dict)
    complete: bool = False
    took_s: float = 0.0
    other_load_cores: float = 0.0

    def fit(self) -> None:
        """Fit the cost model to all timings, where there are enough."""
        points = [as_measurement(timing) for timing in self.sweep.timings()]
        sizes = {length: sum(point.length == length for point in points) for length in self.lengths}
        usable = [point for point in points if sizes[point.length] >= SIZES_TO_FIT]
        if usable:
            self.cost_model = fit_cost_model(usable, self._memory_points(), measured_on=self.machine.as_measured_on())

    def _memory_points(self) -> list[MemoryPoint]:
        points = memory_points(self.memory.probes)
        return points if len({(point.batch_size, point.length) for point in points}) >= SIZES_TO_FIT else []

    def knee_at(self, length: int) -> Knee | None:
        """Return the knee at a length; None where the fit does not cover it."""
        model = self.cost_model
        if model is None or length not in model.lengths:
            return None
        size = model.knee(length)
        measured_s = {timing.shape: timing.time_s for timing in self.sweep.timings()}
        time_s, single_s = (
            measured_s.get(Shape(size, length), model.time_s(size, length)),
            measured_s.get(Shape(1, length)),
        )
        return Knee(
            length=length,
            batch_size=size,
            time_s=time_s,
            items_per_s=size / time_s,
            speedup=1.0 if single_s is None else size * single_s / time_s,
            overhead_share=model.overhead_share(size, length),
        )

    def profile(self) -> Profile:
        """Put everything together."""
        if self.cost_model is None:
            self.fit()
        if self.peaks is not None:
            self.peaks = self.peaks.raised_to(self._best_flops_per_s())
        knees = [self.knee_at(length) for length in self.lengths]
        profile = Profile(
            trust=Trust(),
            target=self.info.target,
            name=self.info.name,
            kind=self.info.kind,
            num_parameters=self.info.num_parameters,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            took_s=self.took_s,
            budget_s=self.options.budget_s,
            complete=self.complete,
            machine=self.machine,
            batch_sizes=tuple(sorted(set(self.options.batch_sizes))),
            lengths=self.lengths,
            typical_length=self.typical_length,
            length_buckets=self.length_buckets,
            ragged=self.ragged,
            token_buckets=self.token_buckets,
            preferred_tokens=self.preferred_tokens,
            preferred_workers=self.preferred_workers,
            example_lengths=self.example_lengths,
            max_length=self.info.max_length,
            call_spread=self.sweep.call_spread(),
            idle_penalties=self.idle_penalties,
            points=tuple(self._points()),
            skipped=tuple(self._skipped()),
            drift=self.sweep.drift(),
            other_load_cores=self.other_load_cores,
            cost_model=self.cost_model,
            knees=tuple(knee for knee in knees if knee is not None),
            peaks=self.peaks,
            bound=self._bound(),
            breakdown=tuple(self.parts),
            memory=self.memory,
            quality=self.quality,
            energy=self.energy,
            mix=tuple(self.mix),
            sentences=(),
        )
        trust = judge(profile, self.options)
        if not trust.trusted:  # then the knee is no size to speak of, unless it was measured
            parts = (one for one in profile.breakdown if profile.is_measured(one.batch_size, one.length))
            profile = replace(profile, breakdown=tuple(parts))
        profile = replace(profile, trust=trust, bound=profile.bound if trust.times_sure else None)
        return replace(profile, sentences=tuple(sentences_about(profile)))

    def _points(self) -> list[ProfilePoint]:
        timings = self.sweep.timings()
        single = {timing.shape.length: timing.time_s for timing in timings if timing.shape.batch_size == 1}
        return [self._point(timing, single.get(timing.shape.length)) for timing in timings]

    def _point(self, timing: Timing, single_s: float | None) -> ProfilePoint:
        shape, peaks, work = timing.shape, self._peaks(), self.work(timing.shape)
        return ProfilePoint(
            batch_size=shape.batch_size,
            length=shape.length,
            time_s=timing.time_s,
            low_s=timing.low_s,
            high_s=timing.high_s,
            confidence=timing.confidence,
            num_samples=timing.num_samples,
            num_calls=timing.num_calls,
            items_per_s=shape.batch_size / timing.time_s,
            speedup=None if single_s is None else shape.batch_size * single_s / timing.time_s,
            overhead_share=self._overhead_share(shape),
            mfu=None if peaks is None or work.flops is None else mfu(work.flops, timing.time_s, peaks),
            mbu=None if peaks is None or work.num_bytes is None else mbu(work.num_bytes, timing.time_s, peaks),
            memory_bytes=self._memory_bytes(shape),
            joules_per_item=self._joules_per_item(shape),
        )

    def _best_flops_per_s(self) -> float:
        """Return the most FLOP/s of any batch: on a busy machine it may pass the peak that was measured apart."""
        timed = [(timing.shape, timing.time_s) for timing in self.sweep.timings()]
        timed += [(Shape(parts.batch_size, parts.length), parts.working_s) for parts in self.parts]
        return max(((self.work(shape).flops or 0.0) / time_s for shape, time_s in timed if time_s > 0.0), default=0.0)

    def _peaks(self) -> Peaks | None:
        found = self.peaks
        return None if found is None else Peaks(flops_per_s=found.flops_per_s, bytes_per_s=found.bytes_per_s)

    def _overhead_share(self, shape: Shape) -> float | None:
        model = self.cost_model
        if model is None or shape.length not in model.lengths:
            return None
        return model.overhead_share(shape.batch_size, shape.length)

    def _memory_bytes(self, shape: Shape) -> int | None:
        """Return the probed peak, or what the fit to the probes says of a shape within them."""
        probed = next((probe.peak_bytes for probe in self.memory.probes if probe.shape == shape), None)
        if probed is not None or self.cost_model is None or self.cost_model.memory is None:
            return probed
        try:
            return round(self.cost_model.memory_bytes(shape.batch_size, shape.length))
        except CarpoolError:
            return None

    def _joules_per_item(self, shape: Shape) -> float | None:
        counted = self.energy_counts.get(shape)
        if counted is None or counted.seconds < LEAST_SECONDS:
            return None
        return counted.joules / counted.num_items

    def _skipped(self) -> list[Skipped]:
        ordered = sorted(self.sweep.dropped, key=lambda one: (one.shape.length, one.shape.batch_size))
        return [
            Skipped(batch_size=one.shape.batch_size, length=one.shape.length, kind=one.kind, reason=one.reason)
            for one in ordered
        ]

    def _bound(self) -> Bound | None:
        """Name what limits a batch at the knee, or at the largest size that was taken apart."""
        knee = self.knee_at(self.typical_length)
        at_knee = [parts for parts in self.parts if knee is not None and parts.batch_size == knee.batch_size]
        chosen = next(iter(at_knee or self.parts[-1:]), None)
        if chosen is None:
            return None
        work = self.work(Shape(chosen.batch_size, chosen.length))
        return name_bound(chosen.as_breakdown(), peaks=self._peaks(), flops=work.flops, num_bytes=work.num_bytes)


def as_measurement(timing: Timing) -> Measurement:
    """Turn a timing into what a cost model is fitted to."""
    return Measurement(
        batch_size=timing.shape.batch_size,
        length=timing.shape.length,
        time_s=timing.time_s,
        low_s=timing.low_s,
        high_s=timing.high_s,
    )
