"""A profile as pictures: throughput and latency with the fit and the knee, memory, and what is left of overhead."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carpool.profile.gains import still_grows
from carpool.report.plot import LineSeries, Mark, Panel, Picture, figure
from carpool.units import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from carpool.profile.artefact import Profile, ProfilePoint
    from carpool.profile.trust import Timed

MS = 1e3
MIB = 1024.0**2
# Between two measured batch sizes the fit is drawn at this many more.
STEPS = 4
POINTS_TO_DRAW = 2


def pictures(profile: Profile) -> dict[str, Picture]:
    """Return all pictures that the profile has figures for, by the name of their file."""
    found = {
        "speed": ("Throughput and latency over batch size", _speed(profile)),
        "overhead": ("Overhead share over batch size", _overhead(profile)),
        "memory": ("Memory over batch size", _memory(profile)),
        "mix": ("Items of mixed lengths", _mix(profile)),
    }
    return {name: figure(panels, title=title) for name, (title, panels) in found.items() if panels}


def page_pictures(profile: Profile) -> list[Picture]:
    """Return the same for a page: what a newcomer asks first, then the rest side by side."""
    speed, rest = _speed(profile), [*_overhead(profile), *_memory(profile), *_mix(profile)]
    titles = ("Throughput and latency over batch size", "Overhead, memory and mixed lengths")
    return [figure(panels, title=title) for title, panels in zip(titles, (speed, rest), strict=True) if panels]


def _rows(profile: Profile) -> Iterator[tuple[int, int, list[ProfilePoint]]]:
    """Yield tone, length and points of every length that was measured."""
    for tone, length in enumerate(profile.lengths):
        points = profile.at(length)
        if points:
            yield tone, length, points


def _label(profile: Profile, length: int) -> str:
    return counted(length, "token") if profile.has_lengths else "measured"


def _sizes(points: Sequence[ProfilePoint]) -> list[int]:
    """Batch sizes from the smallest to the largest measured, close enough for a curve."""
    return close_together(points[0].batch_size, points[-1].batch_size)


def close_together(low: int, high: int) -> list[int]:
    """Return whole numbers from a low one to a high one, close enough for a curve on a scale of doublings."""
    factor, sizes, size = 2.0 ** (1.0 / STEPS), {low, high}, float(low)
    while size < high:
        sizes.add(round(size))
        size *= factor
    return sorted(sizes)


def _marks(profile: Profile) -> tuple[Mark, ...]:
    knee = profile.knee
    if knee is None or not profile.trust.trusted:
        return ()
    at = f" at {counted(knee.length, 'token')}" if profile.has_lengths else ""
    about = "" if profile.is_measured(knee.batch_size, knee.length) else "~"
    return (Mark(knee.batch_size, f"knee {about}{knee.batch_size}{at}"),)


def _speed(profile: Profile) -> list[Panel]:
    if len({point.batch_size for point in profile.points}) < POINTS_TO_DRAW:
        return []
    throughput, latency = [], []
    for tone, length, points in _rows(profile):
        label, sizes = _label(profile, length), [point.batch_size for point in points]
        throughput.append(measured_rates(label, sizes, points, sizes, tone))
        throughput += _fitted(profile, tone, length, points, throughput=True)
        latency.append(measured_times(label, sizes, points, tone))
        latency += _fitted(profile, tone, length, points, throughput=False)
    return [
        Panel(
            title=_title(profile),
            x_label="batch size",
            y_label="items/s",
            series=tuple(throughput),
            marks=_marks(profile),
            x_scale="log2",
        ),
        Panel(
            title="Latency of a call (lines: the fit)",
            x_label="batch size",
            y_label="ms",
            series=tuple(latency),
            marks=_marks(profile),
            x_scale="log2",
            y_scale="log10",
        ),
    ]


def _title(profile: Profile) -> str:
    """Say what the picture shows: a finding where there is one to trust, and whether it was measured."""
    knee = profile.knee
    if not profile.trust.trusted:
        return f"Throughput: {_what_to_doubt(profile)}"
    if knee is None:
        return "Throughput"
    points = profile.at(knee.length)
    if still_grows(knee, points):
        return f"Throughput still grows at {points[-1].batch_size}"
    about = "" if profile.is_measured(knee.batch_size, knee.length) else "about "
    return f"Throughput levels off at {about}{knee.batch_size}"


def _what_to_doubt(profile: Profile) -> str:
    return f"do not trust {'the lines' if profile.trust.times_sure else 'it'}"


def measured_times(label: str, x: Sequence[float], points: Sequence[Timed], tone: int) -> LineSeries:
    """Draw measured times with their intervals, in milliseconds.

    Args:
        label: What they are of.
        x: What they are drawn over, one a point.
        points: The times.
        tone: The colour.
    """
    return LineSeries(
        label=label,
        x=x,
        y=[point.time_s * MS for point in points],
        low=[point.low_s * MS for point in points],
        high=[point.high_s * MS for point in points],
        style="points",
        tone=tone,
    )


def measured_rates(
    label: str, x: Sequence[float], points: Sequence[Timed], nums: Sequence[int], tone: int
) -> LineSeries:
    """Draw measured rates with their intervals, a second.

    Args:
        label: What they are of.
        x: What they are drawn over, one a point.
        points: The times.
        nums: How many items, or tokens, came in each.
        tone: The colour.
    """
    return LineSeries(
        label=label,
        x=x,
        y=[num / point.time_s for num, point in zip(nums, points, strict=True)],
        low=[num / point.high_s for num, point in zip(nums, points, strict=True)],
        high=[num / point.low_s for num, point in zip(nums, points, strict=True)],
        style="points",
        tone=tone,
    )


def _fitted(
    profile: Profile, tone: int, length: int, points: list[ProfilePoint], *, throughput: bool
) -> list[LineSeries]:
    """Return the fit's line over the measured range; nothing where it does not cover this length."""
    model = profile.cost_model
    if model is None or length not in model.lengths or len(points) < POINTS_TO_DRAW:
        return []
    sizes = _sizes(points)
    times_s = [model.time_s(size, length) for size in sizes]
    y = [size / time_s if throughput else time_s * MS for size, time_s in zip(sizes, times_s, strict=True)]
    return [LineSeries(label="", x=sizes, y=y, style="line", tone=tone)]


def _overhead(profile: Profile) -> list[Panel]:
    """Draw the fitted share for every length, and the measured one of the calls that were taken apart."""
    model = profile.cost_model
    if model is None:
        return []
    series = [
        LineSeries(
            label=f"{_label(profile, length)}, fitted" if profile.has_lengths else "fitted",
            x=_sizes(points),
            y=[100.0 * model.overhead_share(size, length) for size in _sizes(points)],
            tone=tone,
        )
        for tone, length, points in _rows(profile)
        if length in model.lengths
    ]
    if profile.breakdown:
        series.append(
            LineSeries(
                label="calls taken apart",
                x=[parts.batch_size for parts in profile.breakdown],
                y=[100.0 * parts.overhead_s / parts.total_s for parts in profile.breakdown],
                style="points",
                tone=profile.lengths.index(profile.typical_length),
            )
        )
    panel = Panel(
        title="Overhead shrinks as batches grow" if profile.trust.trusted else f"Overhead: {_what_to_doubt(profile)}",
        x_label="batch size",
        y_label="% of the time",
        series=tuple(series),
        marks=_marks(profile),
        x_scale="log2",
    )
    return [panel]


def _memory(profile: Profile) -> list[Panel]:
    fits = [probe for probe in profile.memory.probes if probe.peak_bytes is not None]
    if len(fits) < POINTS_TO_DRAW:
        return []
    series = []
    for length in sorted({probe.length for probe in fits}):
        tone = profile.lengths.index(length)
        here = [probe for probe in fits if probe.length == length]
        series.append(
            LineSeries(
                label=counted(length, "token") if profile.has_lengths else "probed",
                x=[probe.batch_size for probe in here],
                y=[(probe.peak_bytes or 0) / MIB for probe in here],
                style="points",
                tone=tone,
            )
        )
        fit = profile.cost_model.memory if profile.cost_model else None
        if fit is not None:
            sizes = [probe.batch_size for probe in here]
            y = [fit.memory_bytes(size, length) / MIB for size in sizes]
            series.append(LineSeries(label="", x=sizes, y=y, style="line", tone=tone))
    panel = Panel(
        title="Peak of memory (lines: the fit)",
        x_label="batch size",
        y_label="MiB",
        series=tuple(series),
        x_scale="log2",
    )
    return [panel]


def _mix(profile: Profile) -> list[Panel]:
    if len(profile.mix) < POINTS_TO_DRAW:
        return []
    sizes = [point.batch_size for point in profile.mix]
    panel = Panel(
        title="Mixed lengths: what sorting is worth",
        x_label="batch size",
        y_label="items/s",
        series=(
            LineSeries(label="sorted by length", x=sizes, y=[point.sorted_items_per_s for point in profile.mix]),
            LineSeries(
                label="in order of arrival",
                x=sizes,
                y=[point.arrival_items_per_s for point in profile.mix],
                style="dashed",
            ),
        ),
        x_scale="log2",
    )
    return [panel]
