"""What a plan means, in plain sentences with the numbers, and what makes it less sure than it looks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from carpool.plan.binding import Belongs, Binding
from carpool.plan.candidates import Candidates
from carpool.plan.nearest import Nearest
from carpool.plan.race import SMALL_LATENCY, SMALL_SHARE
from carpool.plan.search import SearchResult
from carpool.plan.slo import Gap
from carpool.plan.what_if import WhatIfRow, row_of
from carpool.plan.words import among, changed, describe_setup
from carpool.units import capitalised, counted, format_count, format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from carpool.core.policy import Policy
    from carpool.plan.predict import Prediction
    from carpool.plan.search import Tried
    from carpool.plan.simulate import Run

# A setup that is as good and carries so much more is worth naming.
_MORE_ROOM = 0.1
# From here on these are worth a doubt.
_DRIFT, _ERROR_PCT, _OUTSIDE, _OFTEN_FULL = 0.05, 10.0, 0.01, 0.75


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What sentences are made of: the parts of a plan."""

    rate: float
    result: SearchResult
    candidates: Candidates
    gaps: Sequence[Gap]
    nearest: Nearest | None
    binding: Sequence[Binding]
    belongs: Belongs
    what_if: Sequence[WhatIfRow]
    price_per_hour: float | None


def sentences_about(story: Story) -> Iterator[str]:
    """Say what to do and why, the most important first."""
    if story.nearest is not None:
        yield from story.nearest.sentences
    yield _what_to_serve_with(story)
    said = [bound.why for bound in story.binding]
    yield from (gap.sentence for gap in story.gaps if gap.sentence not in said)
    yield f"Batching {'belongs' if story.belongs.answer else 'does not belong'} here. {story.belongs.why}"
    for number, bound in enumerate(story.binding):
        lead = "After that it is" if number else "What binds now is"
        yield f"{lead} {_limits(bound.limit)}. {bound.why} {bound.remedy}"
    yield from _why_so_many_workers(story)
    yield from _knobs(story.result, story.what_if)
    yield from _more_room(story)
    yield from _price(story)


def _limits(limit: str) -> str:
    return {"arrivals": "what arrives", "objective": "the objective"}.get(limit, limit)


def _what_to_serve_with(story: Story) -> str:
    found = story.result.prediction
    arrive = f"{format_count(found.offered.value)} items/s that arrive"
    if format_count(found.offered.value) != format_count(story.rate):
        arrive += f" ({format_count(story.rate)} asked)"
    answered = f"{among(found.throughput, format_count)} of {arrive} are answered"
    if story.nearest is not None and found.objectives:
        answered = f"{among(found.goodput, format_count)} items/s in time; {answered}"
    verb = "The best goodput comes from" if story.nearest is not None else "Serve with"
    batch = f"; batches hold {found.mean_batch_size.value:.2g} items on average" * (
        story.result.chosen.policy.max_batch_size > 1
    )
    return (
        f"{verb} {describe_setup(story.result.chosen)}: {answered}, mean latency "
        f"{among(found.mean_s, format_duration)}, workers busy {found.utilisation.value:.0%} of the time{batch}."
    )


def _why_so_many_workers(story: Story) -> Iterator[str]:
    """Say what one worker fewer would have meant."""
    chosen = story.result.chosen
    fewer = counted(chosen.num_workers - 1, "worker")
    if chosen.num_workers == 1:
        return
    tried = [one for one in story.result.tried if one.setup.num_workers == chosen.num_workers - 1]
    best = min(tried, key=lambda one: (-one.prediction.attainment.value, _latency(one)[1]), default=None)
    if best is None:
        sizes = story.candidates.sizes()
        most = story.candidates.capacity(story.candidates.of_size(sizes[-1], chosen.num_workers - 1))
        yield f"{fewer.capitalize()} could carry about {format_count(most)} items/s at most, with full batches."
    else:
        name, latency_s = _latency(best)
        yield f"On {fewer} {name} would be about {format_duration(latency_s)} at best ({describe_setup(best.setup)})."


# ------------------------------------------------------------------------------------------------------ knobs


def _without(policy: Policy, knob: str) -> Policy:
    """Return the policy with one knob left alone."""
    if knob == "waiting for company":
        return replace(policy, max_wait_s=0.0)
    if knob == "a token budget":
        return replace(policy, token_budget=None)
    return replace(policy, length_buckets=())


def _knobs(result: SearchResult, rows: Sequence[WhatIfRow]) -> Iterator[str]:
    """Say for each knob beside the batch size what it buys, or that the best of it buys nothing.

    What has a row in the table of choices is told from there, and what has none from the short windows of the search.
    """
    chosen = result.tried[0]
    for knob in ("waiting for company", "a token budget", "coarser padding"):
        name = capitalised(knob)
        pairs = [pair for pair in _pairs(result, knob) if pair[0].setup.num_workers == chosen.setup.num_workers]
        own = next((without for turned, without in pairs if turned is chosen), None)
        if own is not None:
            now, other, where = _same_windows(chosen, own, rows)
            yield f"{name} pays here: without it {where}{_beside(now, other)}."
        elif pairs and _without(chosen.setup.policy, knob) == chosen.setup.policy:
            in_table = [pair for pair in pairs if all(row_of(rows, one.setup) for one in pair)]
            turned, without = min(in_table or pairs, key=_rank)
            now, other, where = _same_windows(without, turned, rows)
            helps = _latency_of(other)[1] < (1 - SMALL_LATENCY) * _latency_of(now)[1]
            words = "can't be told from luck" if helps else "does not pay"
            yield f"{name} {words}: {where}{_beside(now, other)} ({describe_setup(turned.setup)})."


def _rank(pair: tuple[Tried, Tried]) -> tuple[float, float]:
    turned, _ = pair
    return -turned.prediction.attainment.value, _latency(turned)[1]


def _same_windows(one: Tried, other: Tried, rows: Sequence[WhatIfRow]) -> tuple[Prediction, Prediction, str]:
    """Return two setups' predictions from the table where it has both, else from short windows, and a word on that."""
    found, beside = row_of(rows, one.setup), row_of(rows, other.setup)
    if found is not None and beside is not None and found.stable and beside.stable:
        return found, beside, ""
    return one.prediction, other.prediction, "in short windows "


def _pairs(result: SearchResult, knob: str) -> Iterator[tuple[Tried, Tried]]:
    """Give every setup that turns a knob, and the same without it."""
    for turned in result.tried:
        policy = _without(turned.setup.policy, knob)
        if policy != turned.setup.policy:
            plain = replace(turned.setup, policy=policy)
            yield from ((turned, other) for other in result.tried if other.setup == plain)


def _beside(now: Prediction, other: Prediction) -> str:
    """Hold a setup against the one now: by what it answers in time where that differs, else by its latency."""
    more = other.attainment.value - now.attainment.value
    if abs(more) >= SMALL_SHARE:
        word = "more" if more > 0 else "less"
        return f"{abs(more):.1%} {word} of what arrives would be answered in time"
    (name, now_s), (_, other_s) = _latency_of(now), _latency_of(other)
    return f"{name} would be {changed(now_s, other_s)}"


def _latency(tried: Tried) -> tuple[str, float]:
    return _latency_of(tried.prediction)


def _latency_of(found: Prediction) -> tuple[str, float]:
    """Return the latency that objectives are about: that of the strictest percentile, or the mean."""
    if not found.objectives:
        return "the mean latency", found.mean_s.value
    return f"p{found.objectives[-1].quantile * 100:g}", found.at_objectives_s[-1].value


def _more_room(story: Story) -> Iterator[str]:
    """Name a larger batch size that is as good at this load and would carry more."""
    chosen = story.result.chosen
    now = story.candidates.capacity(chosen)
    ties = [one for one in story.result.tried if one.tie and _differs_in_size(one, chosen.policy.max_batch_size)]
    best = max(ties, key=lambda one: story.candidates.capacity(one.setup), default=None)
    if best is None:
        return
    most = story.candidates.capacity(best.setup)
    if most > (1 + _MORE_ROOM) * now:
        yield (
            f"{describe_setup(best.setup).capitalize()}, are as good at this load; full, they would carry "
            f"{format_count(most)} instead of {format_count(now)} items/s."
        )


def _differs_in_size(tried: Tried, size: int) -> bool:
    policy = tried.setup.policy
    return policy.max_batch_size > size and not policy.max_wait_s and policy.token_budget is None


def _price(story: Story) -> Iterator[str]:
    row = next((row for row in story.what_if if row.chosen and row.cost_per_million is not None), None)
    if row is not None and row.cost_per_million is not None and story.price_per_hour is not None:
        cost = among(row.cost_per_million, lambda value: f"{value:.3g}")
        yield f"A million answered items cost {cost} at {story.price_per_hour:g} an hour for each worker."


# ----------------------------------------------------------------------------------------------------- doubts


def doubts_about(candidates: Candidates, result: SearchResult, sample: Run, clipped: str) -> Iterator[str]:
    """Say what the intervals do not cover.

    Args:
        candidates: The measured model, and what sizes it allows.
        result: What the search found.
        sample: One simulated window of the chosen setup.
        clipped: What was cut of the workload's lengths; empty for nothing.
    """
    subject, cost = candidates.subject, candidates.subject.cost
    if clipped:
        yield clipped
    outside = _share_outside(candidates, sample)
    if outside >= _OUTSIDE:
        yield (
            f"{outside:.0%} of the simulated batches are larger or longer than any that was measured (up to "
            f"{cost.lengths[-1]} tokens, and {candidates.measured(candidates.longest)} items at the longest): their "
            "times are prolonged straight on. Profile such shapes to be sure."
        )
    asked, measured = candidates.max_batch_size, candidates.measured(candidates.typical)
    if asked is not None and asked > measured:
        yield f"Batches of up to {asked} were allowed, but none above {measured} was measured, so none was tried."
    chosen_size = result.chosen.policy.max_batch_size
    often_full = result.prediction.fill_ratio.value >= _OFTEN_FULL
    if 1 < chosen_size == measured and often_full and candidates.still_gains:
        at = f" at {candidates.typical} tokens" if candidates.typical > 1 else ""
        yield (
            f"Batches are often as large as any that was measured{at} ({measured}), and larger ones might do better: "
            f"profile again with a longer --budget, and --batch-sizes that reach {2 * measured}, to know."
        )
    if not subject.call_spread:
        yield "How single calls scatter is not in the profile, so tails are predicted too short: profile again."
    if abs(subject.drift) > _DRIFT:
        word = "slower" if subject.drift > 0 else "faster"
        yield f"The machine became {abs(subject.drift):.0%} {word} while it was profiled; intervals include that."
    if cost.error_pct > _ERROR_PCT:
        yield (
            f"The cost model is off by {cost.error_pct:.0f} % at the median where it was tested: profile with a longer "
            "budget for narrower intervals."
        )
    if result.chosen.num_workers > 1:
        yield (
            f"The {result.chosen.num_workers} workers are taken to be as fast together as one alone: give each its own "
            "device or cores, as the one that was measured had."
        )


def _share_outside(candidates: Candidates, sample: Run) -> float:
    """Return the share of batches beyond the measured range."""
    if not len(sample.sizes):
        return 0.0
    most = {length: candidates.measured(length) for length in np.unique(sample.padded_lengths).tolist()}
    longest = candidates.subject.cost.lengths[-1]
    allowed = np.array([most[length] if length <= longest else 0 for length in sample.padded_lengths.tolist()])
    return float((sample.sizes > allowed).mean())
