"""A profile for people: what the command prints, and the page with its pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carpool.profile.artefact import save_profile
from carpool.profile.plots import page_pictures, pictures
from carpool.profile.tables import (
    breakdown_table,
    knee_table,
    machine_table,
    memory_table,
    mix_table,
    point_tables,
    quality_table,
)
from carpool.report.page import Details, KeyFigure, KeyFigures, Page, Section, Text, Verdict
from carpool.units import format_bytes, format_count, format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from carpool.profile.artefact import Profile
    from carpool.report.table import Table

PAYS = 1.15


def tables(profile: Profile) -> Iterator[Table]:
    """Every table that the profile has figures for, the most important first."""
    yield from point_tables(profile)
    if profile.knees and profile.has_lengths:
        yield knee_table(profile)
    if profile.mix:
        yield mix_table(profile)
    if profile.breakdown:
        yield breakdown_table(profile)


def more_tables(profile: Profile) -> Iterator[Table]:
    """The tables that a page folds away."""
    if profile.memory.probes:
        yield memory_table(profile)
    if profile.quality is not None and profile.quality.sizes:
        yield quality_table(profile)
    yield machine_table(profile)


def write_report(profile: Profile, out: Path) -> list[Path]:
    """Write `profile.json`, the pictures as PNG, and `report.html`.

    Args:
        profile: What to write.
        out: The directory; made where it is missing.

    Returns:
        The files written.

    Raises:
        ConfigError: They cannot be written there.
    """
    # The figures first: what was measured must not be lost to a picture that could not be drawn.
    save_profile(out / "profile.json", profile)
    written = [picture.save(out / f"{name}.png") for name, picture in pictures(profile).items()]
    return [out / "profile.json", build_page(profile).save(out / "report.html"), *written]


def build_page(profile: Profile) -> Page:
    """Put the page together."""
    machine = profile.machine
    return Page(
        title=f"Profile of {profile.name}",
        lead=profile.sentences[0] if profile.sentences else "",
        sections=tuple(_sections(profile)),
        footer=(
            f"{profile.target} on {machine.device_name}, {machine.num_cores} cores, {machine.platform}, "
            f"{profile.created_at}; carpool {machine.versions['carpool']}"
        ),
    )


def _sections(profile: Profile) -> Iterator[Section]:
    yield from _figures(profile)
    yield from _verdict(profile)
    drawn = page_pictures(profile)
    yield from drawn[:1]
    yield Text("What larger batches buy and cost", profile.sentences)
    yield from drawn[1:]
    yield from tables(profile)
    yield Details("Memory probes, quality and the machine", tuple(more_tables(profile)))


def _figures(profile: Profile) -> Iterator[Section]:
    knee, model = profile.knee, profile.cost_model
    if knee is None or model is None:
        return
    length = f"items of {knee.length} tokens" if profile.has_lengths else "one item"
    figures = [
        KeyFigure("Knee", str(knee.batch_size), "items", f"{format_duration(knee.time_s)} a batch, {length}"),
        KeyFigure("Speed-up there", f"{knee.speedup:.2f}", "times", f"{format_count(knee.items_per_s)} items/s"),
        KeyFigure("Fit is off by", f"{model.error_pct:.1f}", "%", f"median on unseen shapes, {model.kind}"),
    ]
    if profile.bound is not None:
        reached = "" if profile.bound.mfu is None else f"{profile.bound.mfu:.0%} of the peak FLOP/s"
        figures.append(KeyFigure("Limited by", profile.bound.kind, "", reached))
    peaks = [point.memory_bytes for point in profile.points if point.memory_bytes is not None]
    if peaks:
        figures.append(KeyFigure("Memory", format_bytes(max(peaks)), "", "at the largest measured batch"))
    yield KeyFigures(tuple(figures))


def _verdict(profile: Profile) -> Iterator[Section]:
    """Say in one line whether batching pays, and warn of what spoils it."""
    quality, knee = profile.quality, profile.knee
    if quality is not None and quality.dependent_sizes:
        yield Verdict("Batching changes this model's results.", "bad", label="Mind the results")
    if profile.failed:
        failed = [one for one in profile.skipped if one.kind == "error"]
        yield Verdict(f"The model failed at {len(failed)} of the shapes.", "warning", (failed[0].reason,))
    if knee is None:
        return
    if knee.speedup >= PAYS:
        pays = f"Up to {knee.batch_size} items a batch, batching pays: {knee.speedup:.2f} times the throughput."
        yield Verdict(pays, "good")
    else:
        yield Verdict(f"Batching gains at most {knee.speedup:.2f} times here.", "bad")
