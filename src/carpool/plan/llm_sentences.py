"""What a plan for a model that generates means, in plain sentences with the numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from carpool.core.step import StepWork
from carpool.plan.llm_figures import LlmObjective
from carpool.plan.llm_predict import LlmPrediction, LlmSubject
from carpool.plan.llm_setup import LlmSetup
from carpool.plan.llm_what_if import LlmFrontierPoint, LlmRow
from carpool.plan.slo import Verdict, kept, verdict_of
from carpool.plan.words import among, changed
from carpool.units import format_bytes, format_count, format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from carpool.plan.llm_simulate import LlmRun

_SMALL_SHARE = 0.005
_FULL = 0.9  # of the KV cache: from there on it is what limits


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmStory:
    """All that sentences are made of.

    Args:
        subject: The measured model.
        rate: Requests a second.
        objectives: What was promised.
        chosen: How to serve.
        prediction: What that will do.
        what_if: The same load served in other ways.
        frontier: Times over the load.
        enough_blocks: The fewest blocks, by halves, that do as well.
    """

    subject: LlmSubject
    rate: float
    objectives: tuple[LlmObjective, ...]
    chosen: LlmSetup
    prediction: LlmPrediction
    what_if: tuple[LlmRow, ...]
    frontier: tuple[LlmFrontierPoint, ...]
    enough_blocks: int


def sentences_about(story: LlmStory) -> Iterator[str]:
    """Say what to do and what that will do, the most important first."""
    found = story.prediction
    yield f"Serve with {story.chosen.describe()}."
    yield from _answers(found)
    yield from _kept(story)
    yield from _missed(story)
    yield from _batching(story)
    yield from _parts(story)
    yield from _memory(story)
    yield from _more(story)
    yield from _room(story)


def _answers(found: LlmPrediction) -> Iterator[str]:
    if not found.stable:
        yield (
            f"More arrives than that can serve: of {format_count(found.offered.value)} requests a second "
            f"{format_count(found.throughput.value)} are answered, and the rest wait ever longer."
        )
        return
    first, first_late, each, each_late = (
        among(value, format_duration)
        for value in (found.ttft_p50_s, found.ttft_p99_s, found.tpot_p50_s, found.tpot_p99_s)
    )
    yield (
        f"The first token comes after {first} at the median and {first_late} at p99, and then one every {each} at the "
        f"median and {each_late} at p99; {among(found.output_rate, format_count)} tokens a second in all."
    )


def _kept(story: LlmStory) -> Iterator[str]:
    """Say of each objective whether it is kept."""
    found = story.prediction
    words = {Verdict.MET: "is kept", Verdict.LIKELY: "is kept more often than not", Verdict.MISSED: "is not kept"}
    for objective, share in zip(found.objectives, found.shares_within, strict=True):
        verdict = kept(share, objective.quantile) if found.stable else Verdict.MISSED
        shares = among(share, lambda value: f"{value:.1%}")
        yield f"{objective} {words[verdict]}: {shares} of the requests are within it."


def _missed(story: LlmStory) -> Iterator[str]:
    """Where the objectives are not kept: what would keep them, or at what load they are."""
    if verdict_of(story.prediction) is not Verdict.MISSED:
        return
    others = [row for row in story.what_if if not row.chosen]
    helping = [row.name for row in others if row.prediction and verdict_of(row.prediction) is not Verdict.MISSED]
    if helping:
        yield f"What would keep them: {', or '.join(helping)}."
    carried = [
        point.rate
        for point in story.frontier
        if point.label == "the plan" and verdict_of(point.prediction) is not Verdict.MISSED
    ]
    if carried and max(carried) < story.rate:
        yield f"This setup keeps them up to about {format_count(max(carried))} requests a second."
    elif not carried and not helping:
        yield "No load that was looked at keeps them: allow more time, or measure a faster device."


def _row(story: LlmStory, name: str) -> LlmPrediction | None:
    return next((row.prediction for row in story.what_if if row.name == name), None)


def _chosen(story: LlmStory) -> LlmPrediction | None:
    """Return what the plan does in the windows that every row was simulated in."""
    return next((row.prediction for row in story.what_if if row.chosen), None)


def _batching(story: LlmStory) -> Iterator[str]:
    """Say what batching gains, and what continuous batching gains over static."""
    plan = _chosen(story)
    if plan is None:
        return
    for name in ("no batching", "static batching"):
        other = _row(story, name)
        if other is None or not other.stable:
            answered = "nothing" if other is None else f"{format_count(other.throughput.value)} requests a second"
            yield f"{name.capitalize()} cannot carry this load: {answered} would be answered."
        else:
            yield (
                f"With {name} the first token would come after {format_duration(other.ttft_p50_s.value)} at the median "
                f"and {format_duration(other.ttft_p99_s.value)} at p99, where the plan has "
                f"{format_duration(plan.ttft_p50_s.value)} and {format_duration(plan.ttft_p99_s.value)}."
            )


def _parts(story: LlmStory) -> Iterator[str]:
    """Say what pieces of prompts and the prefix cache change."""
    whole, pieces = _row(story, "continuous batching"), _row(story, "and prompts in pieces")
    cached = _row(story, "and prefix caching")
    if whole is not None and pieces is not None and whole.stable and pieces.stable:
        gap = changed(whole.itl_p99_s.value, pieces.itl_p99_s.value)
        first = changed(whole.ttft_p99_s.value, pieces.ttft_p99_s.value)
        yield (
            f"Prompts in pieces, rather than whole: the p99 of the time between two tokens is {gap} "
            f"({format_duration(pieces.itl_p99_s.value)}), that of the time to the first {first} "
            f"({format_duration(pieces.ttft_p99_s.value)})."
        )
    if cached is not None and pieces is not None and cached.prefix_hits.value > _SMALL_SHARE:
        first = changed(pieces.ttft_p50_s.value, cached.ttft_p50_s.value)
        yield (
            f"The prefix cache spares {cached.prefix_hits.value:.0%} of the prompts' tokens: the median time to the "
            f"first token is {first}."
        )
    elif cached is not None:
        yield "Prompts of this load have nothing in common, so the prefix cache changes nothing."


def _memory(story: LlmStory) -> Iterator[str]:
    """Say what the load holds of the KV cache, and how little would do."""
    found, memory, blocks = story.prediction, story.subject.memory, story.chosen.num_blocks
    size = format_bytes(blocks * memory.block_bytes)
    yield (
        f"Of the KV cache of {size} {found.kv_usage.value:.0%} are held on average and {found.kv_peak.value:.0%} at "
        f"most; {_preempted(found)}."
    )
    if story.enough_blocks < blocks:
        enough = format_bytes(story.enough_blocks * memory.block_bytes)
        tokens = story.enough_blocks * memory.block_size
        yield f"{enough} of it ({tokens:,} tokens) would do as well where memory is short; the rest is for a surge."


def _preempted(found: LlmPrediction) -> str:
    if found.preemptions.value <= 0:
        return "nothing is computed twice"
    return f"{format_count(found.preemptions.value * 100)} in 100 requests are computed anew for want of it"


def _more(story: LlmStory) -> Iterator[str]:
    """Say what more hardware would change, where it changes anything."""
    plan = _chosen(story)
    for row in story.what_if:
        if plan is None or row.prediction is None or "worker" not in row.name:
            continue
        first = changed(plan.ttft_p99_s.value, row.prediction.ttft_p99_s.value)
        each = changed(plan.tpot_p50_s.value, row.prediction.tpot_p50_s.value)
        yield f"With {row.name} the p99 of the time to the first token is {first}, the median time a token {each}."


def _room(story: LlmStory) -> Iterator[str]:
    """Say how much more load the plan carries, and what limits it."""
    found = story.prediction
    stable = [point.rate for point in story.frontier if point.label == "the plan" and point.prediction.stable]
    if found.stable and stable and max(stable) > story.rate:
        yield f"It carries up to about {format_count(max(stable))} requests a second before its queue has no end."
    slots = story.chosen.policy.num_slots
    if found.kv_peak.value >= _FULL and found.preemptions.value > 0:
        yield "Memory for keys and values is what binds: more of it, or fewer slots, come first."
    elif found.mean_batch.value >= _FULL * slots:
        yield f"All {slots} slots are busy nearly always: requests wait for a slot."


def doubts_about(story: LlmStory, sample: LlmRun, share_cut: float) -> Iterator[str]:
    """Say what makes the figures less sure than their intervals say.

    Args:
        story: The plan.
        sample: One of its windows.
        share_cut: Share of what arrives that was cut to what the model takes.
    """
    if share_cut > 0:
        yield (
            f"The model takes at most {story.subject.max_length:,} tokens: {100 * share_cut:.2g} % of the requests are "
            "longer, and were cut to that."
        )
    most = story.subject.cost.most
    tokens, sequences = sample.num_tokens, sample.num_sequences
    beyond = float(np.mean((tokens > most.num_tokens) | (sequences > most.num_sequences))) if len(tokens) else 0.0
    if beyond > _SMALL_SHARE:
        work = StepWork(int(tokens.max()), int(sequences.max()), 0, 0, 0.0)
        yield (
            f"{beyond:.0%} of the steps are beyond what was measured ({most.beyond(work)}): there the fit is "
            "prolonged. Profile with larger --batch-sizes or --chunks."
        )
    if story.chosen.num_workers > 1:
        yield (
            f"One worker was measured: that {story.chosen.num_workers} run as fast beside each other is an assumption, "
            "and so is that requests go to them in turn."
        )
    yield "Answers are taken to be chosen greedily: sampling, constraints and their checks take time of their own."
