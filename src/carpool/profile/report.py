"""A profile for people: what the command prints, and the page with its pictures."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING

from carpool.profile.artefact import save_profile
from carpool.profile.gains import fastest
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
from carpool.profile.trust import headline
from carpool.profile.wording import of_tokens
from carpool.report.page import Details, KeyFigure, KeyFigures, Page, Section, Text, Verdict
from carpool.units import capitalised, counted, format_bytes, format_count, format_duration

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from carpool.profile.artefact import Profile, Trust
    from carpool.profile.llm_artefact import LlmProfile
    from carpool.report.table import Table

PAYS = 1.15


def tables(profile: Profile) -> Iterator[Table]:
    """Every table that the profile has figures for, the most important first."""
    yield from point_tables(profile)
    if profile.knees and profile.has_lengths and profile.trust.trusted:
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
    return page_of(profile, _sections(profile))


def page_of(profile: Profile | LlmProfile, sections: Iterable[Section]) -> Page:
    """Put sections on a page that says what they are of, and whether to believe them.

    Args:
        profile: Of any kind of model.
        sections: What is told of it.
    """
    return Page(
        title=f"Profile of {profile.name}",
        lead=_lead(profile),
        sections=tuple(sections),
        footer=_machine_footer(profile),
    )


def _machine_footer(profile: Profile | LlmProfile) -> str:
    """Say what a page's figures are of, and where they were measured."""
    machine = profile.machine
    return (
        f"{profile.target} on {machine.device_name}, {counted(machine.num_cores, 'core')}, {machine.platform}, "
        f"{profile.created_at}; carpool {machine.versions['carpool']}"
    )


def _lead(profile: Profile | LlmProfile) -> str:
    """Return the sentence to remember: what was found, or not to believe it."""
    if not profile.trust.trusted:
        return f"{capitalised(headline(profile.trust))}."
    return profile.sentences[0] if profile.sentences else ""


def _sections(profile: Profile) -> Iterator[Section]:
    trusted = profile.trust.trusted
    if not trusted:
        yield from doubt(profile.trust)
    yield from _figures(profile)
    yield from _verdict(profile)
    drawn = page_pictures(profile)
    yield from drawn[:1]
    # The first two sentences of a profile that is not to be trusted say so, as the top of the page does already.
    yield Text("What larger batches buy and cost", profile.sentences[0 if trusted else 2 :])
    yield from drawn[1:]
    yield from tables(profile)
    yield Details("Memory probes, quality and the machine", tuple(more_tables(profile)))


def doubt(trust: Trust) -> Iterator[Section]:
    """Say above all else why a page is not to be trusted, and what to do."""
    text = "Do not rely on what the fit predicts." if trust.times_sure else "Do not rely on these figures."
    details = (*(f"{capitalised(reason)}." for reason in trust.reasons), f"To mend that, {trust.remedy}.")
    yield Verdict(text, "warning" if trust.times_sure else "bad", details, label="Not to be trusted")


def _figures(profile: Profile) -> Iterator[Section]:
    """Show the numbers that matter; where they are not to be trusted, only how far off they are."""
    model = profile.cost_model
    figures = list(_knee_figures(profile)) if profile.trust.trusted else []
    if model is not None:
        figures.append(
            KeyFigure("Fit is off by", f"{model.error_pct:.1f}", "%", f"median on unseen shapes, {model.kind}")
        )
    if profile.bound is not None:
        reached = "" if profile.bound.mfu is None else f"{profile.bound.mfu:.0%} of the peak FLOP/s"
        figures.append(KeyFigure("Limited by", profile.bound.kind, "", reached))
    probes = [(probe.peak_bytes, probe) for probe in profile.memory.probes if probe.peak_bytes is not None]
    if probes:
        peak_bytes, probe = max(probes, key=itemgetter(0))
        of = f"batches of {probe.batch_size}{of_tokens(profile, probe.length)}"
        figures.append(KeyFigure("Peak of memory", format_bytes(peak_bytes), "", f"the most of any probed: {of}"))
    if figures:
        yield KeyFigures(tuple(figures))


def _knee_figures(profile: Profile) -> Iterator[KeyFigure]:
    knee = profile.knee
    if knee is None:
        return
    length = f"items{of_tokens(profile, knee.length)}" if profile.has_lengths else "one item"
    yield KeyFigure(
        "Knee", str(knee.batch_size), "items", f"{format_duration(knee.time_s)} a batch{_by_fit(profile)}, {length}"
    )
    if profile.is_measured(1, knee.length):
        rate = f"{format_count(knee.items_per_s)} items/s{_by_fit(profile)}"
        yield KeyFigure("Speed-up there", f"{knee.speedup:.2f}", "times", rate)


def _by_fit(profile: Profile) -> str:
    """Say of the knee's figures that they are an estimate, where they are."""
    knee = profile.knee
    return "" if knee is None or profile.is_measured(knee.batch_size, knee.length) else ", by the fit"


def _verdict(profile: Profile) -> Iterator[Section]:
    """Say in one line whether batching pays, and warn of what spoils it."""
    quality = profile.quality
    if quality is not None and quality.dependent_sizes:
        yield Verdict("Batching changes this model's results.", "bad", label="Mind the results")
    if profile.failed:
        failed = [one for one in profile.skipped if one.kind == "error"]
        yield Verdict(f"The model failed at {len(failed)} of the shapes.", "warning", (failed[0].reason,))
    if profile.trust.times_sure and profile.is_measured(1, profile.typical_length):
        yield from _whether_it_pays(profile)


def _whether_it_pays(profile: Profile) -> Iterator[Section]:
    """Conclude from the knee, or where the fit is in doubt from the fastest size that was measured."""
    chosen = profile.knee if profile.trust.trusted else fastest(profile.at(profile.typical_length))
    if chosen is None or chosen.speedup is None:
        return
    by = _by_fit(profile) if profile.trust.trusted else ", as measured"
    if chosen.speedup >= PAYS:
        size = chosen.batch_size
        yield Verdict(f"Batching pays: batches of {size} have {chosen.speedup:.2f} times the throughput{by}.", "good")
    else:
        yield Verdict(f"Batching gains at most {chosen.speedup:.2f} times here{by}.", "bad")
