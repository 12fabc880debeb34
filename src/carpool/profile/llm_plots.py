"""The profile of a model that generates as pictures: rates over sequences, steps over context, prompts over pieces."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carpool.cost.step_cost import decode_work, prefill_work
from carpool.profile.llm_limits import parts_of
from carpool.profile.plots import MS, POINTS_TO_DRAW, close_together, measured_rates, measured_times
from carpool.report.panel import thinned
from carpool.report.plot import LineSeries, Mark, Panel, Picture, figure
from carpool.units import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from carpool.profile.llm_artefact import LlmProfile

PERCENT = 100.0
MOST_LINES = 4


def pictures(profile: LlmProfile) -> dict[str, Picture]:
    """Return all pictures that the profile has figures for, by the name of their file."""
    found = {
        "decode": ("Sequences that get a token each", [*_throughput(profile), *_context(profile)]),
        "prefill": ("Prompts, and what limits a step", [*_prefill(profile), *_limits(profile)]),
    }
    return {name: figure(panels, title=title) for name, (title, panels) in found.items() if panels}


def _throughput(profile: LlmProfile) -> Iterator[Panel]:
    """Draw the rate over the number of sequences, a line a context."""
    cost, series = profile.step_cost, list[LineSeries]()
    for tone, context in enumerate(thinned(sorted({point.context for point in profile.decodes}), MOST_LINES)):
        points = [point for point in profile.decodes if point.context == context]
        if len(points) >= POINTS_TO_DRAW:
            sizes = [point.batch_size for point in points]
            series.append(measured_rates(f"{context} tokens in the cache", sizes, points, sizes, tone))
            if cost is not None:
                x = close_together(min(sizes), max(sizes))
                rates = [cost.decode_rate(size, context) for size in x]
                series.append(LineSeries(label="", x=x, y=rates, tone=tone))
    if series:
        yield Panel(
            title=_throughput_title(profile),
            x_label="sequences",
            y_label="tokens/s",
            series=tuple(series),
            marks=_marks(profile),
            x_scale="log2",
        )


def _throughput_title(profile: LlmProfile) -> str:
    if not profile.trust.times_sure:
        return "Throughput: do not trust it"
    cost = profile.step_cost
    if cost is None or not profile.trust.trusted:
        return "Throughput as sequences are added"
    knee, most = cost.knee(profile.typical_context), cost.most_sequences(profile.typical_context)
    return f"Throughput levels off at about {knee}" if knee < 0.9 * most else f"Throughput still grows at {most}"


def _marks(profile: LlmProfile) -> tuple[Mark, ...]:
    cost = profile.step_cost
    if cost is None or not profile.trust.trusted:
        return ()
    context = profile.typical_context
    return (Mark(cost.knee(context), f"knee ~{cost.knee(context)} at {counted(context, 'token')}"),)


def _context(profile: LlmProfile) -> Iterator[Panel]:
    """Draw a step's time over the context, a line a number of sequences."""
    cost, series = profile.step_cost, list[LineSeries]()
    for tone, size in enumerate(thinned(sorted({point.batch_size for point in profile.decodes}), MOST_LINES)):
        points = [point for point in profile.decodes if point.batch_size == size]
        if len(points) < POINTS_TO_DRAW:
            continue
        contexts = [point.context for point in points]
        series.append(measured_times(counted(size, "sequence"), contexts, points, tone))
        if cost is not None:
            x = close_together(min(contexts), max(contexts))
            times = [cost.line_s(decode_work(size, context)) * MS for context in x]
            series.append(LineSeries(label="", x=x, y=times, tone=tone))
    if series:
        yield Panel(
            title="A step's time as the context grows (lines: the fit)",
            x_label="tokens in the cache of each",
            y_label="ms",
            series=tuple(series),
            x_scale="log2",
        )


def _prefill(profile: LlmProfile) -> Iterator[Panel]:
    """Draw how fast prompts are read over the size of a piece, a line for what lies before it."""
    cost, series = profile.step_cost, list[LineSeries]()
    for tone, start in enumerate(sorted({point.start for point in profile.prefills})):
        points = [point for point in profile.prefills if point.start == start]
        if len(points) >= POINTS_TO_DRAW:
            chunks = [point.chunk for point in points]
            label = f"after {counted(start, 'token')}" if start else "from the beginning"
            series.append(measured_rates(label, chunks, points, chunks, tone))
            if cost is not None:
                x = close_together(min(chunks), max(chunks))
                rates = [chunk / cost.line_s(prefill_work(chunk, start)) for chunk in x]
                series.append(LineSeries(label="", x=x, y=rates, tone=tone))
    if series:
        yield Panel(
            title=_prefill_title(profile),
            x_label="tokens in a piece",
            y_label="tokens/s",
            series=tuple(series),
            x_scale="log2",
        )


def _prefill_title(profile: LlmProfile) -> str:
    fresh = [point for point in profile.prefills if not point.start]
    best = max(fresh, key=lambda point: point.tokens_per_s, default=None)
    if best is None or not profile.trust.times_sure:
        return "How fast prompts are read"
    if best.chunk == max(point.chunk for point in fresh):
        return "Prompts are read faster in larger pieces"
    return f"Prompts are read fastest in pieces of about {best.chunk}"


def _limits(profile: LlmProfile) -> Iterator[Panel]:
    """Draw where the time of a step goes over the number of sequences, at the typical context."""
    sizes = sorted({point.batch_size for point in profile.decodes})
    context = profile.typical_context
    if len(sizes) < POINTS_TO_DRAW or profile.step_cost is None:
        return
    between = close_together(min(sizes), max(sizes))
    parts = [part for size in between if (part := parts_of(profile, decode_work(size, context))) is not None]
    shares = {
        "reading the weights": [part.share("weights") for part in parts],
        "the same in every step": [part.share("overhead") for part in parts],
        "arithmetic of its tokens": [part.share("compute") for part in parts],
        "keys and values": [part.share("KV") for part in parts],
    }
    yield Panel(
        title=f"Where a step's time goes, {counted(context, 'token')} in the cache of each",
        x_label="sequences",
        y_label="% of the step, by the fit",
        series=tuple(
            LineSeries(label=label, x=between, y=[PERCENT * share for share in values])
            for label, values in shares.items()
        ),
        x_scale="log2",
    )
