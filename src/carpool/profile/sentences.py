"""What a profile means, in plain sentences with the numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carpool.profile.gains import gains
from carpool.profile.shape import Shape, by_work
from carpool.profile.trust import headline
from carpool.profile.wording import listed, times
from carpool.units import capitalised, counted, format_bytes, format_count, format_durations, format_sizes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from carpool.cost.roofline import BoundKind
    from carpool.profile.artefact import Profile, ProfilePoint
    from carpool.profile.breakdown import CallParts
    from carpool.profile.llm_artefact import LlmProfile
    from carpool.profile.mix import MixPoint
    from carpool.profile.quality import Quality
    from carpool.profile.trust import Measured

REMEDIES: Mapping[BoundKind, str] = {
    "compute": "larger batches no longer help: fewer padded tokens, a narrower dtype or more hardware do",
    "memory": "larger batches share the reading of the weights, and help until arithmetic limits",
    "overhead": "larger batches, or fewer and larger steps within the model (compiled, fused), help",
    "transfer": "larger batches share some of it; pinned memory and overlapping copies with compute do more",
}
# A drift below this is noise.
DRIFT = 0.05
SMALL_GAIN = 1.15
# Other programs that use less than this share of the cores disturb little.
QUIET = 0.1


def sentences_about(profile: Profile) -> Iterator[str]:
    """Say what was found, the most important first: above all whether to believe it."""
    yield from whether_to_believe(profile)
    yield from gains(profile)
    if profile.trust.times_sure:
        yield from _overhead(profile)
        yield from _bound(profile)
    yield from _mix(profile)
    yield from _memory(profile)
    yield from _quality(profile)
    yield from _energy(profile)
    if profile.trust.times_sure:
        yield from disturbances(profile)
    yield from _skipped(profile)


def whether_to_believe(profile: Profile | LlmProfile) -> Iterator[str]:
    """Say first of all why a profile is not to be trusted, or is not whole."""
    if not profile.trust.trusted:
        yield f"{capitalised(headline(profile.trust))}: {'; '.join(profile.trust.reasons)}."
        yield f"To mend that, {profile.trust.remedy}."
    if not profile.complete:
        yield "It was stopped before its end: what follows was measured until then."


def disturbances(profile: Measured) -> Iterator[str]:
    """Mention what disturbed a little, not enough to doubt the whole."""
    if abs(profile.drift) > DRIFT:
        word = "slower" if profile.drift > 0 else "faster"
        yield (
            f"The machine became {abs(profile.drift):.0%} {word} while it was timed: sizes, which took turns, still "
            "compare, but absolute times are that uncertain."
        )
    if profile.other_load_cores > QUIET * profile.machine.num_cores:
        yield (
            f"Other programs used {profile.other_load_cores:.1f} of {counted(profile.machine.num_cores, 'core')} while "
            "it was timed: on a quiet machine times would be shorter and surer."
        )


def _bound(profile: Profile) -> Iterator[str]:
    """Name what limits the call that was taken apart at the knee, or else the largest one."""
    bound, parts = profile.bound, _taken_apart(profile)
    if bound is not None and parts is not None:
        yield f"At batch {parts.batch_size} {bound.kind} limits it ({bound.why}): {REMEDIES[bound.kind]}."


def _overhead(profile: Profile) -> Iterator[str]:
    """Say how overhead shrinks from one item to the knee, from calls that were taken apart."""
    if len(profile.breakdown) < 2:  # noqa: PLR2004 - two calls to compare
        return
    one, knee = profile.breakdown[0], _taken_apart(profile)
    if knee is None or one.batch_size >= knee.batch_size:
        return
    how = {
        "events": "launches timed by events on the device",
        "smallest call": "launches inferred from the smallest call",
    }
    first, then = format_durations(one.overhead_s / one.batch_size, knee.overhead_s / knee.batch_size)
    yield (
        f"Overhead (host, transfers, launches) was {first} an item at batch {one.batch_size}, "
        f"{one.overhead_s / one.total_s:.0%} of its time, and is {then} an item at batch {knee.batch_size}, "
        f"{knee.overhead_s / knee.total_s:.0%} ({how.get(one.launch_is, 'launches inferred from the fit')})."
    )


def _taken_apart(profile: Profile) -> CallParts | None:
    """Return the call at the knee, or else the largest one, of those that were taken apart."""
    knee = profile.knee
    at_knee = [parts for parts in profile.breakdown if knee is not None and parts.batch_size == knee.batch_size]
    return next(iter(at_knee or profile.breakdown[-1:]), None)


def _mix(profile: Profile) -> Iterator[str]:
    batched = [point for point in profile.mix if point.batch_size > 1]
    if not batched:
        return
    best = max(batched, key=lambda point: point.sorted_items_per_s)
    cause = "rounding up the tokens of a batch, which is not padded," if profile.ragged else "padding"
    wasted = (
        f"Items as they come differ in length, and {cause} then wastes {best.arrival_padding_waste:.0%} of the tokens "
        f"in batches of {best.batch_size}"
    )
    if not profile.trust.times_sure:
        yield f"{wasted}, {best.sorted_padding_waste:.0%} once sorted by length."
        return
    yield (
        f"{wasted}: {format_count(best.arrival_items_per_s)} items/s in order of arrival, "
        f"{format_count(best.sorted_items_per_s)} sorted by length ({times(best.gain)} times, waste "
        f"{best.sorted_padding_waste:.0%})."
    )
    if not profile.ragged:
        yield from _against_single(profile.mix, best)


def _against_single(mix: tuple[MixPoint, ...], best: MixPoint) -> Iterator[str]:
    single = next((point for point in mix if point.batch_size == 1), None)
    if single is None:
        return
    gain = best.arrival_items_per_s / single.arrival_items_per_s
    if gain < SMALL_GAIN:
        yield (
            f"Unsorted, batches of {best.batch_size} give {times(gain)} times the rate of single items on that mix: "
            "what batching gains, padding takes. Sort by length (a server with look-ahead does)."
        )


def _memory(profile: Profile) -> Iterator[str]:
    memory = profile.memory
    if memory.unavailable:
        yield f"Memory was not probed: {memory.unavailable}."
        return
    unfit = [probe for probe in memory.probes if probe.outcome == "does not fit"]
    fits = [probe for probe in memory.probes if probe.peak_bytes is not None]
    if fits:
        ordered = sorted(fits, key=lambda probe: probe.peak_bytes or 0)
        ends = list(dict.fromkeys((ordered[0], ordered[-1])))
        peaks, limit = format_sizes(*(one.peak_bytes or 0 for one in ends)), format_bytes(memory.limit_bytes or 0)
        grows = " to ".join(f"{peak} at {one.shape}" for peak, one in zip(peaks, ends, strict=True))
        yield f"Memory: {grows} ({memory.what}; {limit} allowed: {memory.limit_source})."
    if unfit:
        yield f"Does not fit in memory: {unfit[0].shape} and larger ({unfit[0].reason})."


def _quality(profile: Profile) -> Iterator[str]:
    """Say whether results change, at which sizes that was looked at, and at which it was not."""
    quality = profile.quality
    if quality is None:
        return
    compared = [one for one in quality.sizes if not one.error or one.depends]
    if quality.dependent_sizes:
        yield (
            f"An item's output DEPENDS on its batch-mates at {_sizes(quality.dependent_sizes)}: beyond a relative "
            f"difference of {quality.tolerance.relative:g} or a cosine of {quality.tolerance.cosine:g}, "
            f"the tolerance for {quality.dtype}. "
            "Look for batch normalisation in training mode, or padding without a mask."
        )
    elif compared:
        worst = max((one.max_relative_diff or 0.0) for one in compared)
        cosine = min((1.0 if one.min_cosine is None else one.min_cosine) for one in compared)
        yield (
            f"Batching does not change results at {_sizes([one.batch_size for one in compared])}: outputs differ from "
            f"those alone by at most {worst:.2g} of their largest value, cosine at least {cosine:.6f} "
            f"({quality.dtype})."
        )
    yield from _uncompared(profile, quality)


def _uncompared(profile: Profile, quality: Quality) -> Iterator[str]:
    """Name the measured sizes at which nothing is known of whether results change."""
    failed = [one for one in quality.sizes if one.error and not one.depends]
    if quality.error or failed:
        where = "" if quality.error else f" at {_sizes([one.batch_size for one in failed])}"
        yield f"Whether batching changes results could not be told{where}: {quality.error or failed[0].error}."
    late = {point.batch_size for point in profile.points} - {1, *(one.batch_size for one in quality.sizes)}
    if late and not quality.error:
        does, timed = ("it does", "timed too") if quality.sizes else ("batching changes results", "timed")
        yield f"Whether {does} at {_sizes(sorted(late))}, {timed}, was not checked: time was short."


def _sizes(batch_sizes: Sequence[int]) -> str:
    return f"batch {'size' if len(batch_sizes) == 1 else 'sizes'} {listed(batch_sizes)}"


def _energy(profile: Profile) -> Iterator[str]:
    counted = [point for point in profile.at(profile.typical_length) if point.joules_per_item is not None]
    if not counted:
        yield f"Energy is not readable here: {profile.energy.unavailable or 'calls were too short to count'}."
        return
    first, least = counted[0], min(counted, key=_joules)
    yield (
        f"An item takes {_joules(first):.3g} J at batch {first.batch_size} and {_joules(least):.3g} J at batch "
        f"{least.batch_size} ({profile.energy.source})."
    )


def _joules(point: ProfilePoint) -> float:
    return point.joules_per_item or 0.0


def _skipped(profile: Profile) -> Iterator[str]:
    failed = [one for one in profile.skipped if one.kind == "error"]
    if failed:
        shapes = ", ".join(str(Shape(one.batch_size, one.length)) for one in failed)
        yield f"The model failed at {shapes} ({failed[0].reason})."
    late = [one for one in profile.skipped if one.kind == "budget"]
    if late:
        asked = counted(len(profile.batch_sizes) * len(profile.lengths), "shape")
        first = by_work([Shape(one.batch_size, one.length) for one in late])[0]
        yield f"Not measured for want of time: {len(late)} of {asked}, from {first} up ({late[0].reason})."
