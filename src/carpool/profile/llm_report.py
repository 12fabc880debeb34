"""The profile of a model that generates for people: the page with its pictures, and the files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carpool.profile.artefact import save_profile
from carpool.profile.llm_limits import parts_of
from carpool.profile.llm_plots import pictures
from carpool.profile.llm_tables import more_tables, tables
from carpool.profile.report import doubt, page_of
from carpool.report.page import Details, KeyFigure, KeyFigures, Section, Text, Verdict
from carpool.units import counted, format_bytes, format_count, format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from carpool.profile.llm_artefact import LlmProfile
    from carpool.report.plot import Picture


def write_report(profile: LlmProfile, out: Path) -> list[Path]:
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
    drawn = pictures(profile)
    written = [picture.save(out / f"{name}.png") for name, picture in drawn.items()]
    page = page_of(profile, _sections(profile, drawn))
    return [out / "profile.json", page.save(out / "report.html"), *written]


def _sections(profile: LlmProfile, drawn: dict[str, Picture]) -> Iterator[Section]:
    trusted = profile.trust.trusted
    if not trusted:
        yield from doubt(profile.trust)
    yield KeyFigures(tuple(_figures(profile)))
    if profile.failed:
        failed = [one for one in profile.skipped if one.kind == "error"]
        yield Verdict(f"The model failed at {counted(len(failed), 'step')}.", "warning", (failed[0].reason,))
    shown = list(drawn.values())
    yield from shown[:1]
    # The first two sentences of a profile that is not to be trusted say so, as the top of the page does already.
    yield Text("What it means", profile.sentences[0 if trusted else 2 :])
    yield from shown[1:]
    yield from tables(profile)
    yield Details("The fit, memory and the machine", tuple(more_tables(profile)))


def _figures(profile: LlmProfile) -> Iterator[KeyFigure]:
    """Show the numbers that matter; where they are not to be trusted, only those that do not hang on the times."""
    memory, cost, context = profile.memory, profile.step_cost, profile.typical_context
    if profile.trust.times_sure:
        yield from _rates(profile)
    if cost is not None and profile.trust.trusted:
        knee = cost.knee(context)
        yield KeyFigure("Knee", f"~{knee}", "sequences", f"of {counted(context, 'token')}, by the fit")
        parts = parts_of(profile, next(point.work for point in profile.decodes))
        if parts is not None:
            yield KeyFigure("One sequence is limited by", parts.limit, "", f"{parts.share(parts.limit):.0%} of a step")
    tokens = profile.num_blocks * memory.block_size
    yield KeyFigure(
        "Keys and values", format_bytes(memory.token_bytes), "a token", f"{tokens:,} tokens fit a server here"
    )
    if cost is not None:
        yield KeyFigure("Fit is off by", f"{cost.error_pct:.1f}", "%", "median on steps that it had not seen")


def _rates(profile: LlmProfile) -> Iterator[KeyFigure]:
    """Give the rate of one sequence, and the best of many."""
    points = [point for point in profile.decodes if point.context == profile.typical_context]
    at = f"{counted(profile.typical_context, 'token')} in the cache"
    single = next((point for point in points if point.batch_size == 1), None)
    if single is not None:
        every = format_duration(single.time_s)
        yield KeyFigure("One sequence", format_count(single.tokens_per_s), "tokens/s", f"a token every {every}, {at}")
    best = max(points, key=lambda point: point.tokens_per_s, default=None)
    if best is not None and best is not single:
        together = f"{best.batch_size} sequences together, {at}"
        yield KeyFigure("The most", format_count(best.tokens_per_s), "tokens/s", together)
