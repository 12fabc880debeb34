"""What a profile means, in plain sentences with the numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carpool.profile.shape import Shape, by_work
from carpool.units import format_bytes, format_count, format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from carpool.cost.roofline import BoundKind
    from carpool.profile.artefact import Knee, Profile, ProfilePoint
    from carpool.profile.breakdown import CallParts
    from carpool.profile.mix import MixPoint

REMEDIES: Mapping[BoundKind, str] = {
    "compute": "larger batches no longer help: fewer padded tokens, a narrower dtype or more hardware do",
    "memory": "larger batches share the reading of the weights, and help until arithmetic limits",
    "overhead": "larger batches, or fewer and larger steps within the model (compiled, fused), help",
    "transfer": "larger batches share some of it; pinned memory and overlapping copies with compute do more",
}
# A drift below this is noise.
DRIFT = 0.05
SMALL_GAIN = 1.15
# A change below this would be written as 0 %.
VISIBLE = 0.005
# Other programs that use less than this share of the cores disturb little.
QUIET = 0.1


def sentences_about(profile: Profile) -> Iterator[str]:
    """Say what was found, the most important first."""
    if not profile.complete:
        yield "It was stopped before its end: what follows was measured until then."
    knee = profile.knee
    if knee is not None:
        yield _buys(profile, knee)
        yield from _beyond(profile, knee)
        yield from _fit(profile)
    yield from _overhead(profile)
    if profile.bound is not None:
        yield f"At the knee {profile.bound.kind} limits it ({profile.bound.why}): {REMEDIES[profile.bound.kind]}."
    yield from _mix(profile)
    yield from _memory(profile)
    yield from _quality(profile)
    yield from _energy(profile)
    if abs(profile.drift) > DRIFT:
        word = "slower" if profile.drift > 0 else "faster"
        yield (
            f"The machine became {abs(profile.drift):.0%} {word} while it was measured; every shape was hit alike, "
            "but absolute times are that uncertain."
        )
    if profile.other_load_cores > QUIET * profile.machine.num_cores:
        yield (
            f"Other programs used {profile.other_load_cores:.1f} of {profile.machine.num_cores} cores while it was "
            "timed: on a quiet machine times would be shorter and surer."
        )
    yield from _skipped(profile)


def _each(profile: Profile, length: int) -> str:
    return f" of {length} tokens" if profile.has_lengths else ""


def _buys(profile: Profile, knee: Knee) -> str:
    items = f"items{_each(profile, knee.length)}"
    if knee.batch_size == 1:
        return (
            f"Batching buys nothing here: single {items} already run at {format_count(knee.items_per_s)} a second, "
            "within 5 % of the best batch size's rate."
        )
    single_s = knee.time_s * knee.speedup / knee.batch_size
    return (
        f"Batches of {knee.batch_size} buy {knee.speedup:.2g} times the throughput of single {items} "
        f"({format_count(knee.items_per_s)} instead of {format_count(1 / single_s)} a second) and cost latency: a call "
        f"takes {format_duration(knee.time_s)} instead of {format_duration(single_s)}."
    )


def _beyond(profile: Profile, knee: Knee) -> Iterator[str]:
    """Say what the largest measured batch adds to the knee."""
    points = profile.at(knee.length)
    largest = max(points, key=lambda point: point.batch_size, default=None)
    if largest is None or largest.batch_size <= knee.batch_size:
        return
    more = largest.items_per_s / knee.items_per_s - 1.0
    change = f"{abs(more):.0%} {'more' if more > 0 else 'less'}" if abs(more) >= VISIBLE else "no more"
    yield (
        f"Beyond {knee.batch_size} there is little to gain: batches of {largest.batch_size} give {change} throughput, "
        f"and a call takes {format_duration(largest.time_s)}."
    )


def _fit(profile: Profile) -> Iterator[str]:
    model = profile.cost_model
    if model is None:
        return
    yield (
        f"The fitted model ({model.kind}) predicts shapes it has not seen with a median error of "
        f"{model.error_pct:.1f} % (at worst {model.worst_error_pct:.0f} %), from {len(profile.points)} shapes on "
        f"{profile.machine.device_name}."
    )


def _overhead(profile: Profile) -> Iterator[str]:
    """Say how overhead shrinks from one item to the knee, from calls that were taken apart."""
    if len(profile.breakdown) < 2:  # noqa: PLR2004 - two calls to compare
        return
    one, knee = profile.breakdown[0], _at_knee(profile)
    if knee is None or one.batch_size >= knee.batch_size:
        return
    how = {
        "events": "launches timed by events on the device",
        "smallest call": "launches inferred from the smallest call",
    }
    yield (
        f"Overhead (host, transfers, launches) was {format_duration(one.overhead_s / one.batch_size)} an item at batch "
        f"{one.batch_size}, {one.overhead_s / one.total_s:.0%} of its time, and is "
        f"{format_duration(knee.overhead_s / knee.batch_size)} an item at batch {knee.batch_size}, "
        f"{knee.overhead_s / knee.total_s:.0%} ({how.get(one.launch_is, 'launches inferred from the fit')})."
    )


def _at_knee(profile: Profile) -> CallParts | None:
    knee = profile.knee
    size = profile.breakdown[-1].batch_size if knee is None else knee.batch_size
    return next((parts for parts in profile.breakdown if parts.batch_size == size), None)


def _mix(profile: Profile) -> Iterator[str]:
    batched = [point for point in profile.mix if point.batch_size > 1]
    if not batched:
        return
    best = max(batched, key=lambda point: point.sorted_items_per_s)
    yield (
        f"Items as they come differ in length, and padding then wastes {best.arrival_padding_waste:.0%} of the tokens "
        f"in batches of {best.batch_size}: {format_count(best.arrival_items_per_s)} items/s in order of arrival, "
        f"{format_count(best.sorted_items_per_s)} sorted by length ({best.gain:.2g} times, waste "
        f"{best.sorted_padding_waste:.0%})."
    )
    yield from _against_single(profile.mix, best)


def _against_single(mix: tuple[MixPoint, ...], best: MixPoint) -> Iterator[str]:
    single = next((point for point in mix if point.batch_size == 1), None)
    if single is None:
        return
    gain = best.arrival_items_per_s / single.arrival_items_per_s
    if gain < SMALL_GAIN:
        yield (
            f"Unsorted, batches of {best.batch_size} give {gain:.2g} times the rate of single items on that mix: "
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
        grows = " to ".join(
            f"{format_bytes(one.peak_bytes or 0)} at {one.shape}" for one in dict.fromkeys((ordered[0], ordered[-1]))
        )
        yield (
            f"Memory: {grows} ({memory.what}; {format_bytes(memory.limit_bytes or 0)} allowed: {memory.limit_source})."
        )
    if unfit:
        yield f"Does not fit in memory: {unfit[0].shape} and larger ({unfit[0].reason})."


def _quality(profile: Profile) -> Iterator[str]:
    quality = profile.quality
    if quality is None or not quality.sizes:
        return
    if quality.dependent_sizes:
        sizes = ", ".join(map(str, quality.dependent_sizes))
        yield (
            f"An item's output DEPENDS on its batch-mates at batch sizes {sizes}: beyond a relative difference of "
            f"{quality.tolerance.relative:g} or a cosine of {quality.tolerance.cosine:g}, "
            f"the tolerance for {quality.dtype}. "
            "Look for batch normalisation in training mode, or padding without a mask."
        )
        return
    compared = [one for one in quality.sizes if not one.error]
    if compared:
        worst = max((one.max_relative_diff or 0.0) for one in compared)
        cosine = min((1.0 if one.min_cosine is None else one.min_cosine) for one in compared)
        yield (
            f"Batching does not change results: up to batch {compared[-1].batch_size} outputs differ from those alone "
            f"by at most {worst:.2g} of their largest value, cosine at least {cosine:.6f} ({quality.dtype})."
        )


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
        num_asked = len(profile.batch_sizes) * len(profile.lengths)
        first = by_work([Shape(one.batch_size, one.length) for one in late])[0]
        yield f"Not measured for want of time: {len(late)} of {num_asked} shapes, from {first} up ({late[0].reason})."
