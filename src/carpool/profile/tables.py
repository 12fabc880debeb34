"""A profile as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carpool.profile.wording import of_tokens
from carpool.report.table import Cell, Column, Table, table_of
from carpool.units import capitalised, counted, format_bytes, format_durations

if TYPE_CHECKING:
    from collections.abc import Iterator

    from carpool.profile.artefact import Profile, ProfilePoint
    from carpool.profile.llm_artefact import LlmProfile
    from carpool.profile.peaks import MeasuredPeaks
    from carpool.profile.quality import Tolerance
    from carpool.profile.trust import Timed
    from carpool.report.table import ColumnOf

MS = 1e3
# Five samples enclose the median with 93.75 %, which a header may call about 95 %.
NEARLY_95 = 0.93


def _percent(value: float | None) -> float | None:
    return None if value is None else 100.0 * value


def interval_ms(point: Timed) -> str:
    """Write the interval of a time, in milliseconds."""
    return f"{point.low_s * MS:.3g} to {point.high_s * MS:.3g}"


INTERVAL = Column("~95 % interval", "ms", align="right")
POINT_COLUMNS: tuple[ColumnOf[ProfilePoint], ...] = (
    (Column("batch"), lambda point: point.batch_size),
    (Column("latency", "ms"), lambda point: point.time_s * MS),
    (INTERVAL, interval_ms),
    (Column("items/s", spec=",.0f"), lambda point: point.items_per_s),
    (Column("speed-up", spec=".2f"), lambda point: point.speedup),
    (Column("overhead", "%", spec=".0f"), lambda point: _percent(point.overhead_share)),
    (Column("MFU", "%", spec=".1f"), lambda point: _percent(point.mfu)),
    (Column("MBU", "%", spec=".1f"), lambda point: _percent(point.mbu)),
    (
        Column("memory", align="right"),
        lambda point: None if point.memory_bytes is None else format_bytes(point.memory_bytes),
    ),
    (Column("energy", "mJ/item"), lambda point: None if point.joules_per_item is None else 1e3 * point.joules_per_item),
)


def point_tables(profile: Profile) -> Iterator[Table]:
    """One table of measured points for each length."""
    for length in profile.lengths:
        points = profile.at(length)
        if points:
            yield _point_table(profile, length, points)


def _point_table(profile: Profile, length: int, points: list[ProfilePoint]) -> Table:
    title = f"{profile.name}, items{of_tokens(profile, length)}" if profile.has_lengths else profile.name
    knees = profile.knees if profile.trust.trusted else ()
    knee = next((knee.batch_size for knee in knees if knee.length == length), None)
    return table_of(
        title,
        points,
        POINT_COLUMNS,
        notes=tuple(_point_notes(profile, points)),
        highlight=lambda point: point.batch_size == knee,
        highlight_label="knee",
    )


def _point_notes(profile: Profile, points: list[ProfilePoint]) -> Iterator[str]:
    weak = [point for point in points if point.confidence < NEARLY_95]
    if weak:
        sizes = ", ".join(str(point.batch_size) for point in weak)
        least = min(point.confidence for point in weak)
        yield f"At batch {sizes} there are few samples: the interval is their whole range ({least:.0%} confidence)."
    if any(point.mbu is not None and point.mbu > 1.0 for point in points):
        yield "An MBU above 100 % is of data that stay in caches, faster than the memory that it is held against."
    skipped = [one for one in profile.skipped if one.length == points[0].length]
    if skipped:
        listed = ", ".join(str(one.batch_size) for one in skipped)
        yield f"Not measured: batch {listed}. {capitalised(skipped[0].reason)}."


def knee_table(profile: Profile) -> Table:
    """What the fit says of the knee at every length."""
    is_measured = [profile.is_measured(knee.batch_size, knee.length) for knee in profile.knees]
    return Table(
        "The knee: smallest batch within 5 % of the best throughput, by the fit",
        (
            *((Column("tokens"),) if profile.has_lengths else ()),
            Column("batch"),
            Column("latency", "ms"),
            Column("items/s", spec=",.0f"),
            Column("speed-up", spec=".2f"),
            Column("overhead left", "%", spec=".0f"),
            Column("figures"),
        ),
        tuple(
            (
                *((knee.length,) if profile.has_lengths else ()),
                knee.batch_size,
                knee.time_s * MS,
                knee.items_per_s,
                knee.speedup,
                100.0 * knee.overhead_share,
                "measured" if measured else "estimated",
            )
            for knee, measured in zip(profile.knees, is_measured, strict=True)
        ),
    )


def breakdown_table(profile: Profile) -> Table:
    """Where the time of a call goes, each part in ms for each item."""
    names = (
        ("admit", "tokenise, check"),
        ("collate", "one batch of all"),
        ("to_device", "to the device"),
        ("launch", "launch, allocate"),
        ("compute", "the device works"),
        ("to_host", "and back"),
        ("finish", "split the output"),
        ("elsewhere", "between stages"),
    )
    parts = profile.breakdown
    rows: list[tuple[Cell, ...]] = [
        (label, *(MS * getattr(one, f"{name}_s") / one.batch_size for one in parts)) for name, label in names
    ]
    rows.append(("whole call", *(MS * one.total_s / one.batch_size for one in parts)))
    rows.append(("overhead", *(MS * one.overhead_s / one.batch_size for one in parts)))
    length = f", items{of_tokens(profile, parts[0].length)}" if profile.has_lengths else ""
    return Table(
        f"Where the time of a call goes, ms per item{length}",
        (Column("part"), *(Column(f"batch {one.batch_size}", spec=".3f") for one in parts)),
        tuple(rows),
        notes=(f"Overhead is all but the device's own work; launch is {_launch(parts[0].launch_is)}.",),
    )


def _launch(how: str) -> str:
    return {
        "events": "the wall time of compute less the device's own, by its events",
        "smallest call": "what the smallest call takes beyond its arithmetic and weights at the measured peaks",
        "fit": "the fixed part of the fitted model: this target's stages can't be told apart",
    }.get(how, "not known: this target's stages can't be told apart")


def mix_table(profile: Profile) -> Table:
    """Items of mixed lengths, in order of arrival and sorted."""
    return Table(
        f"Items as they come, lengths mixed ({counted(profile.mix[0].num_items, 'item')})",
        (
            Column("batch"),
            Column("by arrival", "items/s", spec=",.0f"),
            Column("sorted", "items/s", spec=",.0f"),
            Column("gain", spec=".2f"),
            Column("waste by arrival", "%", spec=".0f"),
            Column("waste sorted", "%", spec=".0f"),
            Column("prediction off by", "%", spec=".0f"),
        ),
        tuple(
            (
                point.batch_size,
                point.arrival_items_per_s,
                point.sorted_items_per_s,
                point.gain,
                100.0 * point.arrival_padding_waste,
                100.0 * point.sorted_padding_waste,
                point.predicted_error_pct,
            )
            for point in profile.mix
        ),
    )


def memory_table(profile: Profile) -> Table:
    """Every probe of memory."""
    return Table(
        f"Memory: {profile.memory.what}",
        (Column("shape", align="right"), Column("peak", align="right"), Column("outcome"), Column("why")),
        tuple(
            (
                str(probe.shape),
                None if probe.peak_bytes is None else format_bytes(probe.peak_bytes),
                probe.outcome,
                probe.reason,
            )
            for probe in profile.memory.probes
        ),
    )


def quality_table(profile: Profile) -> Table:
    """Outputs within batches against those alone."""
    assert profile.quality is not None, "there is quality to show"
    quality = profile.quality
    return Table(
        f"An item's output in a batch against alone ({quality.dtype})",
        (
            Column("batch"),
            Column("largest difference", spec=".2g"),
            Column("relative", spec=".2g"),
            Column("cosine", spec=".7f"),
            Column("depends"),
        ),
        tuple(
            (
                one.batch_size,
                one.max_abs_diff,
                one.max_relative_diff,
                one.min_cosine,
                "YES" if one.depends else one.error or "no",
            )
            for one in quality.sizes
        ),
        notes=(_tolerance(quality.tolerance),),
    )


def _tolerance(tolerance: Tolerance) -> str:
    return f"Said to depend beyond {tolerance.relative:g} relative, or below a cosine of {tolerance.cosine:g}."


def machine_table(profile: Profile | LlmProfile) -> Table:
    """What the figures hold for."""
    machine, peaks = profile.machine, profile.peaks
    took, budget = format_durations(profile.took_s, profile.budget_s)
    rows: list[tuple[Cell, ...]] = [
        ("device", f"{machine.device}: {machine.device_name}"),
        ("cores, threads", f"{machine.num_cores}, {machine.num_threads or 'unknown'}"),
        ("memory", format_bytes(machine.memory_bytes)),
        ("dtype", machine.dtype or "the target's own"),
        ("versions", ", ".join(f"{name} {version}" for name, version in machine.versions.items())),
        ("system", machine.platform),
        ("took", f"{took} of {budget}, loading not counted"),
    ]
    if peaks is not None:
        rows.append(("peak arithmetic", f"{peaks.flops_per_s / 1e9:,.0f} GFLOP/s ({_how_found(peaks)})"))
        rows.append(("peak copy", f"{peaks.bytes_per_s / 1e9:,.1f} GB/s, read and written"))
    if peaks is not None and peaks.to_device_bytes_per_s and peaks.to_host_bytes_per_s:
        both = f"{peaks.to_device_bytes_per_s / 1e9:,.1f} and {peaks.to_host_bytes_per_s / 1e9:,.1f} GB/s"
        rows.append(("to device and back", both))
    return Table("Measured on", (Column("what"), Column("value")), tuple(rows))


def _how_found(peaks: MeasuredPeaks) -> str:
    """Say what reached the peak."""
    return f"{peaks.dtype}, " + (f"n = {peaks.matrix_size}" if peaks.matrix_size else "by the model itself")
