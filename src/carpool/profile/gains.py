"""What larger batches gain and cost, in plain sentences: what was measured, and what the fit estimates between.

Where the times are not sure there is no verdict: what was measured is then said at its face value. Where only the fit
is in doubt, the verdict is of the measured sizes alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from carpool.profile.wording import at_shape, listed, of_tokens, times
from carpool.units import counted, format_count, format_duration, format_durations

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from carpool.profile.artefact import Knee, Profile, ProfilePoint

# A loss of throughput below this is not worth a sentence.
LOSS = 0.05
# A change below this would be written as 0 %.
VISIBLE = 0.005


def gains(profile: Profile) -> Iterator[str]:
    """Say what batches buy and cost at the typical length, and where they do harm."""
    knee, points = profile.knee, profile.at(profile.typical_length)
    if not profile.trust.times_sure:
        yield from _at_face_value(profile, points)
        return
    if not profile.trust.trusted:
        yield from _of_those_measured(profile, points)
    elif knee is not None:
        yield from _buys(profile, knee)
    yield from _harm(profile)
    falls = list(_falls(profile, points))
    yield from falls
    if profile.trust.trusted and knee is not None:
        yield from () if falls else _beyond(profile, knee, points)
        yield from _fit(profile)


def fastest(points: Sequence[ProfilePoint]) -> ProfilePoint | None:
    """Return the measured point with the highest throughput; None where there is none."""
    return max(points, key=lambda point: point.items_per_s, default=None)


def harmful(points: Sequence[ProfilePoint]) -> list[ProfilePoint]:
    """Return the points of one length whose throughput is clearly below that of single items.

    Args:
        points: Ascending by batch size.
    """
    single = next((point for point in points if point.batch_size == 1), None)
    return [] if single is None else [point for point in points if _is_clearly_slower(point, single)]


def _is_clearly_slower(point: ProfilePoint, other: ProfilePoint) -> bool:
    """Tell whether a point's throughput is lower by more than a twentieth, and more than both intervals allow."""
    is_sure = point.batch_size / point.low_s < other.batch_size / other.high_s
    return is_sure and point.items_per_s < (1.0 - LOSS) * other.items_per_s


def _at_face_value(profile: Profile, points: Sequence[ProfilePoint]) -> Iterator[str]:
    """Give the figures without a verdict."""
    single = next((point for point in points if point.batch_size == 1), None)
    best = fastest(points)
    if single is None or best is None:
        return
    yield (
        "No verdict is given on whether batching pays. At face value single items"
        f"{of_tokens(profile, single.length)} ran at {format_count(single.items_per_s)} a second, and the fastest "
        f"batches that were measured, of {best.batch_size}, at {format_count(best.items_per_s)}."
    )


def _of_those_measured(profile: Profile, points: Sequence[ProfilePoint]) -> Iterator[str]:
    """Say what the fastest of the measured sizes gains and costs."""
    best = fastest(points)
    if best is None or best.speedup is None:
        return
    if best.batch_size == 1:
        yield f"Batching buys nothing here: no batch that was measured is faster than {_single_items(profile, best)}."
        return
    call, single = format_durations(best.time_s, best.time_s * best.speedup / best.batch_size)
    yield (
        f"Of the batch sizes that were measured {best.batch_size} is the fastest: {format_count(best.items_per_s)} "
        f"items a second, {times(best.speedup)} times the rate of {_single_items(profile, best)}, and a call takes "
        f"{call} instead of {single}."
    )


def _single_items(profile: Profile, shape: Knee | ProfilePoint) -> str:
    return f"single items{of_tokens(profile, shape.length)}"


def _buys(profile: Profile, knee: Knee) -> Iterator[str]:
    """Say what the knee gains and costs beside single items, and whether that was measured or is an estimate."""
    items = _single_items(profile, knee)
    if knee.batch_size == 1:
        yield (
            f"Batching buys nothing here: {items} already run at {format_count(knee.items_per_s)} a second, "
            "within 5 % of the best batch size's rate."
        )
        return
    if not profile.is_measured(1, knee.length):
        yield (
            f"From batches of {knee.batch_size} on throughput levels off, at {format_count(knee.items_per_s)} items a "
            "second; single items were not measured, so what batching buys is not known: add 1 to --batch-sizes."
        )
        return
    rate, single_s = format_count(knee.items_per_s), knee.time_s * knee.speedup / knee.batch_size
    call, single = format_durations(knee.time_s, single_s)
    if profile.is_measured(knee.batch_size, knee.length):
        yield (
            f"Batches of {knee.batch_size} buy {times(knee.speedup)} times the throughput of {items} ({rate} instead "
            f"of {format_count(1 / single_s)} a second) and cost latency: a call takes {call} instead of {single}."
        )
        return
    yield (
        f"By the fit, batches of {knee.batch_size}, a size that was not measured, would buy about "
        f"{times(knee.speedup)} times the throughput of {items} (about {rate} instead of {format_count(1 / single_s)} "
        f"a second) and cost latency: a call would take about {call} instead of {single}."
    )
    yield from _nearest(profile, knee)


def _nearest(profile: Profile, knee: Knee) -> Iterator[str]:
    """Say what was measured at the size nearest to an estimated knee."""
    near = min(profile.at(knee.length), key=lambda point: abs(point.batch_size - knee.batch_size), default=None)
    if near is None or near.speedup is None or near.batch_size == 1:
        return
    yield (
        f"Measured nearest to it: batches of {near.batch_size} ran at {format_count(near.items_per_s)} items a second, "
        f"{times(near.speedup)} times the rate of single ones, and took {format_duration(near.time_s)}."
    )


def _harm(profile: Profile) -> Iterator[str]:
    """Name the batch sizes that are slower than single items, at the typical length or else at another."""
    found = {length: harmful(profile.at(length)) for length in (profile.typical_length, *profile.lengths)}
    length = next((length for length, points in found.items() if points), None)
    if length is None:
        return
    sizes = listed([point.batch_size for point in found[length]])
    shares = listed([times(point.speedup or 0.0) for point in found[length]])
    others = sorted(other for other, points in found.items() if points and other != length)
    too = f" (some do at {listed(others)} tokens too)" if others else ""
    yield (
        f"Batches of {sizes} do harm: they give {shares} times the throughput of single items"
        f"{of_tokens(profile, length)}{too}."
    )


def _falls(profile: Profile, points: Sequence[ProfilePoint]) -> Iterator[str]:
    """Say where throughput falls as batches grow, beside what smaller batches than those reached."""
    best: ProfilePoint | None = None
    fallen: list[ProfilePoint] = []
    for point in points:
        if best is not None and best.batch_size > 1 and _is_clearly_slower(point, best):
            fallen.append(point)
        elif best is None or point.items_per_s > best.items_per_s:
            yield from _fall(profile, best, fallen, after=point)
            best, fallen = point, []
    yield from _fall(profile, best, fallen, after=None)


def _fall(
    profile: Profile, best: ProfilePoint | None, fallen: Sequence[ProfilePoint], *, after: ProfilePoint | None
) -> Iterator[str]:
    if best is None or not fallen:
        return
    lower = listed(
        [
            f"{format_count(point.items_per_s)} at {point.batch_size} "
            f"({1.0 - point.items_per_s / best.items_per_s:.0%} less)"
            for point in fallen
        ]
    )
    again = "" if after is None else f"; batches of {after.batch_size} are faster again"
    yield (
        f"Throughput {'falls' if after is None else 'dips'} beyond {at_shape(profile, best.batch_size, best.length)}: "
        f"from {format_count(best.items_per_s)} items a second there to {lower}{again}."
    )


def _beyond(profile: Profile, knee: Knee, points: Sequence[ProfilePoint]) -> Iterator[str]:
    """Say what the largest measured batch adds to the knee, or that larger ones may add something yet."""
    largest = points[-1].batch_size if points else 1
    if still_grows(knee, points):
        yield f"Throughput still grew at batch {largest}, the largest that was measured: larger ones may give more."
    elif largest >= 2 * knee.batch_size:
        yield _adds(profile, knee, points[-1])


def still_grows(knee: Knee, points: Sequence[ProfilePoint]) -> bool:
    """Tell whether the largest measured batch, less than twice the knee, was the fastest.

    Args:
        knee: By which throughput is said to level off.
        points: Of that length, ascending by batch size.
    """
    return len(points) > 1 and fastest(points) is points[-1] and points[-1].batch_size < 2 * knee.batch_size


def _adds(profile: Profile, knee: Knee, largest: ProfilePoint) -> str:
    more = largest.items_per_s / knee.items_per_s - 1.0
    change = f"{abs(more):.0%} {'more' if more > 0 else 'less'}" if abs(more) >= VISIBLE else "no more"
    beside = "" if profile.is_measured(knee.batch_size, knee.length) else " than that estimate"
    return (
        f"Beyond {knee.batch_size} there is little to gain: batches of {largest.batch_size} gave {change} throughput"
        f"{beside}, and a call took {format_duration(largest.time_s)}."
    )


def _fit(profile: Profile) -> Iterator[str]:
    model = profile.cost_model
    if model is None:
        return
    yield (
        f"The fitted model ({model.kind}) predicts shapes it has not seen with a median error of "
        f"{model.error_pct:.1f} %; its largest error is {model.worst_error_pct:.0f} %, at "
        f"{at_shape(profile, *model.worst_error_at)}. It was fitted to {counted(len(profile.points), 'shape')} on "
        f"{profile.machine.device_name}."
    )
