"""What the profile of a model that generates means, in plain sentences with the numbers."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from carpool.cost.step_cost import decode_work
from carpool.profile.llm_limits import parts_of
from carpool.profile.sentences import disturbances, whether_to_believe
from carpool.profile.wording import listed, times
from carpool.units import capitalised, counted, format_bytes, format_count, format_duration, format_durations

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from carpool.profile.llm_artefact import LlmProfile, StepPoint
    from carpool.profile.llm_limits import LimitKind

REMEDIES: Mapping[LimitKind, str] = MappingProxyType(
    {
        "weights": "more sequences share the reading of the weights; a narrower dtype reads fewer bytes",
        "overhead": "more sequences share it, and fewer, larger operations in the model lower it",
        "compute": "more sequences no longer help much; a narrower dtype or more hardware does",
        "KV": "shorter contexts, fewer key and value heads or a narrower cache do; more sequences do not",
    }
)
PARTS: Mapping[LimitKind, str] = MappingProxyType(
    {
        "weights": "reading the weights",
        "overhead": "what each step costs besides",
        "compute": "arithmetic of its tokens",
        "KV": "keys and values",
    }
)


def sentences_about(profile: LlmProfile) -> Iterator[str]:
    """Say what was found, the most important first: above all whether to believe it."""
    yield from whether_to_believe(profile)
    yield from _gain(profile)
    yield from _knee(profile)
    yield from _delay(profile)
    yield from _limits(profile)
    yield from _prefill(profile)
    yield from _memory(profile)
    yield from _fit(profile)
    yield from _rehearsal(profile)
    if profile.trust.times_sure:
        yield from disturbances(profile)
    yield from _skipped(profile)


def _at(profile: LlmProfile, context: int) -> list[StepPoint]:
    return [point for point in profile.decodes if point.context == context]


def _gain(profile: LlmProfile) -> Iterator[str]:
    """Say what many sequences at a time gain beside one."""
    points = _at(profile, profile.typical_context)
    best = max(points, key=lambda point: point.tokens_per_s, default=None)
    single = next((point for point in points if point.batch_size == 1), None)
    if best is None or single is None or best is single:
        return
    alone, together = format_durations(single.time_s, best.time_s)
    yield (
        f"With {counted(profile.typical_context, 'token')} each in the cache one sequence gets "
        f"{format_count(single.tokens_per_s)} tokens a second, and {best.batch_size} together "
        f"{format_count(best.tokens_per_s)}, {times(best.tokens_per_s / single.tokens_per_s)} times as many; each then "
        f"has a token every {together} instead of every {alone}."
    )


def _knee(profile: LlmProfile) -> Iterator[str]:
    """Say from where on more sequences gain little, by the fit."""
    cost = profile.step_cost
    if cost is None or not profile.trust.trusted or not profile.decodes:
        return
    context = profile.typical_context
    knee, most = cost.knee(context), max(point.batch_size for point in _at(profile, context))
    if knee < most:
        yield (
            f"The knee is at about {counted(knee, 'sequence')} of {context} tokens: more gain less than a twentieth, "
            f"up to the {most} that were measured."
        )
    if knee >= 0.9 * most:
        yield f"At {most} sequences throughput still grows: measure more --batch-sizes to see where it ends."


def _delay(profile: LlmProfile) -> Iterator[str]:
    """Say how much later others' tokens come when a piece of a prompt runs beside them."""
    alone_s = {(point.batch_size, point.context): point.time_s for point in profile.decodes}
    known = [point for point in profile.mixed if (point.batch_size, point.context) in alone_s]
    if not known:
        return
    batch_size = max(point.batch_size for point in known)
    parts = []
    for point in (one for one in known if one.batch_size == batch_size):
        before_s = alone_s[point.batch_size, point.context]
        parts.append(f"by {format_duration(max(0.0, point.time_s - before_s))} with {point.chunk} tokens")
    before_s = alone_s[batch_size, known[-1].context]
    yield (
        f"A piece of a prompt delays the tokens of those beside it: of {counted(batch_size, 'sequence')}, whose step "
        f"takes {format_duration(before_s)} alone, {listed(parts)} of a prompt in it."
    )


def _limits(profile: LlmProfile) -> Iterator[str]:
    """Name what limits one sequence, and the most that were measured with the most in the cache."""
    if not profile.trust.times_sure or not profile.decodes:
        return
    largest = max(profile.decodes, key=lambda point: (point.work.kv_read, point.batch_size))
    for batch_size, context in dict.fromkeys([(1, profile.typical_context), (largest.batch_size, largest.context)]):
        parts = parts_of(profile, decode_work(batch_size, context))
        if parts is None or not parts.total_s:
            return
        shares = ", ".join(f"{name} {parts.share(kind):.0%}" for kind, name in PARTS.items())
        yield (
            f"What limits {counted(batch_size, 'sequence')} at {context} tokens: {parts.limit} ({shares}); "
            f"{REMEDIES[parts.limit]}."
        )


def _prefill(profile: LlmProfile) -> Iterator[str]:
    """Say how fast prompts are read, and in pieces of what size."""
    fresh = [point for point in profile.prefills if not point.start]
    best = max(fresh, key=lambda point: point.tokens_per_s, default=None)
    if best is None:
        return
    others = ", ".join(f"{format_count(point.tokens_per_s)} at {point.chunk}" for point in fresh if point is not best)
    beside = f" ({others})" if others else ""
    yield (
        f"Prompts are read fastest in pieces of {best.chunk} of those measured: {format_count(best.tokens_per_s)} "
        f"tokens a second{beside}."
    )


def _memory(profile: LlmProfile) -> Iterator[str]:
    """Say what the cache holds."""
    memory, context = profile.memory, profile.typical_context
    tokens, served = profile.num_blocks * memory.block_size, format_bytes(profile.num_blocks * memory.block_bytes)
    yield (
        f"Weights take {format_bytes(memory.weights_bytes)}, keys and values {format_bytes(memory.token_bytes)} a "
        f"token: the {served} that a server would have here hold {tokens:,} tokens, "
        f"{counted(tokens // max(1, context), 'sequence')} of {context}."
    )


def _fit(profile: LlmProfile) -> Iterator[str]:
    cost = profile.step_cost
    if cost is not None:
        yield (
            f"The fit is off by {cost.error_pct:.1f} % at the median on steps that it had not seen, by "
            f"{cost.worst_error_pct:.0f} % at worst."
        )


def _rehearsal(profile: LlmProfile) -> Iterator[str]:
    found = profile.rehearsal
    if found is None:
        return
    yield (
        f"The scheduler and the model together gave {counted(found.num_requests, 'request')} "
        f"{format_count(found.output_tokens_per_s)} tokens a second ({found.prompt_tokens:,} tokens of prompts read, "
        f"{found.output_tokens:,} generated in {counted(found.num_steps, 'step')}): the fit predicts "
        f"{abs(found.error_pct):.0f} % {'more' if found.error_pct > 0 else 'less'} time in the model, and each step "
        f"takes {format_duration(found.host_s)} besides."
    )


def _skipped(profile: LlmProfile) -> Iterator[str]:
    kinds = {"budget": "for want of time", "memory": "for want of memory", "error": "because the model failed"}
    for kind, words in kinds.items():
        steps = [one for one in profile.skipped if one.kind == kind]
        if steps:
            shown = listed([one.step for one in steps[:3]])
            more = f" and {len(steps) - 3} more" if len(steps) > 3 else ""  # noqa: PLR2004 - three are shown
            yield f"Not measured {words}: {shown}{more}. {capitalised(steps[0].reason)}."
